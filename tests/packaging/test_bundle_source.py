# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from medssl_components.data import DataError
from medssl_components.packaging import open_bundle

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


def test_weights_runs_and_what_servers_write_stay_behind(tmp_path):
    root = Path(shutil.copytree(BUNDLES / "supervised" / "configs", tmp_path / "own" / "configs")).parent
    shutil.copytree(BUNDLES / "supervised" / "docs", root / "docs")
    shutil.copy(BUNDLES / "supervised" / "LICENSE", root)
    for name in ("models/model.pt", "eval/run_001/a.json", "configs/monailabel_train.json", "docs/.hidden"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}")
    source, own = open_bundle(str(root)), open_bundle("supervised")
    assert source.name == "own"
    assert {path.split("/")[0] for path in source.files} == {"LICENSE", "configs", "docs"}
    assert not {"configs/monailabel_train.json", "docs/.hidden"} & set(source.files)
    assert source.config("train") == own.config("train")
    (root / "docs" / "data_license.txt").unlink()
    with pytest.raises(DataError, match="data_license.txt: not there"):
        open_bundle(str(root))


def test_an_unknown_bundle_is_answered_with_those_that_there_are():
    with pytest.raises(DataError, match="no bundle 'supervized' in .*; there are: dbisl, dtlp, "):
        open_bundle("supervized")
