# SPDX-License-Identifier: Apache-2.0
"""No case in two lists, which would score a model on what it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import DataError


def check_disjoint(lists: dict[str, list[tuple[str, list[Path]]]], source: str | Path = "") -> None:
    """Raise a `DataError` if a case is in two lists, or twice in one, by its name or by the real path of its files.

    Args:
        lists: for each list its cases, names and files.
        source: the file or folder that the lists come from, for the message.
    """
    seen: dict[Any, tuple[str, str]] = {}
    for part, cases in lists.items():
        for name, files in cases:
            keys = (name, *(path.resolve() for path in files))
            for key in keys:
                if key in seen:
                    prefix = f"{source}: " if source else ""
                    raise DataError(prefix + _one_case(name, part, *seen[key]))
            seen.update({key: (name, part) for key in keys})


def _one_case(name: str, part: str, other: str, other_part: str) -> str:
    if name != other:
        return f"the cases {other!r} ({other_part}) and {name!r} ({part}) are one file; leave one of them out"
    if part != other_part:
        return f"the case {name!r} is in two lists, {other_part} and {part}; keep it in one"
    return f"the case {name!r} is twice in the list {part}; keep it once"
