# SPDX-License-Identifier: Apache-2.0
"""The files that say what a prepared folder holds and how it was made."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from ..errors import DataError
from .data_set import DataSet
from .published_split import LISTS

REPORT = "prepare.json"
SHOWN = 3
SAME_RUN = ("data_set", "form", "recipe", "transforms", "split", "split_sha256", "seed")


def earlier_cases(output: Path, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what an earlier run noted of each case, after making sure that the folder is that run's.

    Args:
        output: the folder to write to.
        settings: what has to be the same for a run to go on, by the names in `SAME_RUN`.

    Raises:
        DataError: if the folder holds files of anything else, or of other settings.
    """
    path = output / REPORT
    if not path.exists():
        if output.is_dir() and any(entry != _aside(path) for entry in output.iterdir()):
            raise DataError(f"{output}: is not empty and holds no {REPORT}; give a new folder as --output")
        return {}
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        before = {key: report[key] for key in SAME_RUN}
        cases = {case: {**record, "done": bool(record["done"])} for case, record in report["cases"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: is no report of an earlier run; give a new folder as --output") from error
    for key in SAME_RUN:
        if before[key] != settings[key]:
            what = f"{before[key]!r}, not {settings[key]!r}"
            what = "of another version" if key in ("transforms", "split_sha256") else what
            raise DataError(f"{path}: was written with the {key} {what}; give a new folder as --output")
    for case, record in cases.items():
        files = [output / f"{kind}{record.get('part')}" / f"{case}.nii.gz" for kind in ("images", "labels")]
        record["done"] = record["done"] and all(file.is_file() for file in files)
    return cases


def odd_things(
    records: Mapping[str, Mapping[str, Any]],
    wanted: Mapping[str, Any],
    chosen: Mapping[str, Any],
    gone: list[str],
) -> list[str]:
    """Return one line for everything that was odd.

    Args:
        records: what was noted of each case.
        wanted: the split as published.
        chosen: the split with the cases that are there.
        gone: cases that an earlier run made, whose source files are gone.
    """
    lines = [f"{case}: {text}" for case, record in records.items() for text in record["warnings"]]
    lines += [f"{case}: its source files are gone; kept as made before" for case in gone]
    lists = {case: key for key in LISTS for case in chosen[key]}
    withdrawn = set(wanted.get("withdrawn", []))
    lines += [f"{case}: was withdrawn by its owners; it is in {lists[case]}" for case in lists if case in withdrawn]
    for case, domain in chosen.get("domains", {}).items():
        found = records[case].get("domain", domain)
        if found != domain:
            lines.append(f"{case}: its files say that it is of the domain {found!r}, the split says {domain!r}")
    twins: dict[str, list[str]] = {}
    for case, record in records.items():
        twins.setdefault(record["label_sha256"] or case, []).append(case)
    for one, other in (pair for group in twins.values() for pair in combinations(group, 2)):
        one_list, other_list = (lists.get(case, "no list of this split") for case in (one, other))
        where = f"both in {one_list}" if one_list == other_list else f"in {one_list} and in {other_list}"
        lines.append(f"{one} and {other} have the same label, so they are one acquisition twice, {where}")
    lines += [f"no case of the list {key} is there" for key in LISTS if wanted[key] and not chosen[key]]
    for key, number in wanted.get("labeled_counts", {}).items():
        left, training = chosen["labeled_counts"][key], chosen["training"]
        if left != number:
            line = f"labelled cases are missing: {key} has {left}, not {number}"
            lines.append(line + _in_their_place(number, training[left:number]))
    for key, names in wanted.get("labeled", {}).items():
        left = len(chosen["labeled"][key])
        if left != len(names):
            lines.append(f"labelled cases are missing: {key} has {left}, not {len(names)}")
    return lines


def _in_their_place(number: int, cases: list[str]) -> str:
    """Say which training cases come next, where the first ones are the labelled ones."""
    more = f" and {len(cases) - SHOWN} more" if len(cases) > SHOWN else ""
    return f"; --labeled {number} takes {', '.join(cases[:SHOWN])}{more} in their place" if cases else ""


def dataset_json(data_set: DataSet, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return `dataset.json` in nnU-Net's form."""
    parts = [record["part"] for record in records.values()]
    return {
        "name": data_set.title,
        "reference": data_set.reference,
        "channel_names": {str(number): channel for number, channel in enumerate(data_set.channel_names)},
        "labels": {class_name: number for number, class_name in enumerate(data_set.class_names)},
        "numTraining": parts.count("Tr"),
        "numTest": parts.count("Ts"),
        "file_ending": ".nii.gz",
    }


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that is never there by half."""
    _aside(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(_aside(path), path)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")
