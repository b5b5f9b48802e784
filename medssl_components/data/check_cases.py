# SPDX-License-Identifier: Apache-2.0
"""Checks of names and headers, before anything is trained or predicted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .case_folder import BUILT_IN, PARTS
from .case_list import CaseList
from .case_names import case_name
from .check_disjoint import check_disjoint
from .errors import DataError
from .header import read_header

logger = logging.getLogger(__name__)


def check_case(case: dict[str, Any], in_channels: int, tolerance: float = 0.1) -> None:
    """Check one case's headers: readable, the right number of channels, image and label on one grid.

    Args:
        case: `{"image": path or channel paths}`, with or without a label.
        in_channels: number of channels that the network takes.
        tolerance: allowed displacement between corners of image and label grid, in parts of the smallest voxel side.

    Raises:
        DataError: for the first file that fails.
    """
    files = _files(case["image"])
    headers = [read_header(path) for path in files]
    channels = sum(header.channels for header in headers)
    if channels != in_channels:
        raise DataError(f"{files[0]}: the case has {channels} channel(s), but in_channels is {in_channels}")
    image = headers[0]
    others = list(zip(files[1:], headers[1:], strict=True))
    if "label" in case:
        label = read_header(case["label"])
        if label.channels != 1:
            raise DataError(
                f"{case['label']}: a label has one channel, this one has {label.channels}; use class indices"
            )
        others.append((str(case["label"]), label))
    for path, header in others:
        if header.shape != image.shape:
            raise DataError(f"{path}: has the shape {header.shape}, but {files[0]} has {image.shape}; resample one")
        if header.displacement(image) > tolerance * image.spacing.min():
            raise DataError(f"{path}: lies elsewhere in space than {files[0]} (another affine); resample one of them")


def check_cases(*lists: Sequence[dict[str, Any]], in_channels: int, num_threads: int = 8) -> None:
    """Check headers, grids and names of all cases at once.

    Args:
        lists: labelled, unlabelled, validation and test cases, as many of these lists as there are; a case may be in
            one of them only, and the first must not be empty.
        in_channels: number of channels that the network takes.
        num_threads: files are opened by that many threads.

    Raises:
        DataError: for the first case that fails.
    """
    if not len(lists[0]):
        raise DataError(_nothing_in(lists[0]))
    names = [[(case_name(case["image"]), _paths(case)) for case in cases] for cases in lists]
    check_disjoint(dict(zip(PARTS, names, strict=False)))
    with ThreadPoolExecutor(num_threads) as pool:
        for _ in pool.map(lambda case: check_case(case, in_channels), [case for cases in lists for case in cases]):
            pass
    counts = [f"{len(cases)} {part}" for part, cases in zip(PARTS, lists, strict=False)]
    logger.info("checked the headers of %s cases", " + ".join(counts) if len(lists) > 1 else len(lists[0]))


def warn_if_built_in(data: str | Sequence[dict[str, Any]]) -> None:
    """Warn if a data set folder, or a list of cases, is the built-in synthetic scans and not anybody's data."""
    source = data.folder.dataset_dir if isinstance(data, CaseList) else data
    if isinstance(source, str) and source.startswith(BUILT_IN):
        logger.warning("no dataset_dir was given: this run is on the built-in synthetic scans, not on your data")


def _nothing_in(cases: Sequence[dict[str, Any]]) -> str:
    if isinstance(cases, CaseList) and cases.part in ("validation", "test"):
        return f"{cases.folder.root}: no {cases.part} case; name some in split.json"
    return "no labelled case; put images into imagesTr/ and labels of the same names into labelsTr/"


def _files(image: Any) -> list[str]:
    return list(map(str, image)) if isinstance(image, (list, tuple)) else [str(image)]


def _paths(case: dict[str, Any]) -> list[Path]:
    return [Path(path) for path in _files(case["image"])]
