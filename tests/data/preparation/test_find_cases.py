# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from medssl_components.data import DataError
from medssl_components.data.preparation import Form
from medssl_components.data.preparation.find_cases import find_cases

FORM = Form(
    patterns={"image": r"img(?P<case>\d{2})\.nii(\.gz)?", "label": r"label(?P<case>\d{2})\.nii(\.gz)?"},
    expected={"image": "img{name}.nii.gz", "label": "label{name}.nii.gz"},
    read=lambda raw: None,
    recipes={},
    strangers={r"DET\d+": "is of other data; download the right one"},
)


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_files_are_found_at_any_depth_and_junk_is_not(tmp_path: Path) -> None:
    junk = ["a/__MACOSX/img03.nii.gz", "a/._img04.nii.gz", ".DS_Store", "desktop.ini", "a/myimg05.nii.gz.part"]
    source = make(tmp_path, "b/b/img02.nii", "a/img01.nii.gz", "labels/label02.nii.gz", "a/old_img06.nii", *junk)
    cases = find_cases(source, FORM)
    assert list(cases) == ["01", "02"]
    assert cases["01"].files == {"image": source / "a/img01.nii.gz"}
    assert cases["02"].files == {"image": source / "b/b/img02.nii", "label": source / "labels/label02.nii.gz"}


def test_links_to_folders_are_followed_and_never_in_circles(tmp_path: Path) -> None:
    target = make(tmp_path / "disk", "img01.nii.gz")
    source = make(tmp_path / "source", "img02.nii.gz")
    (source / "linked").symlink_to(target)
    (source / "circle").symlink_to(source)
    assert list(find_cases(source, FORM)) == ["01", "02"]


def test_a_file_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    source = make(tmp_path, "a/img01.nii.gz", "b/img01.nii")
    with pytest.raises(DataError, match=r"b/img01\.nii: another image of the case '01' is .*a/img01\.nii\.gz"):
        find_cases(source, FORM)


def test_other_data_is_named_where_there_is_nothing_else(tmp_path: Path) -> None:
    source = make(tmp_path, "averaged/DET0000101_avg.nii.gz")
    with pytest.raises(DataError, match=r"DET0000101_avg\.nii\.gz: is of other data; download the right one"):
        find_cases(source, FORM)
    assert list(find_cases(make(tmp_path, "img01.nii.gz"), FORM)) == ["01"]
