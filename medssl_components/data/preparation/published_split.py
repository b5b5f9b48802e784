# SPDX-License-Identifier: Apache-2.0
"""The lists of cases that the literature trains and tests on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ..check_disjoint import check_disjoint
from ..errors import DataError
from ..split_file import OWN_FOLDERS, SplitFile, read_split
from ..split_file import SPLIT_LISTS as LISTS

FOLDER = OWN_FOLDERS[0]


def published_splits() -> list[str]:
    """Return the names of all splits that come with this package."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load_split(split: str, known: Sequence[str] | None = None) -> dict[str, Any]:
    """Read a published split, or a file of the same form, and check it.

    The lists `training`, `validation` and `test` hold case names in the published order. The first n of `training` are
    the labelled ones, and `labeled_counts` says for which n results are published; or `labeled` has explicit lists.
    `counts` repeats the lengths of the lists. `domains` may give every case the domain that it comes from.

    Args:
        split: name of a published split, or the path of a JSON file.
        known: names of the published splits to choose from; by default all.

    Raises:
        DataError: if there is no such split, a list is missing, a case is listed twice or in two lists, a labelled case
            is no training case, a list has another length than `counts` says, or only some cases have a domain.
    """
    names = published_splits() if known is None else known
    path = FOLDER / f"{split}.json" if split in names else Path(split)
    if path.suffix != ".json" or not path.is_file():
        raise DataError(f"split is {split!r}; give {', '.join(names)} or the path of a JSON file")
    found = read_split(path)
    check_disjoint({key: [(name, []) for name in found.lists[key]] for key in LISTS}, path)
    training, prefixes = found.lists["training"], _numbers(found, "labeled_counts")
    labeled = {key: chosen for key, chosen in found.labeled.items() if key not in prefixes}
    for key, chosen in labeled.items():
        outside = set(chosen) - set(training)
        if outside or len(set(chosen)) != len(chosen):
            raise DataError(f"{path}: labeled {key} names {min(outside or chosen)!r} twice, or outside of training")
    for key, number in prefixes.items():
        if not isinstance(number, int) or not 0 < number <= len(training):
            raise DataError(f"{path}: labeled_counts {key} is {number!r} of {len(training)} training cases")
    for key, count in _numbers(found, "counts").items():
        lists = labeled if key == "labeled" else found.lists.get(key, [])
        size = {name: len(chosen) for name, chosen in lists.items()} if isinstance(lists, dict) else len(lists)
        if size != count:
            raise DataError(f"{path}: {key} has {size} cases, but counts says {count}")
    return {"name": path.stem, **found.content, **found.lists, "labeled": labeled}


def restrict_split(split: dict[str, Any], present: Collection[str]) -> dict[str, Any]:
    """Return the split with the cases that are there, in the published order, and the numbers that follow.

    Of the first n training cases that are labelled those that are there stay the first ones, so n shrinks by what is
    missing among them.
    """
    there = set(present)
    lists = {key: [name for name in split[key] if name in there] for key in LISTS}
    missing = [name for key in LISTS for name in split[key] if name not in there]
    labeled = {key: [name for name in chosen if name in there] for key, chosen in split["labeled"].items()}
    prefixes = {
        key: sum(name in there for name in split["training"][:number])
        for key, number in split.get("labeled_counts", {}).items()
    }
    result: dict[str, Any] = {key: split[key] for key in ("name", "description", "source", "notes") if key in split}
    result.update(lists)
    for key, value in (("labeled_counts", prefixes), ("labeled", labeled)):
        if value:
            result[key] = value
    if "domains" in split:
        result["domains"] = {name: split["domains"][name] for names in lists.values() for name in names}
    result["counts"] = {key: len(names) for key, names in lists.items()}
    return {**result, "missing": missing} if missing else result


def _numbers(split: SplitFile, key: str) -> dict[str, Any]:
    numbers = split.content.get(key, {})
    if not isinstance(numbers, dict):
        raise DataError(f"{split.path}: {key} is no table of numbers; leave it out, or give each list its number")
    return numbers
