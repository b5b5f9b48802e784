# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medssl_components.data import DataError
from medssl_components.data.planning import DatasetJson, count_channels, is_ct, read_dataset_json


def write(root: Path, content: object) -> None:
    (root / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))


def images(root: Path, *names: str) -> None:
    for part in ("imagesTr", "labelsTr"):
        (root / part).mkdir(exist_ok=True)
    for name in names:
        (root / name).touch()


def test_the_forms_of_the_decathlon_and_of_nnunet(tmp_path: Path) -> None:
    assert read_dataset_json(tmp_path) == ((), 0)
    write(tmp_path, {"modality": {"1": "T1", "0": "FLAIR"}, "labels": {"0": "background", "1": "a", "2": "b"}})
    assert read_dataset_json(tmp_path) == (("FLAIR", "T1"), 3)
    write(tmp_path, {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}})
    assert read_dataset_json(tmp_path) == (("CT",), 2)
    write(tmp_path, {"name": "nothing else"})
    assert read_dataset_json(tmp_path) == ((), 0)


@pytest.mark.parametrize("content", ["{", "[]", {"modality": {"first": "CT"}}, {"labels": 3}])
def test_another_content_is_an_error_that_names_the_file(tmp_path: Path, content: object) -> None:
    write(tmp_path, content)
    with pytest.raises(DataError, match=r"dataset\.json: its (channels|labels) cannot be read") as caught:
        read_dataset_json(tmp_path)
    assert "\n" not in str(caught.value)


def test_ct_is_a_word() -> None:
    assert [is_ct(name) for name in ("CT", "ct", "CT scan", "CT_1", "PET/CT")] == [True] * 5
    assert [is_ct(name) for name in ("MRI", "PET", "octant", "T1ce", "", "CT or MR")] == [False] * 6


def test_channels_are_those_of_the_file_else_of_the_names(tmp_path: Path) -> None:
    images(tmp_path, *(f"imagesTr/{case}_{channel:04d}.nii.gz" for case in "ab" for channel in range(3)))
    images(tmp_path, "labelsTr/a.nii.gz")
    assert count_channels(tmp_path, DatasetJson()) == 3
    assert count_channels(tmp_path, DatasetJson(("T1", "T2"))) == 2


def test_a_number_that_the_label_has_too_is_no_channel(tmp_path: Path, write_volume) -> None:
    for number in range(2):
        write_volume(tmp_path / "imagesTr" / f"case_{number:04d}.nii.gz", np.zeros((4, 4, 4, 3), np.int16), np.eye(4))
    images(tmp_path, "labelsTr/case_0000.nii.gz")
    assert count_channels(tmp_path, DatasetJson()) == 3  # as the 4-D files say


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="imagesTr: holds no NIfTI"):
        count_channels(tmp_path, DatasetJson())
