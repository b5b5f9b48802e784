# SPDX-License-Identifier: Apache-2.0
"""The cases of a download whose images are DICOM series."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import DataError
from .data_set import Form, RawCase
from .find_cases import find_cases, walk
from .read_series import MODALITY, PATIENT, SUFFIX, read_tags


def find_series(source: Path, form: Form, prefix: str, modality: str = "CT") -> dict[str, RawCase]:
    """Return the cases of a folder by name; the image of a case is the folder of its slices, or one file.

    A folder belongs to the patient whose name is in its path, whatever stands around it; where there is none, to that
    of the tag PatientID of its first slice. Folders of other patients and of other modalities are passed over.

    Args:
        source: the unpacked download, with as many levels of folders as there are.
        form: what labels, and images that are one file, are called; the group `case` of its patterns is the number of
            the case.
        prefix: what stands before the number in the names of patients and cases.
        modality: the Modality to take.

    Raises:
        DataError: if a case has two series or two files of one role, or the first slice of a folder cannot be read.
    """
    patient = re.compile(rf"{re.escape(prefix)}(\d+)")
    cases = {f"{prefix}{number}": dict(raw.files) for number, raw in find_cases(source, form).items()}
    for folder, first in _folders(source).items():
        tags = read_tags(first)
        match = patient.search(folder.relative_to(source).as_posix()) or patient.search(tags.get(PATIENT, ""))
        if not match or tags.get(MODALITY) != modality:
            continue
        files = cases.setdefault(match[0], {})
        if "image" in files:
            raise DataError(
                f"{folder}: another image of the case {match[0]!r} is {files['image']}; remove one of the two"
            )
        files["image"] = folder
    return {name: RawCase(name, files) for name, files in sorted(cases.items())}


def _folders(source: Path) -> dict[Path, Path]:
    """Return every folder that holds slices, and the first of them."""
    folders: dict[Path, Path] = {}
    for path in walk(source):
        if path.suffix.lower() == SUFFIX:
            folders.setdefault(path.parent, path)
    return folders
