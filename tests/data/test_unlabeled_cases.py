# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medssl_components.data import CaseFolder, unlabeled_cases


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_folder: Callable[..., Path]) -> Path:
    return make_folder(tmp_path_factory.mktemp("source") / "data", shape=(4, 4, 3), unlabeled=3)


def item(folder: Path, number: int, suffix: str = "") -> dict[str, Any]:
    return {kind: str(folder / f"{kind}sTr/case_{number:02d}{suffix}.nii.gz") for kind in ("image", "label")}


def test_a_list_of_a_folder_has_the_unlabelled_cases_of_that_folder(folder: Path) -> None:
    cases = CaseFolder(str(folder), labeled=2)
    assert list(unlabeled_cases(cases.labeled, cases.validation)) == list(cases.unlabeled)


def test_it_reads_nothing_for_the_list_of_a_folder(tmp_path: Path) -> None:
    cases = CaseFolder(str(tmp_path / "gone"))
    unlabeled_cases(cases.labeled, cases.validation)


def test_beside_a_plain_list_the_other_volumes_of_its_folder_are_unlabelled(folder: Path) -> None:
    labeled, validation = [item(folder, 1), item(folder, 2)], [item(folder, 3)]
    expected = [{"image": item(folder, number)["image"]} for number in (4, 5, 6)]
    assert unlabeled_cases(labeled, validation) == expected


def test_labels_and_hidden_files_in_the_same_folder_are_no_unlabelled_cases(folder: Path, tmp_path: Path) -> None:
    for name in ("a.nii.gz", "a_seg.nii.gz", "b.nii.gz", "._b.nii.gz"):
        (tmp_path / name).write_bytes(b"x")
    labeled = [{"image": str(tmp_path / "a.nii.gz"), "label": str(tmp_path / "a_seg.nii.gz")}]
    assert unlabeled_cases(labeled) == [{"image": str(tmp_path / "b.nii.gz")}]


def test_a_link_to_a_labelled_image_is_no_unlabelled_case(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"x")
    (tmp_path / "twin.nii.gz").symlink_to(tmp_path / "a.nii.gz")
    assert unlabeled_cases([{"image": str(tmp_path / "a.nii.gz"), "label": "a"}]) == []


def test_channel_files_stay_together(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    cases = CaseFolder(str(make_folder(tmp_path, shape=(4, 4, 3), channels=2)), in_channels=2)
    assert unlabeled_cases(list(cases.labeled)) == list(cases.unlabeled)
