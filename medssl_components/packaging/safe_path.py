# SPDX-License-Identifier: Apache-2.0
"""Paths that stay inside a bundle."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

from ..data import DataError


def safe_path(name: str, where: str) -> str:
    """Return `name`, a path such as `models/model.pt`, if it lies inside the folder that it is relative to.

    Args:
        name: a relative path, with `/` between its parts.
        where: the file that the path stands in, for the error.

    Raises:
        DataError: for an absolute path, one with `..`, a drive, a backslash, or any other spelling than the plain one.
    """
    path = PurePosixPath(name)
    plain = path.as_posix() == name and name != "." and "\\" not in name and name.isprintable()
    if not plain or path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive:
        raise DataError(f"{where}: the path {name!r} leaves the bundle's folder or is not a plain one; do not use it")
    return name
