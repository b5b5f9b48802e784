# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medssl_components.commands import prepare
from medssl_components.data import DataError

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("0002", "0003")


@pytest.fixture
def source(tmp_path: Path, write_volume) -> Path:
    for number, name in enumerate(NAMES):
        label = np.zeros((6, 5, 4), np.uint8)
        label[1:3, number + 1 :, 2] = 7
        write_volume(tmp_path / "raw" / "img" / f"img{name}.nii.gz", label.astype(np.int16) * 9, np.eye(4))
        write_volume(tmp_path / "raw" / "label" / f"label{name}.nii.gz", label, np.eye(4))
    return tmp_path / "raw"


def test_the_command_says_what_it_made_and_what_is_missing(source: Path, tmp_path: Path, caplog) -> None:
    """Options as the command line passes them."""
    with caplog.at_level("INFO"):
        prepare("synapse", source, tmp_path / "out", recipe="none", split="synapse_ad", partial="true")
    lines = [record.getMessage().strip() for record in caplog.records]
    assert lines[0].endswith(f"recipe none, split synapse_ad, in {tmp_path / 'out'}")
    assert lines[1] == "2 training, 0 validation, 0 test, 28 missing, 0 not used"
    assert "missing: 0004: no img/img0004.nii.gz" in lines
    assert "missing: and 18 more, all in prepare.json" in lines
    assert sorted(path.name for path in (tmp_path / "out" / "imagesTr").iterdir()) == ["0002.nii.gz", "0003.nii.gz"]


def test_an_error_is_one_line(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "medssl_components", "prepare", "synapse", "--split", "la_uamt"]
    command += ["--source", str(source), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    assert done.stderr.splitlines()[-1] == (
        "error: split is 'la_uamt'; give synapse_skcdf, synapse_ad, synapse_dhc_2023 or the path of a JSON file"
    )


@pytest.mark.parametrize("option", [{"processes": 0}, {"processes": "two"}, {"seed": 0.5}, {"partial": "maybe"}])
def test_options_are_checked(source: Path, tmp_path: Path, option: dict) -> None:
    with pytest.raises(DataError, match=next(iter(option))):
        prepare("synapse", str(source), str(tmp_path / "out"), **option)
    assert not (tmp_path / "out").exists()
