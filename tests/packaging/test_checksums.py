# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io

import pytest

from medssl_components.data import DataError, hash_of, sha256_of
from medssl_components.packaging import read_checksums, write_checksums

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_bytes_and_files_have_the_known_hashes(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert sha256_of(b"") == sha256_of(tmp_path / "empty") == EMPTY
    assert hash_of(io.BytesIO(b"abc"), "md5") == "900150983cd24fb0d6963f7d28e17f72"
    large = b"x" * (3 << 20)
    assert hash_of(io.BytesIO(large)) == sha256_of(large)


def test_the_list_is_that_of_sha256sum_in_the_order_of_the_names():
    text = write_checksums({"b/c": b"", "a": b""}).decode()
    assert text == f"{EMPTY}  a\n{EMPTY}  b/c\n"
    assert read_checksums(text) == {"a": EMPTY, "b/c": EMPTY}


@pytest.mark.parametrize("line", [f"{EMPTY}  ../a", f"{EMPTY}  /a", f"{EMPTY} a", f"{EMPTY[:-1]}  a", ""])
def test_other_lines_are_refused(line):
    with pytest.raises(DataError, match="^SHA256SUMS: "):
        read_checksums(f"{EMPTY}  a\n{line}\n")
