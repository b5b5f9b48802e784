# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medssl_components.data import DataError
from medssl_components.data.preparation import RawCase
from medssl_components.data.preparation.read_case import map_labels, read_case, read_volume

AFFINE = np.diag([-0.8, 0.9, 3.0, 1.0])
CLASSES = {0: 0, 1: 1, 4: 2}


@pytest.fixture
def raw(tmp_path: Path, tools: dict[str, Callable]) -> RawCase:
    label = tools["corner"]((12, 10, 8), 4)
    files = {
        "image": tools["write_nifti"](tmp_path / "image.nii.gz", label * 10.0 + 0.5, AFFINE),
        "label": tools["write_nifti"](tmp_path / "label.nii", label, AFFINE),
    }
    return RawCase("a", files)


def test_stored_order_and_affine_are_kept(raw: RawCase, tools: dict[str, Callable]) -> None:
    case = read_case(raw, CLASSES)
    expected = tools["corner"]((12, 10, 8), 2)
    assert case.label.dtype == np.uint8 and np.array_equal(case.label, expected)
    assert np.allclose(case.image, expected * 20 + 0.5)
    assert np.allclose(case.affine, AFFINE)
    assert case.warnings == ()


def test_nifti_and_nrrd_give_the_same_array(tmp_path: Path, tools: dict[str, Callable]) -> None:
    array = tools["corner"]((12, 10, 8), 7)
    for encoding in ("raw", "gzip"):
        path = tools["write_nrrd"](tmp_path / f"{encoding}.nrrd", array, encoding=encoding)
        assert np.array_equal(read_volume(path)[0], array)


def test_slope_and_intercept_are_applied_to_images(tmp_path: Path) -> None:
    volume = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    volume.header.set_slope_inter(2, -5)
    nibabel.save(volume, tmp_path / "a.nii")
    stored = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj.get_unscaled())
    assert np.allclose(read_volume(tmp_path / "a.nii")[0], stored * 2.0 - 5)


def test_another_shape_or_grid_names_the_label(raw: RawCase, tools: dict[str, Callable]) -> None:
    label = tools["corner"]((12, 10, 8), 4)
    tools["write_nifti"](raw.files["label"], label.transpose(1, 0, 2), AFFINE)
    with pytest.raises(DataError, match=r"label\.nii: has the shape \(10, 12, 8\).* \(12, 10, 8\)"):
        read_case(raw, CLASSES)
    tools["write_nifti"](raw.files["label"], label, np.diag([0.8, 0.9, 3.0, 1.0]))
    with pytest.raises(DataError, match=r"label\.nii: its spacing or directions differ from those of image\.nii\.gz"):
        read_case(raw, CLASSES)
    assert np.allclose(read_case(raw, CLASSES, check_grid=False).affine, AFFINE)


def test_another_origin_is_a_warning_and_the_image_counts(raw: RawCase, tools: dict[str, Callable]) -> None:
    moved = AFFINE.copy()
    moved[0, 3] = 2.5
    tools["write_nifti"](raw.files["label"], tools["corner"]((12, 10, 8), 4), moved)
    case = read_case(raw, CLASSES)
    assert case.warnings == ("label.nii: its origin is 2.5 mm away from the image's, whose grid it now has",)
    assert np.allclose(case.affine, AFFINE)


def test_truncated_files_and_bad_voxels_name_the_file(raw: RawCase, tools: dict[str, Callable]) -> None:
    image = raw.files["image"]
    image.write_bytes(image.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"image\.nii\.gz: cannot be read"):
        read_case(raw, CLASSES)
    array = np.zeros((12, 10, 8), np.float32)
    array[3, 2, 1] = np.nan
    tools["write_nifti"](image, array, AFFINE)
    with pytest.raises(DataError, match=r"image\.nii\.gz: 1 voxel\(s\) are not finite"):
        read_case(raw, CLASSES)
    tools["write_nifti"](image, np.zeros((12, 10, 8, 2), np.uint8), AFFINE)
    with pytest.raises(DataError, match=r"image\.nii\.gz: has the shape \(12, 10, 8, 2\); a 3-D volume"):
        read_case(raw, CLASSES)


def test_a_truncated_nrrd_names_the_file(tmp_path: Path, tools: dict[str, Callable]) -> None:
    path = tools["write_nrrd"](tmp_path / "a.nrrd", np.ones((6, 5, 4)))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"a\.nrrd: cannot be read") as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)


def test_labels_go_through_a_table() -> None:
    """A map in place, one value after another, would make 1 -> 2 -> 3 of this."""
    values = np.array([0, 1, 2, 2, 500]).reshape(1, 1, 5)
    mapped = map_labels(values, {0: 0, 1: 2, 2: 3, 500: 1}, Path("x.nii"))
    assert mapped.tolist() == [[[0, 2, 3, 3, 1]]]


def test_rounding_of_scaled_labels_is_forgiven_and_nothing_else() -> None:
    values = np.array([0.0, 3.99999, 1.00001]).reshape(1, 1, 3)
    assert map_labels(values, CLASSES, Path("x.nii")).tolist() == [[[0, 2, 1]]]
    with pytest.raises(DataError, match=r"x\.nii: label values are not whole numbers, for example 0\.5"):
        map_labels(values * 0.5, CLASSES, Path("x.nii"))
    with pytest.raises(DataError, match=r"x\.nii: 2 voxel\(s\) have the label 3, which is none of 0, 1, 4; other"):
        map_labels(np.array([0, 3, 3, 1]), CLASSES, Path("x.nii"), "; other")
