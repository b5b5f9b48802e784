# SPDX-License-Identifier: Apache-2.0
"""What a split file says: which cases train, validate and test, and which domains they come from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import DataError

SPLIT_LISTS = ("training", "validation", "test")
OWN_FOLDERS = tuple(Path(__file__).resolve().parent / name for name in ("splits", "scenarios"))
FURTHER_SPLITS = "splits"  # in a data set's folder, where it serves several


@dataclass(frozen=True)
class SplitFile:
    """A split file's content.

    Args:
        path: where it is.
        lists: case names under "training", "validation" and "test".
        labeled: lists of labelled cases by their names, such as "5%", from the file's `labeled`, or the first training
            cases by its `labeled_counts`; empty if the file has neither.
        domains: case name to domain, such as a scanner or a modality; empty if the file has none.
        content: all that the file says.
    """

    path: Path
    lists: dict[str, list[str]]
    labeled: dict[str, list[str]]
    domains: dict[str, str]
    content: dict[str, Any]


def find_split(split: str, root: Path) -> Path | None:
    """Return the path of a split file, or None if there is none to use.

    Args:
        split: "auto" for `split.json` of the folder, if it is there; the name that this file gives itself, that of a
            file in `splits/` of the folder, or of a split that comes with this package; or a path.
        root: the data set's folder.
    """
    own = root / "split.json"
    if split == "auto" or split == _name(own):
        return own if own.is_file() else None
    named = (folder / f"{split}.json" for folder in (root / FURTHER_SPLITS, *OWN_FOLDERS))
    return next((path for path in named if path.is_file()), Path(split))


def read_split(path: Path) -> SplitFile:
    """Read a split file.

    Raises:
        DataError: if it cannot be read, has no training list, or gives a domain to some of its cases but not to all.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a split file ({error}); give one in JSON") from error
    lists = {key: content.get(key, []) if isinstance(content, dict) else None for key in SPLIT_LISTS}
    if not lists["training"] or not all(isinstance(names, list) for names in lists.values()):
        raise DataError(f"{path}: is no split file; give it the lists training, validation and test of case names")
    lists = {key: list(map(str, names)) for key, names in lists.items()}
    labeled = _labeled_lists(content, lists["training"])
    return SplitFile(path, lists, labeled, _domains(content.get("domains", {}), lists, path), content)


def _name(path: Path) -> str | None:
    """Return the name that a split file gives itself, if it is there and does."""
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("name")
    except (OSError, ValueError, AttributeError):
        return None


def _labeled_lists(content: dict[str, Any], training: list[str]) -> dict[str, list[str]]:
    labeled, counts = (content.get(key) for key in ("labeled", "labeled_counts"))
    lists = {}
    if isinstance(counts, dict):
        lists |= {str(key): training[:number] for key, number in counts.items() if isinstance(number, int)}
    if isinstance(labeled, dict) and all(isinstance(names, list) for names in labeled.values()):
        lists |= {str(key): list(map(str, names)) for key, names in labeled.items()}
    return lists


def _domains(domains: Any, lists: dict[str, list[str]], path: Path) -> dict[str, str]:
    if not isinstance(domains, dict) or not all(isinstance(name, str) and name for name in domains.values()):
        raise DataError(f'{path}: domains is no table of names; give each case its domain, {{"case_a": "mr"}}')
    without = [repr(name) for names in lists.values() for name in names if name not in domains]
    if domains and without:
        shown = ", ".join(without[:3]) + (f" and {len(without) - 3} more" if len(without) > 3 else "")
        raise DataError(f"{path}: domains has no entry for {shown}; give every case of the split a domain, or none")
    return domains
