# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys

import pytest

from medssl_components.data import CaseFolder, DataError
from medssl_components.engines import user_error_line


def caught(function):
    with pytest.raises(Exception) as information:
        function()
    return information.value


def wrapped(function):
    """Raise as MONAI does, which wraps what a config raises, twice."""
    try:
        try:
            function()
        except Exception as error:
            raise RuntimeError("Failed to evaluate ConfigExpression: \n 'many lines'") from error
    except RuntimeError as error:
        raise RuntimeError("and once more") from error


def missing_folder():
    return CaseFolder("no/such/folder").names


def test_finds_the_line_through_all_wrappers():
    line = user_error_line(caught(lambda: wrapped(missing_folder)))
    assert line == "dataset_dir 'no/such/folder' is not a folder; give one that has imagesTr/ in it"


def test_finds_errors_by_where_they_were_raised():
    from medssl_components.ops import predictive_entropy

    error = caught(lambda: wrapped(lambda: predictive_entropy(__import__("torch").ones(1, 1))))
    assert user_error_line(error).startswith("probs has the shape (1, 1);")


def test_errors_of_others_are_no_user_errors():
    def mistake():
        raise ValueError("a mistake in somebody's code")

    assert user_error_line(caught(lambda: wrapped(mistake))) is None
    assert user_error_line(caught(lambda: wrapped(lambda: {}["key"]))) is None


def test_error_of_a_loader_worker_shows_its_own_line():
    text = "Caught DataError in DataLoader worker process 0.\nOriginal Traceback:\n  File x\n"
    error = DataError(f"{text}medssl_components.data.errors.DataError: a.nii.gz: cannot be read")
    assert user_error_line(error) == "a.nii.gz: cannot be read"


SCRIPT = """
from medssl_components.data import DataError
from medssl_components.engines import one_line_errors
one_line_errors()
one_line_errors()
try:
    raise DataError("labels/a.nii.gz: is wrong")
except DataError as error:
    raise RuntimeError("wrapped") from error
"""


@pytest.mark.parametrize("debug", ["0", "1"])
def test_process_ends_with_the_line_and_code_1(debug):
    import os

    environment = {**os.environ, "MONAI_DEBUG": debug}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    if debug == "0":
        assert done.stderr.splitlines()[-1] == "error: labels/a.nii.gz: is wrong"
        assert "Traceback" not in done.stderr
    else:
        assert "Traceback" in done.stderr
