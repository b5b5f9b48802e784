# SPDX-License-Identifier: Apache-2.0
"""The table of M&Ms: which frames of a subject are labelled, and whose scanner made them."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from .data_set import Form, RawCase
from .find_cases import find_cases, walk

TABLE = re.compile(r"dataset_information_diagnosis.*\.csv$", re.IGNORECASE)
TABLE_NAME = "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
COLUMNS = ("External code", "Vendor", "Centre", "ED", "ES")
FRAME = "_sa_"


@dataclass(frozen=True)
class Subject:
    """One row of the table.

    Args:
        vendor: letter of the scanner's vendor, "A" to "D".
        centre: number of the centre.
        phases: frame numbers of end diastole and end systole, counted from 0, by "ED" and "ES".
    """

    vendor: str
    centre: str
    phases: dict[str, int]

    @property
    def labeled(self) -> bool:
        """Whether the subject has labels: the others have one and the same number in both columns."""
        return self.phases["ED"] != self.phases["ES"]


def read_table(path: Path) -> dict[str, Subject]:
    """Return the subjects of the table by their codes; columns are found by name.

    Raises:
        DataError: if it cannot be read, a column is missing, a subject has two rows or a frame is no whole number.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table ({error}); copy it again") from error
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
    if missing:
        raise DataError(
            f"{path}: has no column {', '.join(map(repr, missing))}; take the table of the download as it is"
        )
    subjects: dict[str, Subject] = {}
    for row in rows:
        code = (row["External code"] or "").strip()
        if not code:
            continue
        if code in subjects:
            raise DataError(f"{path}: has two rows of the subject {code!r}; take the table of the download as it is")
        phases = {phase: _frame(row[phase], code, phase, path) for phase in ("ED", "ES")}
        subjects[code] = Subject((row["Vendor"] or "").strip(), _whole(row["Centre"]), phases)
    return subjects


def find_frames(source: Path, form: Form) -> dict[str, RawCase]:
    """Return the labelled frames of a folder by name, such as A0S9V9_sa_9; every subject gives two.

    Args:
        source: the unpacked download, with as many levels of folders as there are.
        form: what the files of a subject are called; the group `case` of its patterns is the subject's code.

    Raises:
        DataError: if there are scans but no table, or two, or if the table does not have a subject.
    """
    found = find_cases(source, form)
    if not found:
        return {}
    tables = [path for path in walk(source) if TABLE.search(path.name)]
    if len(tables) != 1:
        there = f"{len(tables)} tables, such as {tables[1]}; keep one" if tables else f"no {TABLE_NAME}; add it"
        raise DataError(f"{source}: holds scans of M&Ms and {there}")
    subjects = read_table(tables[0])
    frames = {}
    for code, raw in found.items():
        if code not in subjects:
            path = next(iter(raw.files.values()))
            raise DataError(f"{path}: {tables[0].name} has no subject {code!r}; move it away, or take the whole table")
        if subjects[code].labeled:
            for frame in subjects[code].phases.values():
                name = f"{code}{FRAME}{frame}"
                frames[name] = RawCase(name, {**raw.files, "table": tables[0]})
    return frames


def _frame(text: str | None, code: str, phase: str, path: Path) -> int:
    try:
        number = float(text or "")
    except ValueError:
        number = -1.0
    if number < 0 or number != int(number):
        raise DataError(f"{path}: {phase} of the subject {code!r} is {text!r}; a frame number from 0 is expected")
    return int(number)


def _whole(text: str | None) -> str:
    """Return a number without its decimals, which some programs add."""
    return re.sub(r"\.0+$", "", (text or "").strip())
