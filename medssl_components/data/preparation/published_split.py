# SPDX-License-Identifier: Apache-2.0
"""The lists of cases that the literature trains and tests on."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError

FOLDER = Path(__file__).resolve().parent.parent / "splits"
LISTS = ("training", "validation", "test")


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
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lists = {key: [str(name) for name in content.get(key, [])] for key in LISTS}
        labeled = {key: [str(name) for name in chosen] for key, chosen in content.get("labeled", {}).items()}
        counts = dict(content.get("counts", {}))
        prefixes = {key: int(number) for key, number in content.get("labeled_counts", {}).items()}
        domains = dict(content.get("domains", {}))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as a split ({error}); give lists of case names in JSON") from error
    _check_lists(lists, path)
    for key, chosen in labeled.items():
        outside = set(chosen) - set(lists["training"])
        if outside or len(set(chosen)) != len(chosen):
            raise DataError(f"{path}: labeled {key} names {min(outside or chosen)!r} twice, or outside of training")
    for key, number in prefixes.items():
        if not 0 < number <= len(lists["training"]):
            raise DataError(f"{path}: labeled_counts {key} is {number} of {len(lists['training'])} training cases")
    _check_counts({**lists, "labeled": labeled}, counts, path)
    without = [name for names in lists.values() for name in names if name not in domains]
    if domains and without:
        raise DataError(f"{path}: domains has no entry for {without[0]!r}; give every case a domain, or none")
    return {"name": path.stem, **content, **lists}


def restrict_split(split: dict[str, Any], present: Collection[str]) -> dict[str, Any]:
    """Return the split with the cases that are there, in the published order, and the numbers that follow.

    Of the first n training cases that are labelled those that are there stay the first ones, so n shrinks by what is
    missing among them.
    """
    there = set(present)
    lists = {key: [name for name in split[key] if name in there] for key in LISTS}
    missing = [name for key in LISTS for name in split[key] if name not in there]
    labeled = {
        key: [str(name) for name in chosen if str(name) in there] for key, chosen in split.get("labeled", {}).items()
    }
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


def _check_lists(lists: dict[str, list[str]], path: Path) -> None:
    if not lists["training"]:
        raise DataError(f"{path}: has no training cases; give the lists training, validation and test")
    seen: dict[str, str] = {}
    for key, names in lists.items():
        for name in names:
            if name in seen:
                raise DataError(f"{path}: the case {name!r} is in {seen[name]} and again in {key}; keep it once")
            seen[name] = key


def _check_counts(lists: dict[str, Any], counts: dict[str, Any], path: Path) -> None:
    for key, count in counts.items():
        found = lists.get(key)
        size = {name: len(chosen) for name, chosen in found.items()} if isinstance(found, dict) else len(found or [])
        if size != count:
            raise DataError(f"{path}: {key} has {size} cases, but counts says {count}")
