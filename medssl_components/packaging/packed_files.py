# SPDX-License-Identifier: Apache-2.0
"""The files of a packed bundle, in a folder or still in its zip."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..data import DataError
from .safe_path import safe_path


class FolderFiles:
    """Files of a folder.

    Args:
        root: the bundle's folder.

    Raises:
        DataError: for a link that leads out of the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = root.resolve().name
        self.names = []
        for path in sorted(root.rglob("*")):
            if not path.is_dir():
                self.names.append(safe_path(path.relative_to(root).as_posix(), str(root)))
            if path.is_symlink() and root.resolve() not in path.resolve().parents:
                raise DataError(f"{path}: is a link that leads out of the bundle's folder; remove it")

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file for reading bytes."""
        with open(self.root / name, "rb") as stream:
            yield stream


class ZipFiles:
    """Files of a zip with one folder at its top; nothing is written to the disk.

    Args:
        path: of the zip.

    Raises:
        DataError: for a file that is no zip, or members that are links, twice the same or outside the one folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except zipfile.BadZipFile as error:
            raise DataError(f"{path}: is no zip, or a damaged one; get it again") from error
        self.name, self.names = "", []
        for member in members:
            name = safe_path(member.filename.removesuffix("/"), str(path))
            top, _, rest = name.partition("/")
            self.name = self.name or top
            if top != self.name or not (rest or member.is_dir()):
                raise DataError(
                    f"{path}: {name!r} is not in the folder {self.name!r}; a bundle's zip has one at its top"
                )
            if stat.S_ISLNK(member.external_attr >> 16):
                raise DataError(f"{path}: {name!r} is a link; do not unpack it")
            if not member.is_dir():
                self.names.append(rest)
        if len({name.casefold() for name in self.names}) < len(self.names):
            raise DataError(f"{path}: two of its files have the same name; do not unpack it")

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Read a file into memory, and open it for reading bytes.

        Raises:
            DataError: if the zip is damaged there.
        """
        try:
            with zipfile.ZipFile(self.path) as archive:
                content = archive.read(f"{self.name}/{name}")
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{self.path}: {name} is damaged; get it again") from error
        with io.BytesIO(content) as stream:
            yield stream


def packed_files(path: Path) -> FolderFiles | ZipFiles:
    """Return the files of a packed bundle.

    Raises:
        DataError: if there is neither a folder nor a zip at the path.
    """
    if path.is_dir():
        return FolderFiles(path)
    if not path.is_file():
        raise DataError(f"{path}: no such folder or zip")
    return ZipFiles(path)
