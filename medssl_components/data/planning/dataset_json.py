# SPDX-License-Identifier: Apache-2.0
"""What a folder's `dataset.json` says of channels and classes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from ..case_folder import CaseFolder
from ..case_names import CHANNEL, stem, volumes_in
from ..dataset_json import channels_of, labels_of
from ..errors import DataError
from ..header import read_header

COMPUTED_TOMOGRAPHY = re.compile(r"(?<![a-z])ct(?![a-z])", re.IGNORECASE)
MAGNETIC_RESONANCE = re.compile(r"(?<![a-z])mri?(?![a-z])", re.IGNORECASE)


class DatasetJson(NamedTuple):
    """Names of the channels and number of classes, background included; empty or 0 where the file does not say."""

    channels: tuple[str, ...] = ()
    num_classes: int = 0


def read_dataset_json(root: Path) -> DatasetJson:
    """Read what `dataset.json` says, in the form of the Medical Segmentation Decathlon or of nnU-Net.

    Args:
        root: the data set's folder; without a `dataset.json` in it the answer is empty.

    Raises:
        DataError: if the file is there and is not such a file.
    """
    return DatasetJson(channels_of(root), len(labels_of(root)))


def is_ct(channel: str) -> bool:
    """Say whether a channel's name has the word CT in it, and not MR too, as that of a set of both kinds of scans."""
    return COMPUTED_TOMOGRAPHY.search(channel) is not None and MAGNETIC_RESONANCE.search(channel) is None


def count_channels(root: Path, described: DatasetJson) -> int:
    """Return the number of channels of a case, from `dataset.json`, else from the names and a header in `imagesTr/`.

    Files `case_0000`, `case_0001` are channels of one case if every image of the folder has such an end and no label
    has an image's whole name, as in `group_channels`; a 4-D file has as many channels as volumes.

    Args:
        root: the data set's folder.
        described: what its `dataset.json` says.
    """
    paths = volumes_in(root / "imagesTr")
    if not paths:
        raise DataError(CaseFolder(str(root)).why_empty("labeled"))
    if described.channels:
        return len(described.channels)
    matches = [CHANNEL.match(stem(path)) for path in paths]
    labelled = {stem(path) for path in volumes_in(root / "labelsTr")}
    if all(matches) and not labelled & {stem(path) for path in paths}:
        groups: dict[str, list[int]] = {}
        for match in matches:
            groups.setdefault(match["case"], []).append(int(match["channel"]))
        whole = [len(group) for group in groups.values() if sorted(group) == list(range(len(group)))]
        if whole:
            return max(whole)
    return read_header(paths[0]).channels
