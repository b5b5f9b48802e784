# SPDX-License-Identifier: Apache-2.0
"""The left atrium's download, and the functions that fakes are made with, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def la_tree(tmp_path: Path, fake_downloads: ModuleType) -> Path:
    """The download of the left atrium with three training cases, one test case, and what is beside them."""
    la = fake_downloads.la
    names = la.la_names(4)
    source = la.download(tmp_path / "2018_UTAH_MICCAI", names[:3])
    la.la_case(source / "Testing Set" / names[3], 4)
    (source / "Training Set" / names[1] / "._lgemri.nrrd").write_bytes(b"\0")
    return source


@pytest.fixture
def la_split(tmp_path: Path, tools: dict[str, Callable]) -> Path:
    """A split of those cases: two to train on, the first of them labelled, and one to test."""
    names = tools["la_names"](3)
    return tools["write_split"](tmp_path / "small.json", names[:2], [], names[2:], labeled_counts={"50%": 1})


@pytest.fixture(scope="session")
def tools(fake_downloads: ModuleType) -> dict[str, Callable]:
    """The functions that write and read files of the fakes, and those of the left atrium, by name."""
    volumes, la = fake_downloads.volumes, fake_downloads.la
    functions = (volumes.corner, volumes.write_nrrd, volumes.write_split, volumes.write_nifti, volumes.load)
    functions += (la.la_case, la.la_label, la.la_names)
    return {function.__name__: function for function in functions}
