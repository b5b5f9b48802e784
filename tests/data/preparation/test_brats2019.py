# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from medssl_components.data import DataError
from medssl_components.data.preparation import prepare_folder

SHAPE = (24, 22, 20)
AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
NAMES = ("BraTS19_CBICA_AAB_1", "BraTS19_2013_8_1", "BraTS19_TCIA02_370_1", "BraTS19_TMC_06643_1")
BRAIN = (slice(3, 20), slice(5, 19), slice(2, 17))


def scan(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A brain off the centre with one hot voxel, and the three tumour values in three different places."""
    image = np.zeros(SHAPE, np.int16)
    image[BRAIN] = np.random.default_rng(number).integers(100, 200, image[BRAIN].shape)
    image[10, 10, 10] = 5000
    label = np.zeros(SHAPE, np.uint8)
    label[6:9, 7:9, 5] = 1
    label[6, 7:12, 5:9] = 2
    label[5, 6 + number, 4] = 4
    return image, label


@pytest.fixture
def tree(tmp_path: Path, tools) -> Path:
    source = tmp_path / "MICCAI_BraTS_2019_Data_Training"
    for number, (name, grade) in enumerate(zip(NAMES, ("HGG", "HGG", "LGG", "LGG"), strict=True)):
        folder = source / ("MICCAI_BraTS_2019_Data_Training" if number else "") / grade / name
        suffix = ".nii" if number == 1 else ".nii.gz"
        image, label = scan(number)
        tools["write_nifti"](folder / f"{name}_flair{suffix}", image, AFFINE)
        tools["write_nifti"](
            folder / f"{name}_seg{suffix}", label.astype(np.float32 if number == 2 else np.uint8), AFFINE
        )
        for kind in ("t1", "t1ce", "t2"):
            tools["write_nifti"](folder / f"{name}_{kind}{suffix}", np.zeros(SHAPE, np.int16), AFFINE)
    (source / "name_mapping.csv").write_text("a,b")
    return source


@pytest.fixture
def split(tmp_path: Path, tools) -> str:
    """The list is not in the order of names."""
    return str(tools["write_split"](tmp_path / "s.json", [NAMES[2], NAMES[0]], [NAMES[1]], [NAMES[3]]))


def test_import_keeps_the_geometry_and_joins_the_tumour(tree, split, tmp_path, tools) -> None:
    report = prepare_folder("brats2019", tree, tmp_path / "out", recipe="none", split=split)
    for number, name in enumerate(NAMES):
        part = "Ts" if number == 3 else "Tr"
        image, label = scan(number)
        found, affine = tools["load"](tmp_path / "out" / f"images{part}" / f"{name}.nii.gz")
        assert np.array_equal(found, image) and found.dtype == np.int16 and np.allclose(affine, AFFINE)
        found, affine = tools["load"](tmp_path / "out" / f"labels{part}" / f"{name}.nii.gz")
        assert np.array_equal(found, label > 0) and np.allclose(affine, AFFINE)
    assert list(report["cases"]) == [NAMES[2], NAMES[0], NAMES[1], NAMES[3]]
    assert report["warnings"] == []


def test_recipe_loses_the_last_planes_clips_and_normalises_by_the_brain(tree, split, tmp_path, tools) -> None:
    prepare_folder("brats2019", tree, tmp_path / "out", split=split)
    image, label = scan(0)
    box = (slice(3, 19), slice(5, 18), slice(2, 16))
    found, affine = tools["load"](tmp_path / "out" / "imagesTr" / f"{NAMES[0]}.nii.gz")
    assert found.shape == (16, 13, 14) and found.size > 1000
    clipped = np.minimum(image[box].astype(float), np.percentile(image[box], 99.9))
    assert clipped.max() < 250
    assert np.allclose(found, (clipped - clipped.mean()) / clipped.std(), atol=1e-4)
    assert np.allclose(affine[:3, 3], AFFINE[:3] @ [3, 5, 2, 1])
    assert np.array_equal(tools["load"](tmp_path / "out" / "labelsTr" / f"{NAMES[0]}.nii.gz")[0], (label > 0)[box])


def test_zeros_inside_the_box_become_negative(tree, split, tmp_path, tools) -> None:
    image, label = scan(0)
    image[5:8, 6, 4] = 0
    path = tree / "HGG" / NAMES[0] / f"{NAMES[0]}_flair.nii.gz"
    tools["write_nifti"](path, image, AFFINE)
    prepare_folder("brats2019", tree, tmp_path / "out", split=split)
    found, _ = tools["load"](tmp_path / "out" / "imagesTr" / f"{NAMES[0]}.nii.gz")
    assert np.allclose(found[2:5, 1, 2], found.min()) and found.min() < -4
    others = found[found > found.min() + 1e-3]
    assert abs(others.mean()) < 1e-4 and abs(others.std() - 1) < 1e-4


def test_a_scaled_label_is_read_and_value_three_is_not(tree, split, tmp_path, tools) -> None:
    path = tree / "HGG" / NAMES[0] / f"{NAMES[0]}_seg.nii.gz"
    label = scan(0)[1]
    volume = nibabel.Nifti1Image(label.astype(np.int16) * 1000, AFFINE)
    volume.header.set_slope_inter(0.001, 0)
    volume.header.set_data_dtype(np.int16)
    image = nibabel.Nifti1Image(label.astype(np.float64), AFFINE, volume.header)
    nibabel.save(image, path)
    assert nibabel.load(path).dataobj.slope != 1
    prepare_folder("brats2019", tree, tmp_path / "out", recipe="none", split=split)
    assert np.array_equal(tools["load"](tmp_path / "out" / "labelsTr" / f"{NAMES[0]}.nii.gz")[0], label > 0)
    label[0, 0, :2] = 3
    tools["write_nifti"](path, label, AFFINE)
    with pytest.raises(DataError, match=r"_seg\.nii\.gz: 2 voxel\(s\) have the label 3, which is none of 0, 1, 2, 4"):
        prepare_folder("brats2019", tree, tmp_path / "new", recipe="none", split=split)


def test_the_published_split_with_few_cases(tree, tmp_path) -> None:
    with pytest.raises(DataError, match="331 of the 335 cases of the split brats2019_ssl4mis"):
        prepare_folder("brats2019", tree, tmp_path / "out")
