# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import zipfile

from medssl_components.packaging import write_zip


def test_bytes_depend_on_names_and_content_alone(tmp_path):
    weights = tmp_path / "weights"
    weights.write_bytes(b"w" * 1000)
    write_zip(tmp_path / "one.zip", {"b": b"2", "a/c": b"1", "m": weights}, "top")
    os.utime(weights, (1, 1))
    weights.chmod(0o600)
    write_zip(tmp_path / "two.zip", {"m": weights, "a/c": b"1", "b": b"2"}, "top")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.namelist() == ["top/a/c", "top/b", "top/m"]
        assert archive.read("top/m") == weights.read_bytes()
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o100644}
