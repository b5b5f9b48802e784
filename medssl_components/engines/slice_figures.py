# SPDX-License-Identifier: Apache-2.0
"""Figures of the first cases of an evaluation, as files and in TensorBoard."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from matplotlib.image import imsave
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, io_orientation
from scipy.ndimage import affine_transform

from ..data import stem
from .atomic_save import atomic_path
from .draw_slices import cases_figure, slice_figure

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["SliceFigures", "case_name", "cases_figure", "on_label_grid", "slice_figure"]

logger = logging.getLogger(__name__)


def on_label_grid(item: Mapping[str, Any], channel: int = 0) -> dict[str, Any]:
    """Bring one case of an evaluator's output onto the label's grid, turned to RAS, as arguments of `slice_figure`.

    Args:
        item: `image` (C, X, Y, Z), `pred` and optionally `label` and `uncertainty` (1, X, Y, Z); the image may have
            a grid of its own. Tensors without an `affine` count as having the identity.
        channel: channel of the image to show.

    Returns:
        `image`, `label`, `prediction` and `uncertainty` as arrays (X, Y, Z) or `None`, `title` and `spacing` in mm.
    """
    affine = _affine(item["pred"] if item.get("label") is None else item["label"])
    orientation = io_orientation(affine)
    prediction = _array(item["pred"])
    arrays = {
        "image": _resample(_array(item["image"], channel), _affine(item["image"]), prediction.shape, affine),
        "label": None if item.get("label") is None else _array(item["label"]),
        "prediction": prediction,
        "uncertainty": None if item.get("uncertainty") is None else _array(item["uncertainty"]),
    }
    turned = {key: None if array is None else apply_orientation(array, orientation) for key, array in arrays.items()}
    spacing = np.empty(3)
    spacing[orientation[:, 0].astype(int)] = voxel_sizes(affine)
    return {**turned, "title": case_name(item), "spacing": tuple(spacing.tolist())}


def case_name(item: Mapping[str, Any]) -> str:
    """Give the name of the case's label file, else of its image file, without extension, or nothing."""
    for key in ("label", "image"):
        file = getattr(item.get(key), "meta", {}).get("filename_or_obj")
        if file:
            return stem(str(file))
    return ""


def _array(tensor: torch.Tensor, channel: int = 0) -> np.ndarray:
    return torch.as_tensor(tensor)[channel].detach().cpu().float().numpy()


def _affine(tensor: torch.Tensor) -> np.ndarray:
    return torch.as_tensor(getattr(tensor, "affine", torch.eye(4))).double().cpu().numpy()


def _resample(image: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], target: np.ndarray) -> np.ndarray:
    """Interpolate linearly at the voxels of a target grid, with the darkest value outside of the image."""
    if image.shape == shape and np.allclose(affine, target, atol=1e-4):
        return image
    to_image = np.linalg.inv(affine) @ target
    # the outermost voxels reach beyond their centres, so the edge is repeated once
    padded, offset = np.pad(image, 1, mode="edge"), to_image[:3, 3] + 1
    # unlike resampling by a sampling grid, this function holds no coordinates of every voxel in memory
    return affine_transform(padded, to_image[:3, :3], offset, shape, order=1, cval=float(image.min()))


class SliceFigures:
    """Draw the first cases of an evaluation as PNG files and into TensorBoard.

    The files are `<output_dir>/<case>_epoch<NNN>.png` during a training and `<output_dir>/<case>.png` else. A case that
    cannot be drawn is left out with a warning; it never stops the run. Only the process of rank 0 draws.

    Args:
        output_dir: folder of the files, made when the first one is written.
        class_names: name of each class in the order of its index, background first.
        max_cases: number of cases to draw in each run of the evaluator.
        summary_writer: TensorBoard writer, a function that returns one, or the folder for one of its own; it is opened
            with the first figure. The step is the epoch.
        during_training: whether the evaluator runs inside a training, so that file names tell the epoch. An evaluator
            run by itself has epoch 1 too, so the handler cannot find out.
        channel: channel of the image to show.
        dots_per_inch: resolution of the files.

    Raises:
        ValueError: When `max_cases` is negative.
    """

    def __init__(
        self,
        output_dir: str | Path,
        class_names: Sequence[str],
        max_cases: int = 3,
        summary_writer: SummaryWriter | Callable[[], SummaryWriter] | str | Path | None = None,
        during_training: bool = True,
        channel: int = 0,
        dots_per_inch: int = 150,
    ) -> None:
        if max_cases < 0:
            raise ValueError(f"max_cases is {max_cases}, give 0 or more.")
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.max_cases = max_cases
        self.summary_writer = summary_writer
        self.during_training = during_training
        self.channel = channel
        self.dots_per_inch = dots_per_inch
        self._writer: SummaryWriter | None = None
        self._seen = 0

    def attach(self, engine: Engine) -> None:
        """Register the handler.

        Args:
            engine: an evaluator whose output is a list of cases, each as `on_label_grid` takes it.
        """
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._draw_cases)
        engine.add_event_handler(Events.COMPLETED, self._flush)

    def _start(self, engine: Engine) -> None:
        self._seen = 0

    def _draw_cases(self, engine: Engine) -> None:
        if self._seen >= self.max_cases or (dist.is_available() and dist.is_initialized() and dist.get_rank() > 0):
            return
        output = engine.state.output
        for item in output if isinstance(output, list) else [output]:
            if self._seen >= self.max_cases:
                return
            self._seen += 1
            name = f"case {self._seen}"
            try:
                name = case_name(item) or f"case{self._seen}"
                self._draw_case(item, name, engine.state.epoch)
            except Exception as error:  # a figure is not worth a training
                logger.warning("No figure of %s: %s: %s", name, type(error).__name__, error)

    def _draw_case(self, item: Mapping[str, Any], name: str, epoch: int) -> None:
        case = {**on_label_grid(item, self.channel), "title": name}
        figure = slice_figure(**case, class_names=self.class_names)
        suffix = f"_epoch{epoch:03d}" if self.during_training else ""
        figure.set_dpi(self.dots_per_inch)
        figure.canvas.draw()
        pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
        with atomic_path(self.output_dir / f"{name}{suffix}.png") as path:
            imsave(path, pixels, dpi=self.dots_per_inch)
        if self.summary_writer is not None:
            self._open_writer().add_image(f"cases/{name}", pixels, epoch, dataformats="HWC")

    def _open_writer(self) -> SummaryWriter:
        if self._writer is None:
            given = self.summary_writer
            if isinstance(given, str | Path):
                from torch.utils.tensorboard import SummaryWriter  # not installed everywhere, and slow to import

                given = SummaryWriter(given)
            self._writer = given() if callable(given) else given
        return self._writer

    def _flush(self, engine: Engine) -> None:
        if self._writer is not None:
            self._writer.flush()
