# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from medssl_components.engines import atomic_path, atomic_save


def test_replaces_the_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "new" / "a.pt"
    for value in (1, 2):
        atomic_save({"value": torch.tensor(value)}, path)
        assert torch.load(path, weights_only=True)["value"].item() == value
        assert list(path.parent.iterdir()) == [path]


def test_a_failure_keeps_the_earlier_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("whole")

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_the_file_as_any_new_one(tmp_path):
    (tmp_path / "usual").touch()
    atomic_save(1, tmp_path / "a.pt")
    assert (tmp_path / "a.pt").stat().st_mode == (tmp_path / "usual").stat().st_mode
