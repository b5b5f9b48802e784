# SPDX-License-Identifier: Apache-2.0
"""Drawings of slices: the scan with the label, the prediction and the uncertainty map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

# Okabe and Ito's colours, which readers with any common colour blindness tell apart, brightest on grey first
CLASS_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2")
# lets a white line be seen on bright tissue and on the page
DARK_EDGE = (withStroke(linewidth=1.4, foreground="black"),)
UNCERTAINTY_COLOURS, UNCERTAINTY_RANGE = "magma", Normalize(0, 1)
PANEL_INCHES = 2.2


def slices_to_show(label: np.ndarray | None, prediction: np.ndarray) -> list[int]:
    """Give three axial slices, superior first: of largest foreground area, at 1/4 and at 3/4 of its extent.

    Args:
        label: class indices (X, Y, Z), 0 is background; the prediction decides where it is `None` or empty.
        prediction: class indices (X, Y, Z); where it is empty too, the whole depth counts as foreground.

    Returns:
        Distinct indices along Z, fewer than three where the foreground is thinner.
    """
    return sorted({largest_slice(label, prediction), *_quarter_slices(label, prediction)}, reverse=True)


def largest_slice(label: np.ndarray | None, prediction: np.ndarray) -> int:
    """Give the axial slice of largest foreground area of the label, else of the prediction, else the middle one."""
    areas = _areas(label, prediction)
    candidates = np.flatnonzero(areas == areas.max())
    return int(candidates[len(candidates) // 2])


def _quarter_slices(label: np.ndarray | None, prediction: np.ndarray) -> list[int]:
    occupied = np.flatnonzero(_areas(label, prediction))
    extent = occupied[-1] - occupied[0]
    return [int(round(occupied[0] + fraction * extent)) for fraction in (0.25, 0.75)]


def _areas(label: np.ndarray | None, prediction: np.ndarray) -> np.ndarray:
    for mask in (label, prediction):
        if mask is not None and np.any(mask > 0):
            return np.count_nonzero(mask > 0, axis=(0, 1))
    return np.ones(prediction.shape[2])


def slice_figure(
    image: np.ndarray,
    label: np.ndarray | None,
    prediction: np.ndarray,
    uncertainty: np.ndarray | None = None,
    title: str = "",
    class_names: Sequence[str] = (),
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> Figure:
    """Draw three axial slices of one case: scan, label, prediction with the label's outline, and uncertainty.

    Anterior is up and the patient's left is on the image's right. The grey window spans the 1st to 99th percentile of
    the whole scan.

    Args:
        image: intensities (X, Y, Z) on a grid whose axes point right, anterior and superior (RAS).
        label: class indices (X, Y, Z), or `None` to leave its column out.
        prediction: class indices (X, Y, Z).
        uncertainty: values in [0, 1] of shape (X, Y, Z), or `None` to leave its column out.
        title: name of the case.
        class_names: name of each class in the order of its index, background first; else `class <index>`.
        spacing: voxel size along X, Y and Z in mm.

    Raises:
        ValueError: When the arrays are not 3-D or their shapes differ.
    """
    volumes = {"image": image, "label": label, "prediction": prediction, "uncertainty": uncertainty}
    case = _prepare({**volumes, "spacing": spacing})
    chosen = slices_to_show(label, prediction)
    rows = [(case, index, f"slice {index + 1} of {prediction.shape[2]}") for index in chosen]
    return _draw(rows, title, class_names)


def cases_figure(cases: Sequence[Mapping[str, Any]], title: str = "", class_names: Sequence[str] = ()) -> Figure:
    """Draw several cases on one page, each as a row with its slice of largest foreground area.

    Args:
        cases: mappings with the arguments `image`, `prediction` and, where there are such, `label`, `uncertainty`,
            `title` and `spacing` of `slice_figure`, as `on_label_grid` gives them.
        title: title of the page.
        class_names: name of each class in the order of its index, background first.

    Raises:
        ValueError: When there is no case, or as `slice_figure` does.
    """
    if len(cases) == 0:
        raise ValueError("There is no case to draw, give at least one.")
    prepared = [_prepare(case) for case in cases]
    rows = [(case, largest_slice(case["label"], case["prediction"]), case["title"]) for case in prepared]
    return _draw(rows, title, class_names)


def _prepare(case: Mapping[str, Any]) -> dict[str, Any]:
    """Check the shapes, fill in what is optional and find the grey window."""
    shape = np.shape(case["prediction"])
    for key in ("image", "label", "prediction", "uncertainty"):
        if case.get(key) is not None and (np.ndim(case[key]) != 3 or np.shape(case[key]) != shape):
            raise ValueError(f"{key} has shape {np.shape(case[key])}, prediction {shape}: give 3-D arrays on one grid.")
    optional = {"label": None, "uncertainty": None, "spacing": (1.0, 1.0, 1.0), "title": ""}
    return {**optional, **case, "window": np.percentile(case["image"], (1, 99))}


def _draw(rows: Sequence[tuple[Mapping[str, Any], int, str]], title: str, class_names: Sequence[str]) -> Figure:
    cases = [case for case, _, _ in rows]
    names = ("image", "label", "prediction", "uncertainty")
    columns = [name for name in names if any(case[name] is not None for case in cases)]
    heights = [_height_to_width(case) for case in cases]
    size = (PANEL_INCHES * len(columns) + 0.6, PANEL_INCHES * sum(heights) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    axes = figure.subplots(len(rows), len(columns), squeeze=False, gridspec_kw={"height_ratios": heights})
    for panel, name in zip(axes[0], columns, strict=True):
        panel.set_title("scan" if name == "image" else name, fontsize=10)
    for (case, index, row_name), row in zip(rows, axes, strict=True):
        row[0].set_ylabel(row_name, fontsize=8)
        for panel, name in zip(row, columns, strict=True):
            _draw_panel(panel, name, case, index)
    if "uncertainty" in columns:
        scale = ScalarMappable(UNCERTAINTY_RANGE, UNCERTAINTY_COLOURS)
        bar = figure.colorbar(scale, ax=axes[:, -1], fraction=0.05, pad=0.02, ticks=(0, 0.5, 1))
        bar.ax.tick_params(labelsize=8, length=2)
    _add_legend(figure, list({id(case): case for case in cases}.values()), class_names)
    figure.suptitle(title, fontsize=12)
    return figure


def _draw_panel(panel: Axes, name: str, case: Mapping[str, Any], index: int) -> None:
    show = {"origin": "lower", "aspect": case["spacing"][1] / case["spacing"][0], "interpolation": "nearest"}
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
    if case[name] is None:
        return
    if name == "uncertainty":
        panel.imshow(_plane(case[name], index), cmap=UNCERTAINTY_COLOURS, norm=UNCERTAINTY_RANGE, **show)
        return
    low, high = case["window"]
    panel.imshow(_plane(case["image"], index), cmap="gray", vmin=low, vmax=high, **show)
    if name != "image":
        classes = _plane(case[name], index)
        panel.imshow(_overlay(classes), **show)
        for value in np.unique(classes[classes > 0]):
            panel.contour(classes == value, levels=[0.5], colors=[_colour(value)], linewidths=1)
    if name == "prediction" and case["label"] is not None:
        truth = _plane(case["label"], index)
        for value in np.unique(truth[truth > 0]):
            outline = panel.contour(truth == value, levels=[0.5], colors=["white"], linewidths=0.6)
            outline.set_path_effects(DARK_EDGE)


def _plane(volume: np.ndarray, index: int) -> np.ndarray:
    """Give an axial slice as rows from posterior to anterior, each from the patient's right to the left."""
    return volume[::-1, :, index].T


def _colour(value: float) -> str:
    return CLASS_COLOURS[(int(value) - 1) % len(CLASS_COLOURS)]


def _overlay(classes: np.ndarray) -> np.ndarray:
    colours = np.zeros((*classes.shape, 4))
    for value in np.unique(classes[classes > 0]):
        colours[classes == value] = (*to_rgb(_colour(value)), 0.35)
    return colours


def _height_to_width(case: Mapping[str, Any]) -> float:
    (width, height, _), spacing = np.shape(case["prediction"]), case["spacing"]
    return height * spacing[1] / (width * spacing[0])


def _add_legend(figure: Figure, cases: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> None:
    masks = [case[key] for case in cases for key in ("label", "prediction") if case[key] is not None]
    present = sorted({int(value) for mask in masks for value in np.unique(mask) if value > 0})
    names = {value: class_names[value] if value < len(class_names) else f"class {value}" for value in present}
    handles = [Patch(facecolor=_colour(value), label=name) for value, name in names.items()]
    if any(case["label"] is not None for case in cases):
        edge = {"color": "white", "linewidth": 0.6, "path_effects": DARK_EDGE}
        handles.append(Line2D([], [], label="outline of the label", **edge))
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(len(handles), 6), frameon=False, fontsize=9
        )
