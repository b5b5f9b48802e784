# SPDX-License-Identifier: Apache-2.0
"""The list of a bundle's files and their SHA-256, in the form that `sha256sum --check` reads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from ..data import DataError
from .safe_path import safe_path

NAME = "SHA256SUMS"
BLOCK = 1 << 20
LINE = re.compile(r"([0-9a-f]{64})  (.+)")


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


def write_checksums(files: Mapping[str, bytes | Path]) -> bytes:
    """Return the list for some files, by name.

    Args:
        files: the content of each file, or where it lies, by its path in the bundle.
    """
    return "".join(f"{sha256_of(files[name])}  {name}\n" for name in sorted(files)).encode()


def read_checksums(text: str) -> dict[str, str]:
    """Return the SHA-256 of each file in a list.

    Raises:
        DataError: for a line of another form, or a path that leaves the bundle.
    """
    sums = {}
    for number, line in enumerate(text.splitlines(), start=1):
        match = LINE.fullmatch(line)
        if match is None:
            raise DataError(f"{NAME}: line {number} is not a SHA-256 and a path; pack the bundle again")
        sums[safe_path(match[2], NAME)] = match[1]
    return sums
