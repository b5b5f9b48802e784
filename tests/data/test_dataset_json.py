# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from medssl_components.data import DataError
from medssl_components.data.dataset_json import channels_of, labels_of


def write(root: Path, content: object) -> None:
    (root / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))


def test_the_forms_of_the_decathlon_and_of_nnunet(tmp_path: Path) -> None:
    write(tmp_path, {"modality": {"1": "T1", "0": "FLAIR"}, "labels": {"0": "background", "2": "b", "1": "a"}})
    assert (channels_of(tmp_path), labels_of(tmp_path)) == (("FLAIR", "T1"), {0: "background", 1: "a", 2: "b"})
    write(tmp_path, {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}})
    assert (channels_of(tmp_path), labels_of(tmp_path)) == (("CT",), {0: "background", 1: "liver"})


def test_without_the_file_or_the_key_there_are_no_names(tmp_path: Path) -> None:
    assert (channels_of(tmp_path), labels_of(tmp_path)) == ((), {})
    write(tmp_path, {"name": "nothing else"})
    assert (channels_of(tmp_path), labels_of(tmp_path)) == ((), {})


def test_one_part_is_read_whatever_the_other_is(tmp_path: Path) -> None:
    write(tmp_path, {"channel_names": ["CT"], "labels": {"background": 0}})
    assert labels_of(tmp_path) == {0: "background"}
    with pytest.raises(DataError, match=r"dataset\.json: its channels cannot be read"):
        channels_of(tmp_path)
