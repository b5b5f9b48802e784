# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medssl_components.data import DataError
from medssl_components.data.preparation import load_split, prepare_folder

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "la"
TWINS = ("0RZDK210BSMWAA6467LU", "CMPXO4J23G58J53Q98SZ")
GRID = np.diag([0.625, 0.625, 0.625, 1.0])


def write_h5(path: Path, image: np.ndarray, label: np.ndarray) -> Path:
    h5py = pytest.importorskip("h5py")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("image", data=image)
        file.create_dataset("label", data=label)
    return path


def test_import_is_lossless_and_believes_no_header(la_tree, la_split, tmp_path, tools) -> None:
    prepare_folder("la", la_tree, tmp_path / "out", recipe="none", split=str(la_split))
    names = tools["la_names"](3)
    for number, (name, part) in enumerate(zip(names, ("Tr", "Tr", "Ts"), strict=True), start=1):
        image, affine = tools["load"](tmp_path / "out" / f"images{part}" / f"{name}.nii.gz")
        label, label_affine = tools["load"](tmp_path / "out" / f"labels{part}" / f"{name}.nii.gz")
        expected = np.random.default_rng(number).integers(0, 200, (40, 36, 12)) + np.arange(40)[:, None, None]
        assert np.array_equal(image, expected % 256)
        assert label.dtype == np.uint8 and np.array_equal(label, tools["la_label"](number))
        assert np.allclose(affine, GRID) and np.allclose(label_affine, GRID)


def test_recipe_normalises_the_whole_volume_and_crops_around_the_label(la_tree, la_split, tmp_path, tools) -> None:
    """The crop's place is in the affine; its margins are those that the published code draws."""
    for recipe in ("none", "uamt"):
        prepare_folder("la", la_tree, tmp_path / recipe, recipe=recipe, split=str(la_split))
    name = tools["la_names"](2)[1]
    whole, _ = tools["load"](tmp_path / "none" / "imagesTr" / f"{name}.nii.gz")
    whole_label, _ = tools["load"](tmp_path / "none" / "labelsTr" / f"{name}.nii.gz")
    image, affine = tools["load"](tmp_path / "uamt" / "imagesTr" / f"{name}.nii.gz")
    label, _ = tools["load"](tmp_path / "uamt" / "labelsTr" / f"{name}.nii.gz")
    assert image.dtype == np.float32
    start = np.rint(affine[:3, 3] / 0.625).astype(int)
    box = tuple(slice(low, low + side) for low, side in zip(start, image.shape, strict=True))
    assert np.allclose(image, ((whole - whole.mean()) / whole.std())[box], atol=1e-5)
    assert np.array_equal(label, whole_label[box]) and label.sum() == whole_label.sum()
    assert image.shape[2] == 12


def test_margins_of_the_crop_are_the_published_ones_and_follow_the_seed(la_tree, tmp_path, tools) -> None:
    """400 x 300 voxels, an atrium of 130 x 100: p = 0 in x, (112 - 99) // 2 = 6 in y. The seed decides the rest."""
    name = tools["la_names"](5)[4]
    label = np.zeros((400, 300, 3), np.uint8)
    label[150:280, 60:160, 1] = 255
    folder = la_tree / "Training Set" / name
    tools["write_nrrd"](folder / "laendo.nrrd", label)
    tools["write_nrrd"](folder / "lgemri.nrrd", np.random.default_rng(0).integers(0, 9, label.shape))
    split = tools["write_split"](tmp_path / "one.json", [name], [], [])
    crops = {}
    for out, seed in (("out", 0), ("again", 0), ("other", 1)):
        prepare_folder("la", la_tree, tmp_path / out, recipe="uamt", split=str(split), seed=seed)
        crops[out] = (tmp_path / out / "imagesTr" / f"{name}.nii.gz").read_bytes()
    assert crops["again"] == crops["out"] != crops["other"]
    cropped, affine = tools["load"](tmp_path / "out" / "labelsTr" / f"{name}.nii.gz")
    start = np.rint(affine[:3, 3] / 0.625).astype(int)
    end = start + cropped.shape
    assert 10 <= 150 - start[0] <= 19 and 10 <= end[0] - 279 <= 19
    assert 16 <= 60 - start[1] <= 25 and 16 <= end[1] - 159 <= 25
    assert (start[2], end[2]) == (0, 3)


def test_an_odd_header_spacing_is_reported(la_tree, la_split, tmp_path, tools) -> None:
    names = tools["la_names"](2)
    tools["la_case"](la_tree / "Training Set" / names[0], 1, spacing=0.625)
    tools["la_case"](la_tree / "Training Set" / names[1], 2, spacing=1.5)
    report = prepare_folder("la", la_tree, tmp_path / "out", recipe="none", split=str(la_split))
    text = "its header says 1.5 x 1.5 x 1.5 mm, where 1 mm is usual; it was taken to be 0.625 mm"
    assert report["warnings"] == [f"{names[1]}: {text}"]
    assert report["cases"][names[1]]["spacing"] == [0.625] * 3


def broken(la_tree: Path, la_split: Path, out: Path) -> str:
    with pytest.raises(DataError) as caught:
        prepare_folder("la", la_tree, out, split=str(la_split))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_broken_trees_are_one_line_that_names_the_file(la_tree, la_split, tmp_path, tools) -> None:
    folder = la_tree / "Training Set" / tools["la_names"](2)[1]
    label = np.where(tools["corner"]((40, 36, 12)) > 0, 255, 0)
    tools["write_nrrd"](folder / "laendo.nrrd", label.transpose(1, 0, 2))
    message = broken(la_tree, la_split, tmp_path / "out")
    assert message.startswith(f"{folder / 'laendo.nrrd'}: has the shape (36, 40, 12)")
    wrong = label.copy()
    wrong[3, 3, :5] = 128
    tools["write_nrrd"](folder / "laendo.nrrd", wrong)
    message = broken(la_tree, la_split, tmp_path / "out")
    assert message == f"{folder / 'laendo.nrrd'}: 5 voxel(s) have the label 128, which is none of 0, 255"
    tools["write_nrrd"](folder / "laendo.nrrd", label)
    image = folder / "lgemri.nrrd"
    image.write_bytes(image.read_bytes()[:200])
    assert broken(la_tree, la_split, tmp_path / "out").startswith(f"{image}: cannot be read")
    tools["la_case"](folder, 2)
    twin = tools["la_case"](la_tree / "copy" / folder.name, 2)
    message = broken(la_tree, la_split, tmp_path / "out")
    assert message.startswith(f"{twin / 'laendo.nrrd'}: another label of the case")
    assert str(folder / "laendo.nrrd") in message


def test_published_files_are_taken_as_they_are(tmp_path, tools) -> None:
    names = tools["la_names"](2)
    rng = np.random.default_rng(0)
    label = tools["corner"]((18, 15, 12))
    images = {name: rng.normal(size=label.shape).astype(np.float32) for name in names}
    for name, image in images.items():
        write_h5(tmp_path / "h5" / "2018LA_Seg_Training Set" / name / "mri_norm2.h5", image, label)
    split = tools["write_split"](tmp_path / "s.json", names, [], [])
    report = prepare_folder("la", tmp_path / "h5", tmp_path / "out", split=str(split))
    assert (report["form"], report["recipe"]) == ("h5", "published")
    for name, image in images.items():
        written, affine = tools["load"](tmp_path / "out" / "imagesTr" / f"{name}.nii.gz")
        assert np.array_equal(written, image) and np.allclose(affine, GRID)
        assert np.array_equal(tools["load"](tmp_path / "out" / "labelsTr" / f"{name}.nii.gz")[0], label)
    assert report["warnings"] == [
        f"{names[0]} and {names[1]} have the same label, so they are one acquisition twice, both in training"
    ]


def test_broken_h5_files_are_named(tmp_path, tools) -> None:
    name = tools["la_names"](1)[0]
    split = tools["write_split"](tmp_path / "s.json", [name], [], [])
    path = write_h5(tmp_path / "h5" / name / "mri_norm2.h5", np.ones((4, 5, 6)), np.ones((4, 5, 7)))
    message = broken(tmp_path / "h5", split, tmp_path / "out")
    assert message.startswith(f"{path}: has the shape (4, 5, 7)")
    write_h5(path, np.ones((4, 5, 6)), np.full((4, 5, 6), 255))
    assert broken(tmp_path / "h5", split, tmp_path / "out").startswith(f"{path}: 120 voxel(s) have the label 255")
    path.write_bytes(b"no h5")
    assert broken(tmp_path / "h5", split, tmp_path / "out").startswith(f"{path}: cannot be read as an h5 file")


def test_h5_without_its_package_is_one_line(tmp_path, tools, monkeypatch) -> None:
    name = tools["la_names"](1)[0]
    path = tmp_path / "h5" / name / "mri_norm2.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    split = tools["write_split"](tmp_path / "s.json", [name], [], [])
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert broken(tmp_path / "h5", split, tmp_path / "out") == f"{path}: needs the package h5py; pip install h5py"


def test_two_forms_in_one_folder_ask_which(la_tree, la_split, tmp_path, tools) -> None:
    path = la_tree / tools["la_names"](1)[0] / "mri_norm2.h5"
    path.parent.mkdir()
    path.write_bytes(b"")
    assert "holds la as nrrd and as h5; give --recipe to say which" in broken(la_tree, la_split, tmp_path / "out")
    prepare_folder("la", la_tree, tmp_path / "out", recipe="none", split=str(la_split))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the published volumes are not in {REAL}")
def test_round_trip_of_published_volumes(tmp_path, tools: dict[str, Callable]) -> None:
    """Volumes of the published h5 files, written as such files and prepared, are what they were; twins are found."""
    names = [*load_split("la_uamt")["training"][:1], *TWINS]
    for name in names:
        image, label = (tools["load"](REAL / part / f"{name}.nii.gz")[0] for part in ("imagesTr", "labelsTr"))
        write_h5(tmp_path / "h5" / name / "mri_norm2.h5", image.astype(np.float32), label)
    report = prepare_folder("la", tmp_path / "h5", tmp_path / "out", partial=True)
    assert report["counts"] == {"training": 3, "validation": 0, "test": 0, "missing": 97, "not_used": 0}
    for name in names:
        for part in ("imagesTr", "labelsTr"):
            before, affine = tools["load"](REAL / part / f"{name}.nii.gz")
            after, new_affine = tools["load"](tmp_path / "out" / part / f"{name}.nii.gz")
            assert np.abs(after - before.astype(np.float32)).max() == 0
            assert np.allclose(affine, new_affine)
    assert (
        f"{TWINS[0]} and {TWINS[1]} have the same label, so they are one acquisition twice, both in training"
        in (report["warnings"])
    )
    split = json.loads((tmp_path / "out" / "split.json").read_text())
    assert split["training"] == sorted(names) and split["labeled_counts"]["5%"] == 2
