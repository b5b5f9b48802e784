# SPDX-License-Identifier: Apache-2.0
"""Every published split can be chosen, and its folder trained on by the split's own name."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from medssl_components.data import CaseFolder, case_name
from medssl_components.data.preparation import DATA_SETS, load_split, prepare_folder

SPLITS = [(name, split) for name, data_set in DATA_SETS.items() for split in data_set.splits]


@pytest.mark.parametrize(("data_set", "name"), SPLITS)
def test_a_published_split_can_be_chosen(data_set: str, name: str, fake_downloads: ModuleType, tmp_path: Path) -> None:
    split = load_split(name)
    chosen = [*split["training"][:2], *split["validation"][:1], *split["test"][:1]]
    chosen = fake_downloads.mnms.NAMES if data_set == "mnms" else chosen
    source = getattr(fake_downloads, data_set).download(tmp_path / "source", chosen)
    report = prepare_folder(data_set, source, tmp_path / "out", recipe="none", split=name, partial=True)
    assert report["split"] == name and report["split_sha256"] and len(report["missing"]) > 0
    written = json.loads((tmp_path / "out" / "split.json").read_text())
    for part in ("training", "validation", "test"):
        assert written[part] == [case for case in split[part] if case in report["cases"]]
    assert written["training"] and written["test"] and written["source"] == split["source"]
    folder = CaseFolder(str(tmp_path / "out"), labeled=1, split=name)
    assert case_name(folder.labeled[0]["image"]) == written["training"][0]
    assert [case_name(case["image"]) for case in folder.test] == written["test"]
