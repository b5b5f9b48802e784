# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from types import ModuleType

import nibabel
import numpy as np
import pytest

from medssl_components.data import DataError
from medssl_components.data.preparation import prepare_folder


@pytest.fixture
def fake(fake_downloads: ModuleType) -> ModuleType:
    """The fakes of this data set."""
    return fake_downloads.brats2019


@pytest.fixture
def tree(tmp_path: Path, fake: ModuleType) -> Path:
    return fake.download(tmp_path / "MICCAI_BraTS_2019_Data_Training")


@pytest.fixture
def split(fake, tmp_path: Path, tools) -> str:
    """The list is not in the order of names."""
    return str(
        tools["write_split"](tmp_path / "s.json", [fake.NAMES[2], fake.NAMES[0]], [fake.NAMES[1]], [fake.NAMES[3]])
    )


def test_import_keeps_the_geometry_and_joins_the_tumour(fake, tree, split, tmp_path, tools) -> None:
    report = prepare_folder("brats2019", tree, tmp_path / "out", recipe="none", split=split)
    for number, name in enumerate(fake.NAMES):
        part = "Ts" if number == 3 else "Tr"
        image, label = fake.scan(number)
        found, affine = tools["load"](tmp_path / "out" / f"images{part}" / f"{name}.nii.gz")
        assert np.array_equal(found, image) and found.dtype == np.int16 and np.allclose(affine, fake.AFFINE)
        found, affine = tools["load"](tmp_path / "out" / f"labels{part}" / f"{name}.nii.gz")
        assert np.array_equal(found, label > 0) and np.allclose(affine, fake.AFFINE)
    assert list(report["cases"]) == [fake.NAMES[2], fake.NAMES[0], fake.NAMES[1], fake.NAMES[3]]
    assert report["warnings"] == []


def test_recipe_loses_the_last_planes_clips_and_normalises_by_the_brain(fake, tree, split, tmp_path, tools) -> None:
    prepare_folder("brats2019", tree, tmp_path / "out", split=split)
    image, label = fake.scan(0)
    box = (slice(3, 19), slice(5, 18), slice(2, 16))
    found, affine = tools["load"](tmp_path / "out" / "imagesTr" / f"{fake.NAMES[0]}.nii.gz")
    assert found.shape == (16, 13, 14) and found.size > 1000
    clipped = np.minimum(image[box].astype(float), np.percentile(image[box], 99.9))
    assert clipped.max() < 250
    brain = clipped[clipped > 0]
    assert np.allclose(found, (clipped - brain.mean()) / brain.std(), atol=1e-4)
    assert np.allclose(affine[:3, 3], fake.AFFINE[:3] @ [3, 5, 2, 1])
    assert np.array_equal(tools["load"](tmp_path / "out" / "labelsTr" / f"{fake.NAMES[0]}.nii.gz")[0], (label > 0)[box])


def test_the_surroundings_in_the_box_become_negative(fake, tree, split, tmp_path, tools) -> None:
    prepare_folder("brats2019", tree, tmp_path / "out", split=split)
    found, _ = tools["load"](tmp_path / "out" / "imagesTr" / f"{fake.NAMES[0]}.nii.gz")
    assert np.allclose(found[:5, :4, :2], found.min()) and found.min() < -4
    others = found[found > found.min() + 1e-3]
    assert len(others) == found.size - 5 * 4 * 2
    assert abs(others.mean()) < 1e-4 and abs(others.std() - 1) < 1e-4


def test_a_scaled_label_is_read_and_value_three_is_not(fake, tree, split, tmp_path, tools) -> None:
    path = tree / "HGG" / fake.NAMES[0] / f"{fake.NAMES[0]}_seg.nii.gz"
    label = fake.scan(0)[1]
    volume = nibabel.Nifti1Image(label.astype(np.int16) * 1000, fake.AFFINE)
    volume.header.set_slope_inter(0.001, 0)
    volume.header.set_data_dtype(np.int16)
    image = nibabel.Nifti1Image(label.astype(np.float64), fake.AFFINE, volume.header)
    nibabel.save(image, path)
    assert nibabel.load(path).dataobj.slope != 1
    prepare_folder("brats2019", tree, tmp_path / "out", recipe="none", split=split)
    assert np.array_equal(tools["load"](tmp_path / "out" / "labelsTr" / f"{fake.NAMES[0]}.nii.gz")[0], label > 0)
    label[0, 0, :2] = 3
    tools["write_nifti"](path, label, fake.AFFINE)
    with pytest.raises(DataError, match=r"_seg\.nii\.gz: 2 voxel\(s\) have the label 3, which is none of 0, 1, 2, 4"):
        prepare_folder("brats2019", tree, tmp_path / "new", recipe="none", split=split)


def test_the_published_split_with_few_cases(tree, tmp_path) -> None:
    with pytest.raises(DataError, match="331 of the 335 cases of the split brats2019_ssl4mis"):
        prepare_folder("brats2019", tree, tmp_path / "out")
