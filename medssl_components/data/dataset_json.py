# SPDX-License-Identifier: Apache-2.0
"""What a folder's `dataset.json` says of channels and classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from .errors import DataError

DATASET_JSON = "dataset.json"
Read = TypeVar("Read")


def channels_of(root: Path) -> tuple[str, ...]:
    """Return the names of the channels: `modality` of the Medical Segmentation Decathlon, `channel_names` of nnU-Net.

    Args:
        root: the data set's folder; without the file in it, or the key in the file, there are no names.

    Raises:
        DataError: if the file cannot be read.
    """

    def read(content: dict[str, Any]) -> tuple[str, ...]:
        channels = content.get("channel_names", content.get("modality", {}))
        return tuple(str(channels[key]) for key in sorted(channels, key=int))

    return _read(root, "channels", read, ())


def labels_of(root: Path) -> dict[int, str]:
    """Return the names of the classes by their numbers.

    Both forms are read: `{"0": "background", "1": "liver"}` of the Medical Segmentation Decathlon and
    `{"background": 0, "liver": 1}` of nnU-Net.

    Args:
        root: the data set's folder; without the file in it, or the key in the file, there are no names.

    Raises:
        DataError: if the file cannot be read.
    """

    def read(content: dict[str, Any]) -> dict[int, str]:
        labels = content.get("labels", {}).items()
        decathlon = all(key.isdigit() for key, _ in labels)
        return {int(a): str(b) for a, b in labels} if decathlon else {int(b): str(a) for a, b in labels}

    return _read(root, "labels", read, {})


def _read(root: Path, what: str, read: Callable[[dict[str, Any]], Read], nothing: Read) -> Read:
    path = root / DATASET_JSON
    if not path.is_file():
        return nothing
    try:
        return read(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: its {what} cannot be read ({error}); correct or remove it") from error
