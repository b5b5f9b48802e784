# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medssl_components.data import CaseFolder, DataError, case_name, unlabeled_cases


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


@pytest.fixture
def further(tmp_path: Path, folder: Path) -> Path:
    """Two new scans, a link to a test image, and copies, under their names, of a labelled and an unlabelled image."""
    path = tmp_path / "further"
    path.mkdir()
    for name in ("new_b.nii.gz", "new_a.nii.gz"):
        (path / name).write_bytes(b"x")
    (path / "notes.txt").write_text("no scan")
    (path / "other_name.nii.gz").symlink_to(folder / "imagesTs" / "case_07.nii.gz")
    for number in (1, 5):
        shutil.copyfile(item(folder, number)["image"], path / f"case_{number:02d}.nii.gz")
    return path


def test_the_scans_of_another_folder_come_after_those_beside(folder: Path, further: Path) -> None:
    cases = CaseFolder(str(folder), labeled=2)
    expected = [*cases.unlabeled, *({"image": str(further / f"new_{letter}.nii.gz")} for letter in "ab")]
    assert unlabeled_cases(cases.labeled, cases.validation, str(further)) == expected


def test_a_plain_list_takes_the_scans_of_another_folder_as_well(folder: Path, further: Path) -> None:
    labeled, validation = [item(folder, 1), item(folder, 2)], [item(folder, 3)]
    shutil.copyfile(item(folder, 3)["image"], further / "case_03.nii.gz")
    found = [case_name(case["image"]) for case in unlabeled_cases(labeled, validation, str(further))]
    assert found == ["case_04", "case_05", "case_06", "new_a", "new_b", "other_name"]


def test_neither_validation_nor_test_cases_come_from_another_folder(folder: Path, tmp_path: Path) -> None:
    lists = {"training": ["case_01", "case_04"], "validation": ["case_02"], "test": ["case_03", "case_08"]}
    (tmp_path / "split.json").write_text(json.dumps(lists))
    cases = CaseFolder(str(folder), split=str(tmp_path / "split.json"))
    found = unlabeled_cases(cases.labeled, cases.validation, str(folder / "imagesTr"))
    assert [case_name(case["image"]) for case in found] == ["case_04", "case_05", "case_06"]
    assert unlabeled_cases(cases.labeled, cases.validation, str(folder / "labelsTr")) == list(cases.unlabeled)


def test_channel_files_of_another_folder_stay_together(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    cases = CaseFolder(str(make_folder(tmp_path / "data", shape=(4, 4, 3), channels=2)), in_channels=2)
    (tmp_path / "further").mkdir()
    files = [tmp_path / "further" / f"new_{channel:04d}.nii.gz" for channel in (0, 1)]
    for file in files:
        file.write_bytes(b"x")
    for labeled in (cases.labeled, list(cases.labeled)):
        found = unlabeled_cases(labeled, (), str(tmp_path / "further"))
        assert found == [*cases.unlabeled, {"image": list(map(str, files))}]


def test_the_log_counts_the_scans_of_another_folder(folder: Path, further: Path, caplog) -> None:
    cases = CaseFolder(str(folder), labeled=2)
    with caplog.at_level(logging.INFO):
        unlabeled_cases(cases.labeled, cases.validation, str(further))
    left_out = "3 left out, which have the name or the file of another case"
    assert caplog.messages == [f"unlabeled_dir {further}: 2 further unlabelled cases; {left_out}"]


@pytest.mark.parametrize("empty", ["", None])
def test_no_other_folder_is_none(folder: Path, empty: str | None) -> None:
    cases = CaseFolder(str(folder), labeled=2)
    assert list(unlabeled_cases(cases.labeled, (), empty)) == list(cases.unlabeled)


def test_another_folder_that_is_not_there_or_empty_is_one_line(folder: Path, tmp_path: Path) -> None:
    cases = CaseFolder(str(folder))
    (tmp_path / "empty").mkdir()
    for name, why in (("gone", "is not a folder"), ("empty", "has no NIfTI")):
        with pytest.raises(DataError, match=f"^unlabeled_dir '{tmp_path / name}' {why}[^\n]*$"):
            unlabeled_cases(cases.labeled, (), str(tmp_path / name))


@pytest.mark.parametrize("yes", [True, "true"])
def test_labelled_only_is_no_unlabelled_case(folder: Path, tmp_path: Path, yes: bool | str) -> None:
    cases = CaseFolder(str(folder), labeled=2)
    assert unlabeled_cases(cases.labeled, (), str(tmp_path), labeled_only=yes) == []
    assert unlabeled_cases([item(folder, 1)], labeled_only=yes) == []
    assert len(unlabeled_cases(cases.labeled, labeled_only="false")) > 0
    with pytest.raises(DataError, match="labeled_only is 'perhaps'; give true or false"):
        unlabeled_cases(cases.labeled, labeled_only="perhaps")
