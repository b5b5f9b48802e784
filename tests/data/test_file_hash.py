# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import io
from pathlib import Path

from medssl_components.data import hash_of, sha256_of


def test_hashes_of_bytes_of_streams_and_of_files_longer_than_a_block(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    assert sha256_of(content) == sha256_of(tmp_path / "file") == hash_of(io.BytesIO(content)) == expected
    assert hash_of(io.BytesIO(b"abc"), "md5") == "900150983cd24fb0d6963f7d28e17f72"
