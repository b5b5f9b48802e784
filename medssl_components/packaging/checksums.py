# SPDX-License-Identifier: Apache-2.0
"""The list of a bundle's files and their SHA-256, in the form that `sha256sum --check` reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..data import DataError, sha256_of
from .safe_path import safe_path

NAME = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64})  (.+)")


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
