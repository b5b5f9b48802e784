# SPDX-License-Identifier: Apache-2.0
"""The hash of a file, by which two copies of it can be told apart."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

BLOCK = 1 << 20  # bytes


def hash_of(stream: BinaryIO, kind: str = "sha256") -> str:
    """Return the hash of an open file as hexadecimal digits.

    Args:
        stream: a file that is open for reading bytes.
        kind: `md5`, `sha1`, `sha256` or `sha512`, the words of the zoo's `large_files.yml`.
    """
    digest = hashlib.new(kind)
    for block in iter(lambda: stream.read(BLOCK), b""):
        digest.update(block)
    return digest.hexdigest()


def sha256_of(content: bytes | Path) -> str:
    """Return the SHA-256 of bytes, or of the file at a path."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with open(content, "rb") as stream:
        return hash_of(stream)
