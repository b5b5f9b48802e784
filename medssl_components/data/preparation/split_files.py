# SPDX-License-Identifier: Apache-2.0
"""The split files of a prepared folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from .data_set import DataSet
from .published_split import LISTS, load_split, restrict_split
from .report import write_json

OTHERS = "splits"


def other_splits(data_set: DataSet, wanted: Mapping[str, Any], there: Collection[str]) -> list[dict[str, Any]]:
    """Return the published splits that a prepared folder serves beside the one it is made for.

    Args:
        data_set: the data set; most need a folder for each split.
        wanted: the split that the folder is made for; one of the user's own stands alone.
        there: the cases that are there.
    """
    if not data_set.one_folder or wanted["name"] not in data_set.splits:
        return []
    splits = [restrict_split(load_split(name), there) for name in data_set.splits if name != wanted["name"]]
    return [split for split in splits if split["training"]]


def write_splits(
    output: Path, chosen: Mapping[str, Any], others: Sequence[Mapping[str, Any]], records: Mapping[str, Any]
) -> None:
    """Write `split.json`, and the other splits to `splits/` under their names."""
    write_json(output / "split.json", _with_domains(chosen, records))
    for split in others:
        (output / OTHERS).mkdir(exist_ok=True)
        write_json(output / OTHERS / f"{split['name']}.json", _with_domains(split, records))


def _with_domains(split: Mapping[str, Any], records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the split with the domains that the import found, if it has none of its own and every case has one."""
    domains = {case: records[case].get("domain") for key in LISTS for case in split[key]}
    return {"domains": domains, **split} if all(domains.values()) else dict(split)
