# SPDX-License-Identifier: Apache-2.0
"""The zoo's list of files that are too large for its repository: where each is to be had, and its hash."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from ..data import DataError
from .safe_path import safe_path

NAME = "large_files.yml"
HASHES = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
FIELD = re.compile(r"""\s*(-?)\s*(\w+):\s+["']?(.*?)["']?\s*""")


class LargeFile(NamedTuple):
    """A file that is not in the bundle: its `path` there, the `url`, and a hash of the kind `hash_type`."""

    path: str
    url: str
    hash_val: str = ""
    hash_type: str = "sha256"


def write_large_files(files: Sequence[LargeFile]) -> bytes:
    """Return the content of `large_files.yml`.

    Raises:
        DataError: for a URL of another kind than https, or a hash that is none.
    """
    lines = ["large_files:"]
    for file in files:
        if not re.fullmatch(r"https://[^\s\"'\\]+", file.url):
            raise DataError(f"weights_url is {file.url!r}; give an address that starts with https://")
        _check_hash(file, "weights_hash")
        for number, (key, value) in enumerate(file._asdict().items()):
            lines.append(f"{'  ' if number else '- '}{key}: {json.dumps(value)}")
    return ("\n".join(lines) + "\n").encode()


def read_large_files(text: str) -> list[LargeFile]:
    """Return what a `large_files.yml` lists; of YAML only the plain form that the zoo's bundles have is read.

    Raises:
        DataError: for another form, an unknown kind of hash, or a path that leaves the bundle.
    """
    head, *lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")] or [""]
    entries: list[dict[str, str]] = []
    for line in lines:
        match = FIELD.fullmatch(line)
        if match is None or not (match[1] or entries):
            raise DataError(f"{NAME}: cannot read {line.strip()!r}; each entry has path, url, hash_val and hash_type")
        if match[1]:
            entries.append({})
        entries[-1][match[2]] = match[3]
    if head.strip() != "large_files:" or not all(entry.get("path") and entry.get("url") for entry in entries):
        raise DataError(f"{NAME}: give a list large_files, of which each entry has a path and a url")
    files = [LargeFile(**{key: entry[key] for key in LargeFile._fields if entry.get(key)}) for entry in entries]
    for file in files:
        safe_path(file.path, NAME)
        if file.hash_val:
            _check_hash(file, NAME)
    return files


def _check_hash(file: LargeFile, where: str) -> None:
    length = HASHES.get(file.hash_type)
    if length is None:
        raise DataError(f"{where}: hash_type is {file.hash_type!r}; give one of {', '.join(HASHES)}")
    if not re.fullmatch(rf"[0-9a-f]{{{length}}}", file.hash_val):
        raise DataError(f"{where}: {file.hash_val!r} are not the {length} hexadecimal digits of a {file.hash_type}")
