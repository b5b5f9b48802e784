# SPDX-License-Identifier: Apache-2.0
"""The unlabelled scans that belong to a list of labelled ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .case_folder import CaseList
from .case_names import group_channels, image_entry, is_volume


def unlabeled_cases(
    labeled: Sequence[dict[str, Any]], validation: Sequence[dict[str, Any]] = ()
) -> Sequence[dict[str, Any]]:
    """Return the unlabelled cases beside a labelled list.

    For a list of a `CaseFolder` these are the folder's unlabelled cases. For any other list, such as the one that MONAI
    Label puts into `train::dataset::data`, these are the other volumes in the folders of the labelled images, grouped
    by channel if the labelled ones are lists of channel files.

    Args:
        labeled: labelled cases, `{"image": path, "label": path}`.
        validation: cases to leave out because they are validated on.

    Returns:
        Cases without a label key; empty if there are none.
    """
    if isinstance(labeled, CaseList):
        return labeled.folder.unlabeled
    taken = {os.path.realpath(path) for case in (*labeled, *validation) for key in case for path in _paths(case[key])}
    folders = dict.fromkeys(Path(_paths(case["image"])[0]).parent for case in labeled)
    beside = (path for folder in folders for path in sorted(folder.iterdir()) if is_volume(path))
    others = [path for path in beside if os.path.realpath(path) not in taken]
    channels = {len(case["image"]) for case in labeled if isinstance(case["image"], (list, tuple))}
    if not channels:
        return [{"image": str(path)} for path in others]
    groups = group_channels(others, in_channels=max(channels))
    return [{"image": image_entry(name, files)} for name, files in groups.items()]


def _paths(value: Any) -> list[str]:
    return list(map(str, value)) if isinstance(value, (list, tuple)) else [str(value)]
