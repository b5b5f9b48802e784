# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from medssl_components.data import DataError
from medssl_components.engines import run_folder


def make_run(root, name, *files):
    (root / name).mkdir(parents=True)
    for file in files:
        (root / name / file).touch()


def test_new_runs_are_numbered_and_nothing_is_made(tmp_path):
    assert run_folder(str(tmp_path / "eval")) == str(tmp_path / "eval" / "run_001")
    assert list(tmp_path.iterdir()) == []
    make_run(tmp_path, "run_002", "settings.json")
    make_run(tmp_path, "run_other", "settings.json")
    assert run_folder(str(tmp_path)) == str(tmp_path / "run_003")


def test_a_run_that_left_nothing_gives_its_number_back(tmp_path):
    make_run(tmp_path, "run_001", "checkpoint.pt")
    make_run(tmp_path, "run_002")
    assert run_folder(str(tmp_path)) == str(tmp_path / "run_002")


def test_resume_takes_the_newest_run_with_a_checkpoint_or_the_named_one(tmp_path):
    make_run(tmp_path, "run_009", "checkpoint.pt")
    make_run(tmp_path, "run_010", "checkpoint.pt")
    make_run(tmp_path, "run_011", "settings.json")
    assert run_folder(str(tmp_path), resume=True) == str(tmp_path / "run_010")
    assert run_folder(str(tmp_path), resume="true") == str(tmp_path / "run_010")
    assert run_folder(str(tmp_path), resume="false") == str(tmp_path / "run_012")
    assert run_folder(str(tmp_path), resume="run_009") == str(tmp_path / "run_009")
    assert run_folder(str(tmp_path), resume=str(tmp_path / "run_009")) == str(tmp_path / "run_009")


@pytest.mark.parametrize("resume", [True, "run_011", "run_012"])
def test_nothing_to_resume_is_an_error(tmp_path, resume):
    make_run(tmp_path, "run_011", "settings.json")
    with pytest.raises(DataError, match="^resume: .*checkpoint.pt"):
        run_folder(str(tmp_path), resume=resume)
