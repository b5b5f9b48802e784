# SPDX-License-Identifier: Apache-2.0
"""The unlabelled scans that belong to a list of labelled ones."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .case_list import CaseList
from .case_names import case_name, group_channels, image_entry, volumes_in
from .errors import DataError
from .flag import flag

logger = logging.getLogger(__name__)


def unlabeled_cases(
    labeled: Sequence[dict[str, Any]],
    validation: Sequence[dict[str, Any]] = (),
    unlabeled_dir: str | None = "",
    labeled_only: bool | str = False,
) -> Sequence[dict[str, Any]]:
    """Return the unlabelled cases beside a labelled list, and those of a further folder.

    For a list of a `CaseFolder` these are the folder's unlabelled cases. For any other list, such as the one that MONAI
    Label puts into `train::dataset::data`, these are the other volumes in the folders of the labelled images, grouped
    by channel if the labelled ones are lists of channel files.

    Args:
        labeled: labelled cases, `{"image": path, "label": path}`.
        validation: cases to leave out because they are validated on.
        unlabeled_dir: a folder with further unlabelled scans in it; "" or None for none. A scan with the file or the
            name of a case of any list, those to test on included, is left out. These scans have no domain, so where
            others have one they count as one more.
        labeled_only: train on the labelled cases alone, so return none.

    Returns:
        Cases without a label key; empty if there are none.

    Raises:
        DataError: if `unlabeled_dir` is no folder, or has no scan in it.
    """
    if flag(labeled_only, "labeled_only"):
        return []
    beside = labeled.folder.unlabeled if isinstance(labeled, CaseList) else _beside(labeled, validation)
    if not unlabeled_dir:
        return beside
    known = [*labeled, *validation, *beside, *_test_cases(labeled)]
    in_channels = labeled.folder.in_channels if isinstance(labeled, CaseList) else _channels(labeled)
    return [*beside, *_further(str(unlabeled_dir), known, in_channels)]


def _beside(labeled: Sequence[dict[str, Any]], validation: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    taken = _real_files((*labeled, *validation))
    folders = dict.fromkeys(Path(_paths(case["image"])[0]).parent for case in labeled)
    found = (path for folder in folders for path in volumes_in(folder))
    return _group([path for path in found if os.path.realpath(path) not in taken], _channels(labeled))


def _further(unlabeled_dir: str, known: Sequence[dict[str, Any]], in_channels: int | None) -> list[dict[str, Any]]:
    folder = Path(unlabeled_dir)
    if not folder.is_dir():
        raise DataError(f"unlabeled_dir {unlabeled_dir!r} is not a folder; give one with unlabelled scans in it")
    found = _group(volumes_in(folder), in_channels)
    if not found:
        raise DataError(f"unlabeled_dir {unlabeled_dir!r} has no NIfTI, NRRD or MetaImage file in it; give another")
    names, taken = {case_name(case["image"]) for case in known}, _real_files(known)
    cases = [case for case in found if case_name(case["image"]) not in names and not _real_files([case]) & taken]
    left_out = len(found) - len(cases)
    note = f"; {left_out} left out, which have the name or the file of another case" if left_out else ""
    logger.info("unlabeled_dir %s: %d further unlabelled cases%s", unlabeled_dir, len(cases), note)
    return cases


def _group(paths: Sequence[Path], in_channels: int | None) -> list[dict[str, Any]]:
    if in_channels is None:
        return [{"image": str(path)} for path in paths]
    return [{"image": image_entry(name, files)} for name, files in group_channels(paths, in_channels).items()]


def _test_cases(labeled: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if not isinstance(labeled, CaseList):
        return []
    return [labeled.folder.item(name, labeled=True) for name in labeled.folder.names["test"]]


def _channels(labeled: Sequence[dict[str, Any]]) -> int | None:
    """Return the number of channel files a case, or None if an image is one file."""
    return max((len(case["image"]) for case in labeled if isinstance(case["image"], (list, tuple))), default=None)


def _real_files(cases: Iterable[dict[str, Any]]) -> set[str]:
    return {os.path.realpath(path) for case in cases for key in ("image", "label") for path in _paths(case.get(key))}


def _paths(value: Any) -> list[str]:
    if value is None:
        return []
    return list(map(str, value)) if isinstance(value, (list, tuple)) else [str(value)]
