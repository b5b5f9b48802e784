# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from medssl_components.data import DataError
from medssl_components.data.preparation import load_split, prepare_folder


@pytest.fixture
def fake(fake_downloads: ModuleType) -> ModuleType:
    """The fakes of this data set."""
    return fake_downloads.synapse


@pytest.fixture
def tree(tmp_path: Path, fake: ModuleType) -> Path:
    return fake.download(tmp_path / "RawData")


def test_import_keeps_stored_order_and_every_organ_in_its_place(fake, tree, tmp_path, tools) -> None:
    report = prepare_folder("synapse", tree, tmp_path / "out", recipe="none", partial=True)
    assert report["split"] == "synapse_skcdf"
    assert report["counts"] == {"training": 3, "validation": 1, "test": 1, "missing": 25, "not_used": 1}
    assert len(report["missing"]) + 5 == 30 and report["missing"]["0002"] == "img/img0002.nii.gz"
    for name in fake.NAMES:
        part = "Ts" if name == "0008" else "Tr"
        label, affine = tools["load"](tmp_path / "out" / f"labels{part}" / f"{name}.nii.gz")
        assert np.array_equal(label, fake.organs(name)) and np.allclose(affine, fake.AFFINE)
        image, affine = tools["load"](tmp_path / "out" / f"images{part}" / f"{name}.nii.gz")
        assert np.array_equal(image, np.where(label > 0, label * 20.0, -1024)) and np.allclose(affine, fake.AFFINE)
    assert report["warnings"] == [
        "labelled cases are missing: 10% has 1, not 2",
        "labelled cases are missing: 20% has 1, not 4",
        "labelled cases are missing: 40% has 0, not 8",
    ]


def test_recipe_resizes_to_the_published_grid_and_leaves_intensities(fake, tree, tmp_path, tools) -> None:
    """As published on arrays z, y, x: 80 x 160 x 160; both kidneys stay where they are in the world."""
    prepare_folder("synapse", tree, tmp_path / "out", partial=True)
    label, affine = tools["load"](tmp_path / "out" / "labelsTr" / "0001.nii.gz")
    image, _ = tools["load"](tmp_path / "out" / "imagesTr" / "0001.nii.gz")
    whole = fake.organs("0001")
    scan = np.where(whole > 0, whole * 20.0, -1024.0)
    zyx = torch.tensor(scan.transpose(2, 1, 0).copy())[None, None]
    expected = interpolate(zyx, (80, 160, 160), mode="trilinear", align_corners=False)[0, 0].numpy()
    assert np.allclose(image.transpose(2, 1, 0), expected, atol=1e-2)
    zyx = torch.tensor(whole.transpose(2, 1, 0).copy())[None, None]
    assert np.array_equal(label.transpose(2, 1, 0), interpolate(zyx, (80, 160, 160), mode="nearest")[0, 0].numpy())
    assert np.allclose(np.linalg.norm(affine[:3, :3], axis=0), [0.8 * 20 / 160, 0.8 * 18 / 160, 3 * 9 / 80])
    for kidney in (2, 3):
        before = fake.AFFINE[:3] @ np.append(np.argwhere(whole == kidney).mean(0), 1)
        after = affine[:3] @ np.append(np.argwhere(label == kidney).mean(0), 1)
        assert np.abs(before - after).max() < 0.3


def test_all_published_splits_can_be_chosen(fake, tree, tmp_path) -> None:
    for name in ("synapse_skcdf", "synapse_ad", "synapse_dhc_2023"):
        report = prepare_folder("synapse", tree, tmp_path / name, recipe="none", split=name, partial=True)
        there = set(load_split(name)["test"]) & set(fake.NAMES)
        assert {case for case, record in report["cases"].items() if record["part"] == "Ts"} == there


def test_other_data_of_the_project_is_refused(fake, tmp_path, tools) -> None:
    path = tools["write_nifti"](tmp_path / "a" / "DET0000101_avg.nii.gz", np.zeros(fake.SHAPE, np.int16), fake.AFFINE)
    with pytest.raises(DataError) as caught:
        prepare_folder("synapse", tmp_path / "a", tmp_path / "out")
    assert str(caught.value).startswith(f"{path}: is of the averaged training images")


def test_labels_of_other_publications_are_recognised(fake, tree, tmp_path, tools) -> None:
    path = tree / "Training" / "label" / "label0007.nii.gz"
    label = fake.organs("0007")
    label[label >= 12] = 0
    tools["write_nifti"](path, label, fake.AFFINE)
    report = prepare_folder("synapse", tree, tmp_path / "out", recipe="none", partial=True)
    assert any(
        line.startswith("0007: its label has no right_adrenal_gland and no left_adrenal_gland: make sure")
        for line in report["warnings"]
    )
    label[0, 0, :4] = 14
    tools["write_nifti"](path, label, fake.AFFINE)
    with pytest.raises(DataError, match=r"label0007\.nii\.gz: 4 voxel\(s\) have the label 14, .*Zenodo record 1169361"):
        prepare_folder("synapse", tree, tmp_path / "out", recipe="none", partial=True)


def test_a_scan_without_its_label(tree, tmp_path) -> None:
    (tree / "Training" / "label" / "label0021.nii.gz").unlink()
    with pytest.raises(DataError, match=r"26 of the 30 cases .*there is no label/label0021\.nii\.gz"):
        prepare_folder("synapse", tree, tmp_path / "out")
