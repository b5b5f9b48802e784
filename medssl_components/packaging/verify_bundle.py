# SPDX-License-Identifier: Apache-2.0
"""Whether a packed bundle is whole and stays in its folder, found out without running any of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from ..data import DataError, hash_of
from . import checksums, large_files
from .check_weights import read_weights
from .checksums import read_checksums
from .large_files import read_large_files
from .packed_files import FolderFiles, ZipFiles, packed_files

WEIGHTS = (".pt", ".pth")


class Verified(NamedTuple):
    """What was found: `name`, `version`, the number of `files` that agree, the `weights`, and what is `elsewhere`."""

    name: str
    version: str
    files: int
    weights: tuple[str, ...]
    elsewhere: tuple[str, ...]


def verify_bundle(path: Path) -> Verified:
    """Check a packed bundle, a folder or a zip, without unpacking it and without running code of it.

    All files agree with `SHA256SUMS`, those of `large_files.yml` that are there with their hashes, no path leaves the
    folder, and weights are plain state dicts that load with `weights_only=True`. In a folder, `eval/`, Python's caches
    and further files in `models/` may be there besides, as training and export write them.

    Raises:
        DataError: with the first thing that is wrong.
    """
    files = packed_files(path)
    sums = read_checksums(_text(files, checksums.NAME, path))
    for name, expected in sums.items():
        _compare(files, name, "sha256", expected, path)
    large = read_large_files(_text(files, large_files.NAME, path)) if large_files.NAME in files.names else []
    for file in large:
        if file.path in files.names and file.hash_val:
            _compare(files, file.path, file.hash_type, file.hash_val, path)
    known = {checksums.NAME, *sums, *(file.path for file in large)}
    for name in files.names:
        if name not in known and not (isinstance(files, FolderFiles) and _comes_with_use(name)):
            raise DataError(f"{path}: {name} is not in {checksums.NAME}; it does not belong to the bundle")
    weights = tuple(name for name in files.names if name.endswith(WEIGHTS) and not name.startswith("eval/"))
    for name in weights:
        with files.open(name) as stream:
            read_weights(stream, f"{path}: {name}")
    elsewhere = tuple(file.path for file in large if file.path not in files.names)
    metadata = json.loads(_text(files, "configs/metadata.json", path))
    return Verified(files.name, str(metadata["version"]), len(sums), weights, elsewhere)


def _text(files: FolderFiles | ZipFiles, name: str, path: Path) -> str:
    if name not in files.names:
        raise DataError(f"{path}: has no {name}; the command pack writes it")
    with files.open(name) as stream:
        return stream.read().decode()


def _compare(files: FolderFiles | ZipFiles, name: str, kind: str, expected: str, path: Path) -> None:
    if name not in files.names:
        raise DataError(f"{path}: {name} is missing; get the bundle again")
    with files.open(name) as stream:
        if hash_of(stream, kind) != expected:
            raise DataError(f"{path}: {name} is not the file that was packed, its {kind} differs; get the bundle again")


def _comes_with_use(name: str) -> bool:
    return name.startswith(("eval/", "models/")) or "__pycache__/" in name
