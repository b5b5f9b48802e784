# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medssl_components.data import DataError, case_name, inference_cases

MakeFolder = Callable[..., Path]


def names(cases: list[dict]) -> list[str]:
    assert all(set(case) == {"image"} for case in cases)
    return [case_name(case["image"]) for case in cases]


def message(*arguments: object, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        inference_cases(*arguments, **options)
    return str(caught.value)


def test_images_of_the_test_folder_labelled_or_not(tmp_path: Path, make_folder: MakeFolder) -> None:
    folder = make_folder(tmp_path, shape=(4, 4, 3))
    shutil.rmtree(folder / "labelsTs")
    assert names(inference_cases(str(folder))) == ["case_06", "case_07"]


def test_images_in_the_folder_itself(tmp_path: Path, make_folder: MakeFolder) -> None:
    folder = make_folder(tmp_path, shape=(4, 4, 3)) / "imagesTr"
    (folder / "notes.txt").write_text("x")
    assert names(inference_cases(str(folder))) == [f"case_{number:02d}" for number in range(1, 6)]


def test_test_cases_of_the_split(tmp_path: Path, make_folder: MakeFolder) -> None:
    folder = make_folder(tmp_path, shape=(4, 4, 3), split=True)
    assert names(inference_cases(str(folder))) == ["case_07"]


def test_channel_files_are_one_case(tmp_path: Path, make_folder: MakeFolder) -> None:
    folder = make_folder(tmp_path, shape=(4, 4, 3), channels=2)
    cases = inference_cases(str(folder), in_channels=2)
    assert names(cases) == ["case_06", "case_07"]
    assert cases[0]["image"] == [str(folder / f"imagesTs/case_06_000{channel}.nii.gz") for channel in (0, 1)]


def test_inputs_take_the_place_of_the_folder(tmp_path: Path, make_folder: MakeFolder) -> None:
    folder = make_folder(tmp_path, shape=(4, 4, 3))
    path = str(folder / "imagesTr/case_02.nii.gz")
    assert inference_cases(str(folder), [path]) == [{"image": path}]
    assert inference_cases("gone", path) == [{"image": path}]


def test_what_cannot_be_predicted(tmp_path: Path, make_folder: MakeFolder) -> None:
    folder = make_folder(tmp_path / "data", shape=(4, 4, 3), test=0)
    (tmp_path / "empty").mkdir()
    assert message(str(folder), ["gone.nii.gz"]) == "gone.nii.gz: no such input file"
    assert message(str(folder)) == f"{folder}: has no imagesTs/ and no test case in a split; give --inputs"
    empty = str(tmp_path / "empty")
    assert message(empty) == f"{empty}: no scan to predict in it or in its imagesTs/; give --inputs"
    assert message("gone") == "dataset_dir 'gone' is not a folder; give one with scans in it, or --inputs"
    one, two = folder / "imagesTr/case_01.nii.gz", folder / "labelsTr/case_01.nii.gz"
    assert message(str(folder), [str(one), str(two)]) == (
        f"{two}: another image of this name is {one}; leave one of the two out"
    )
