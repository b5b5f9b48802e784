# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from medssl_components.data import DataError, class_names


@pytest.mark.parametrize(
    "labels",
    [{"0": "background", "2": "spleen", "1": "liver"}, {"background": 0, "liver": 1, "spleen": 2}],
    ids=["decathlon", "nnU-Net"],
)
def test_reads_both_forms_of_dataset_json(tmp_path, labels):
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert class_names(str(tmp_path), 3) == ["background", "liver", "spleen"]


def test_without_the_file_classes_are_numbered(tmp_path):
    assert class_names(str(tmp_path), 3) == ["background", "class_1", "class_2"]


def test_built_in_scans_are_not_made_for_their_names(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "cache"))
    assert class_names("builtin:one_organ", 2) == ["background", "atrium"]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", ['{"labels": {"a": 0}}', '{"labels": {"a": [1, 2]}}', "{}", "no json"])
def test_other_content_is_an_error_that_names_the_file(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DataError, match="^.*dataset.json: "):
        class_names(str(tmp_path), 2)
