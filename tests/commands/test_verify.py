# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from medssl_components.commands import verify
from medssl_components.data import DataError
from medssl_components.packaging import LargeFile, write_checksums, write_large_files


def test_what_was_found_is_said(tmp_path, caplog):
    large = write_large_files([LargeFile("models/model.pt", "https://example.org/model.pt", "0" * 64)])
    files = {"configs/metadata.json": b'{"version": "1.2.3"}', "large_files.yml": large}
    files["SHA256SUMS"] = write_checksums(files)
    for name, content in files.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_bytes(content)
    with caplog.at_level("INFO", "medssl"):
        verify(tmp_path / "own")
    assert [record.getMessage().strip() for record in caplog.records] == [
        "own 1.2.3: 2 files as they were packed",
        "weights: none",
        "not here: models/model.pt; python -m monai.bundle download_large_files gets it",
        "its configs are code: use it if you trust its source",
    ]


def test_a_path_that_is_none_is_named(tmp_path):
    with pytest.raises(DataError, match=f"^{tmp_path / 'none'}: no such folder or zip"):
        verify(str(tmp_path / "none"))
