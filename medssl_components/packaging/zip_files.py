# SPDX-License-Identifier: Apache-2.0
"""A zip whose bytes depend on its files' names and content alone."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

FIRST_DAY = (1980, 1, 1, 0, 0, 0)
PLAIN_FILE = 0o100644
UNIX = 3


def write_zip(path: Path, files: Mapping[str, bytes | Path], top: str) -> None:
    """Write files to a zip in the order of their names, all with the same date and mode.

    They are stored, not compressed: another version of zlib compresses to other bytes, and weights hardly shrink.

    Args:
        path: where the zip goes.
        files: the content of each file, or where it lies, by its path below the top folder.
        top: name of the one folder that the zip has at its top.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(f"{top}/{name}", FIRST_DAY)
            entry.create_system, entry.external_attr = UNIX, PLAIN_FILE << 16
            content = files[name]
            if isinstance(content, bytes):
                archive.writestr(entry, content)
            else:
                entry.file_size = content.stat().st_size  # tells zipfile whether a 64-bit header is needed
                with open(content, "rb") as source, archive.open(entry, "w") as target:
                    shutil.copyfileobj(source, target)
