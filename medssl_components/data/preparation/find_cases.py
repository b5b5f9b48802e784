# SPDX-License-Identifier: Apache-2.0
"""The cases of a download, wherever in its tree they lie."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import DataError
from .data_set import Form, RawCase

JUNK = re.compile(r"^(\._.*|\.DS_Store|__MACOSX|desktop\.ini|Thumbs\.db)$", re.IGNORECASE)


def find_cases(source: Path, form: Form) -> dict[str, RawCase]:
    """Return the cases of a folder by name; what operating systems leave in archives is passed over.

    Args:
        source: the unpacked download, with as many levels of folders as there are.
        form: what the files are called.

    Raises:
        DataError: if a case's file is there twice, or if there is no case but files of some other data.
    """
    patterns = {role: re.compile(rf"(^|/){pattern}$") for role, pattern in form.patterns.items()}
    cases: dict[str, dict[str, Path]] = {}
    strange: tuple[Path, str] | None = None
    for path in walk(source):
        relative = path.relative_to(source).as_posix()
        for role, pattern in patterns.items():
            match = pattern.search(relative)
            if match:
                files = cases.setdefault(match["case"], {})
                if role in files:
                    raise DataError(
                        f"{path}: another {role} of the case {match['case']!r} is {files[role]}; remove one of the two"
                    )
                files[role] = path
        for pattern, message in form.strangers.items():
            strange = strange or ((path, message) if re.search(pattern, relative) else None)
    if strange and not cases:
        raise DataError(f"{strange[0]}: {strange[1]}")
    return {name: RawCase(name, files) for name, files in sorted(cases.items())}


def walk(folder: Path) -> Iterator[Path]:
    """Yield all files of a folder in order of name, through links to folders but never into one folder twice."""
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not JUNK.match(name))
        yield from (Path(root, name) for name in sorted(files) if not JUNK.match(name))
