# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from medssl_components.data import CaseFolder, DataError, case_name, check_cases
from medssl_components.data.preparation import load_split, prepare_folder


@pytest.fixture
def fake(fake_downloads: ModuleType) -> ModuleType:
    """The fakes of this data set."""
    return fake_downloads.amos


@pytest.fixture
def tree(tmp_path: Path, fake: ModuleType) -> Path:
    return fake.download(tmp_path / "amos22")


@pytest.fixture
def split(tmp_path: Path, tools) -> str:
    return str(tools["write_split"](tmp_path / "s.json", ["amos_0001", "amos_0507"], [], ["amos_0008"]))


def test_the_published_split_has_these_cases() -> None:
    split = load_split("amos22_skcdf")
    assert {"amos_0001", "amos_0507"} <= {*split["training"], *split["validation"]} and "amos_0008" in split["test"]


def test_import_by_split_modality_and_slices_along_another_axis(fake, tree, split, tmp_path, tools) -> None:
    report = prepare_folder("amos", tree, tmp_path / "out", recipe="none", split=split)
    assert {name: record["modality"] for name, record in report["cases"].items()} == {
        "amos_0001": "CT",
        "amos_0507": "MR",
        "amos_0008": "CT",
    }
    assert report["warnings"] == [
        "amos_0507: its shape is 12 x 20 x 22: its slices are not along the last axis, and it stays so"
    ]
    for name in fake.NAMES:
        part = "Ts" if name == "amos_0008" else "Tr"
        label, affine = tools["load"](tmp_path / "out" / f"labels{part}" / f"{name}.nii.gz")
        assert np.array_equal(label, fake.organs(name)) and np.allclose(affine, fake.AFFINE)
    labels = json.loads((tmp_path / "out" / "dataset.json").read_text())["labels"]
    assert (labels["aorta"], labels["pancreas"], labels["duodenum"], len(labels)) == (8, 10, 13, 16)


def test_recipe_resizes_as_stored_and_a_bundle_can_read_it(fake, tree, split, tmp_path, tools) -> None:
    prepare_folder("amos", tree, tmp_path / "out", split=split)
    for name in fake.NAMES:
        part = "Ts" if name == "amos_0008" else "Tr"
        assert tools["load"](tmp_path / "out" / f"images{part}" / f"{name}.nii.gz")[0].shape == (160, 160, 80)
    folder = CaseFolder(str(tmp_path / "out"), labeled=["amos_0507"])
    lists = [folder.labeled, folder.unlabeled, folder.validation, folder.test]
    assert [[case_name(case["image"]) for case in cases] for cases in lists] == [
        ["amos_0507"],
        ["amos_0001"],
        [],
        ["amos_0008"],
    ]
    check_cases(*lists, in_channels=1)


def test_an_archive_without_labels_of_the_test_cases_says_so(tree, split, tmp_path) -> None:
    shutil.rmtree(tree / "labelsVa")
    with pytest.raises(DataError, match=r"there is no .*labelsVa/amos_0008\.nii\.gz \(older archives have no labelsVa"):
        prepare_folder("amos", tree, tmp_path / "out", split=split)
    report = prepare_folder("amos", tree, tmp_path / "out", split=split, recipe="none", partial=True)
    assert "no case of the list test is there" in report["warnings"]
