# SPDX-License-Identifier: Apache-2.0
"""Figures of cases: what is drawn, where it lies, and what is written."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import imread
from monai.data import MetaTensor

from medssl_components.engines.draw_slices import CLASS_COLOURS, largest_slice, slices_to_show
from medssl_components.engines.slice_figures import SliceFigures, cases_figure, on_label_grid, slice_figure

NAMES = ("background", "atrium", "ventricle")


def ball(shape: tuple[int, int, int], center: tuple[float, ...], radius: float) -> np.ndarray:
    grid = np.indices(shape).reshape(3, -1).T - np.array(center)
    return (np.linalg.norm(grid, axis=1) <= radius).reshape(shape)


@pytest.fixture
def case() -> dict[str, np.ndarray]:
    label = ball((20, 16, 12), (12, 9, 6), 4).astype(float)
    image = np.random.default_rng(0).normal(size=label.shape) + 3 * label
    return {"image": image, "label": label, "prediction": np.roll(label, 1, axis=0), "uncertainty": label / 2}


def panels(figure: Figure) -> list[Any]:
    """The axes that show an image, row by row; the colour bar has none."""
    return [axes for axes in figure.axes if axes.images]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_figure_has_three_rows_and_a_column_for_each_part(case: dict[str, np.ndarray]) -> None:
    figure = slice_figure(**case, title="patient 7", class_names=NAMES)
    assert titles(figure) == ["scan", "label", "prediction", "uncertainty"]
    assert len(panels(figure)) == 3 * 4
    assert figure.get_suptitle() == "patient 7"
    # only classes that occur have an entry
    assert legend(figure) == ["atrium", "outline of the label"]


def test_parts_that_are_not_given_have_no_column(case: dict[str, np.ndarray]) -> None:
    figure = slice_figure(case["image"], case["label"], case["prediction"])
    assert titles(figure) == ["scan", "label", "prediction"] and len(panels(figure)) == 9
    assert legend(figure) == ["class 1", "outline of the label"]
    figure = slice_figure(case["image"], None, case["prediction"], case["uncertainty"])
    assert titles(figure) == ["scan", "prediction", "uncertainty"] and len(panels(figure)) == 9


def test_slices_are_the_largest_and_the_quarters_of_the_extent() -> None:
    label = np.zeros((8, 8, 30))
    label[3, 3, 4:25] = 1  # from 4 to 24: quarters 9 and 19
    label[2:6, 2:6, 12] = 2
    assert slices_to_show(label, np.zeros_like(label)) == [19, 12, 9]
    assert slices_to_show(np.zeros_like(label), label) == [19, 12, 9]
    assert slices_to_show(None, label) == [19, 12, 9]


def test_empty_and_thin_foregrounds_are_drawn(case: dict[str, np.ndarray]) -> None:
    empty = np.zeros((20, 16, 12))
    assert slices_to_show(empty, empty) == [8, 6, 3]
    thin = empty.copy()
    thin[4, 4, 5] = 1
    assert slices_to_show(thin, empty) == [5] and largest_slice(thin, empty) == 5
    assert len(panels(slice_figure(case["image"], thin, empty))) == 3
    assert len(panels(slice_figure(np.zeros((20, 16, 12)), empty, empty))) == 9


def test_anterior_is_up_and_the_patients_left_on_the_right() -> None:
    image = np.zeros((10, 8, 6))
    image[9, 0, :] = 1  # the outermost right, the outermost posterior
    image[0, 7, :] = 2  # the outermost left, the outermost anterior
    shown = panels(slice_figure(image, None, np.zeros_like(image)))[0]
    picture = np.asarray(shown.images[0].get_array())
    assert shown.images[0].origin == "lower"
    assert picture.shape == (8, 10)
    assert picture[0, 0] == 1  # lower left
    assert picture[7, 9] == 2  # upper right


def test_the_aspect_honours_the_spacing(case: dict[str, np.ndarray]) -> None:
    axes = panels(slice_figure(**case, spacing=(0.5, 1.5, 4.0)))[0]
    assert axes.get_aspect() == 3.0


def test_the_grey_window_ignores_outliers(case: dict[str, np.ndarray]) -> None:
    case["image"][0, 0, 0] = 1e6
    low, high = panels(slice_figure(**case))[0].images[0].get_clim()
    assert (low, high) == tuple(np.percentile(case["image"], (1, 99))) and high < 10


def test_classes_have_their_colours_and_uncertainty_a_fixed_scale(case: dict[str, np.ndarray]) -> None:
    prediction = case["prediction"] * 2
    prediction[0, 0, :] = 8  # the colours begin again
    row = panels(slice_figure(case["image"], case["label"], prediction, case["uncertainty"], class_names=NAMES))[:4]
    shown = np.asarray(row[2].images[1].get_array())
    for colour, alpha in ((CLASS_COLOURS[1], 0.35), (CLASS_COLOURS[0], 0.35)):
        assert np.isclose(shown, to_rgba(colour, alpha)).all(-1).any()
    assert row[3].images[0].get_clim() == (0, 1)
    labels = legend(slice_figure(case["image"], case["label"], prediction, class_names=NAMES))
    assert labels == ["atrium", "ventricle", "class 8", "outline of the label"]


def test_a_page_has_a_row_for_each_case(case: dict[str, np.ndarray]) -> None:
    without = {"image": case["image"], "prediction": case["prediction"], "title": "second"}
    figure = cases_figure([{**case, "title": "first"}, without], "A page", NAMES)
    assert titles(figure) == ["scan", "label", "prediction", "uncertainty"]
    # the second case has neither label nor uncertainty: these two stay blank
    assert len(panels(figure)) == 4 + 2
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()] == ["first", "second"]
    with pytest.raises(ValueError, match="no case"):
        cases_figure([])


def test_arrays_on_different_grids_are_refused(case: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"image has shape \(4, 4, 4\), prediction \(20, 16, 12\)"):
        slice_figure(np.zeros((4, 4, 4)), case["label"], case["prediction"])
    with pytest.raises(ValueError, match="3-D"):
        slice_figure(np.zeros((4, 4)), None, np.zeros((4, 4)))


def make_item(name: str = "case_01", image_spacing: float = 2.0) -> dict[str, MetaTensor]:
    """A ball at (12, 8, 10) mm, the image on a coarser grid of its own, shifted by 2 mm."""
    label = torch.as_tensor(ball((24, 18, 20), (12, 8, 10), 5)).float()[None]
    affine = torch.diag(torch.tensor([image_spacing] * 3 + [1.0]))
    affine[:3, 3] = -2
    shape = tuple(int(26 / image_spacing) for _ in range(3))
    center = tuple((mm + 2) / image_spacing for mm in (12, 8, 10))
    image = torch.as_tensor(ball(shape, center, 5 / image_spacing)).float()[None] + 1
    meta = {"filename_or_obj": f"somewhere/{name}.nii.gz"}
    return {
        "image": MetaTensor(image, affine=affine),
        "label": MetaTensor(label, affine=torch.eye(4), meta=meta),
        "pred": MetaTensor(label.clone(), affine=torch.eye(4)),
        "uncertainty": MetaTensor(label / 2, affine=torch.eye(4)),
    }


def test_an_image_on_another_grid_lands_on_the_labels() -> None:
    arrays = on_label_grid(make_item())
    assert arrays["image"].shape == arrays["label"].shape == (24, 18, 20)
    assert arrays["title"] == "case_01" and arrays["spacing"] == (1, 1, 1)
    bright, label = arrays["image"] > 1.5, arrays["label"] > 0
    assert 2 * (bright & label).sum() / (bright.sum() + label.sum()) > 0.9
    centers = [np.argwhere(mask).mean(0) for mask in (bright, label)]
    assert np.abs(centers[0] - centers[1]).max() < 0.5


def test_outside_of_the_image_is_dark_and_its_rim_is_not() -> None:
    image = torch.full((1, 2, 4, 4), 5.0)
    image[0, 0, 0, 0] = 3
    affine = torch.diag(torch.tensor([3.0, 1, 1, 1]))  # centres at 0 and 3 mm along X, and the edge repeated at 6
    item = {"image": MetaTensor(image, affine=affine), "pred": MetaTensor(torch.zeros(1, 9, 4, 4), affine=torch.eye(4))}
    assert on_label_grid(item)["image"][:, 2, 2].tolist() == [5, 5, 5, 5, 5, 5, 5, 3, 3]


def test_other_orientations_are_turned_to_ras() -> None:
    item = make_item()
    expected = on_label_grid(item)
    turned = {}
    for key, volume in item.items():
        # X and Z swapped and X pointing left: the same scene in world coordinates
        array = volume.as_tensor().permute(0, 3, 2, 1).flip(3)
        size = volume.shape[1]
        change = torch.tensor([[0.0, 0, -1, size - 1], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
        turned[key] = MetaTensor(array, affine=volume.affine.float() @ change, meta=dict(volume.meta))
        turned[key].affine = volume.affine.float() @ change
    arrays = on_label_grid(turned)
    for key in ("image", "label", "prediction", "uncertainty"):
        np.testing.assert_allclose(arrays[key], expected[key], atol=1e-5)


def test_spacing_follows_the_axes() -> None:
    affine = torch.tensor([[0, 0, 3.0, 0], [-2.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1]])
    volume = MetaTensor(torch.zeros(1, 4, 5, 6), affine=affine)
    arrays = on_label_grid({"image": volume, "pred": volume})
    assert arrays["label"] is None and arrays["uncertainty"] is None
    assert arrays["spacing"] == (3, 2, 1) and arrays["prediction"].shape == (6, 4, 5)


class Writer:
    """Remembers what a TensorBoard writer is told."""

    def __init__(self) -> None:
        self.images: list[tuple[str, np.ndarray, int]] = []

    def add_image(self, tag: str, pixels: np.ndarray, step: int, dataformats: str) -> None:
        assert dataformats == "HWC"
        self.images.append((tag, pixels, step))

    def flush(self) -> None:
        pass


def run(handler: SliceFigures, batches: list[Any], epoch: int = 1) -> None:
    """Run an evaluator whose outputs are the batches, as in a training's given epoch."""
    engine = Engine(lambda engine, batch: batch)
    handler.dots_per_inch = 60  # small pictures, quick tests
    handler.attach(engine)
    engine.load_state_dict({"epoch": epoch - 1, "max_epochs": epoch, "epoch_length": len(batches)})
    engine.run(batches, max_epochs=epoch)


def has_content(path: Path) -> bool:
    pixels = imread(path)[..., :3]
    return min(pixels.shape[:2]) > 200 and pixels.std() > 0.1


def test_files_are_written_for_the_first_cases(tmp_path: Path) -> None:
    writer = Writer()
    handler = SliceFigures(tmp_path / "figures", NAMES, max_cases=3, summary_writer=lambda: writer)
    batches = [[make_item("a"), make_item("b")], [make_item("c"), make_item("d")]]
    run(handler, batches, epoch=12)
    files = sorted((tmp_path / "figures").iterdir())
    assert [file.name for file in files] == ["a_epoch012.png", "b_epoch012.png", "c_epoch012.png"]
    assert all(has_content(file) for file in files)
    assert [(tag, step) for tag, _, step in writer.images] == [("cases/a", 12), ("cases/b", 12), ("cases/c", 12)]
    # TensorBoard gets what the file holds
    saved = (imread(files[0])[..., :3] * 255).round()
    np.testing.assert_array_equal(writer.images[0][1], saved)


def test_a_second_validation_draws_its_own_epoch(tmp_path: Path) -> None:
    handler = SliceFigures(tmp_path, NAMES, max_cases=1)
    for epoch in (1, 2):
        run(handler, [[make_item("a")], [make_item("b")]], epoch)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a_epoch001.png", "a_epoch002.png"]


def test_outside_of_a_training_names_have_no_epoch(tmp_path: Path) -> None:
    run(SliceFigures(tmp_path, NAMES, during_training=False), [[make_item("a")]])
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_a_folder_makes_a_writer_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(SliceFigures(tmp_path / "figures", NAMES, summary_writer=str(tmp_path / "events")), [[make_item("a")]])
    assert any(file.stat().st_size > 10_000 for file in (tmp_path / "events").iterdir())


def test_a_case_that_cannot_be_drawn_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = make_item("broken")
    broken["pred"] = broken["pred"][:, :5]
    with caplog.at_level(logging.WARNING):
        run(SliceFigures(tmp_path, NAMES), [[broken, "no case", make_item("good")]])
    assert [file.name for file in tmp_path.iterdir()] == ["good_epoch001.png"]
    assert "No figure of broken: ValueError: label has shape (24, 18, 20)" in caplog.text
    assert "No figure of case 2" in caplog.text


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    run(SliceFigures(tmp_path / "file", NAMES), [[make_item()]])
    assert "No figure of case_01: " in caplog.text


def test_a_failing_drawing_leaves_no_half_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path, pixels: np.ndarray, dpi: int) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("medssl_components.engines.slice_figures.imsave", half)
    run(SliceFigures(tmp_path, NAMES), [[make_item()]])
    assert list(tmp_path.iterdir()) == []
    assert "disk full" in caplog.text


def test_only_rank_zero_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    run(SliceFigures(tmp_path, NAMES), [[make_item()]])
    assert list(tmp_path.iterdir()) == []


def test_drawing_leaves_the_global_state_of_pyplot_alone(tmp_path: Path, case: dict[str, np.ndarray]) -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    slice_figure(**case)
    assert pyplot.get_fignums() == before


def test_a_negative_number_of_cases_is_refused() -> None:
    with pytest.raises(ValueError, match="max_cases is -1"):
        SliceFigures("figures", NAMES, max_cases=-1)
