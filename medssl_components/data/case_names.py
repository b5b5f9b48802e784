# SPDX-License-Identifier: Apache-2.0
"""From file names to case names, and from channel files to cases."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import DataError

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


def volumes_in(folder: Path) -> list[Path]:
    """Return the files of a folder that are volumes, by name; none if there is no such folder."""
    return sorted(path for path in folder.iterdir() if is_volume(path)) if folder.is_dir() else []


def is_volume(path: Path) -> bool:
    """Say whether a path looks like a volume that can be read, leaving out hidden files such as `._a.nii`."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def stem(path: str | Path) -> str:
    """Return a volume's file name without its extension, `.nii.gz` counting as one."""
    name = Path(path).name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def case_name(image: str | Path | Iterable[str | Path]) -> str:
    """Return the name of the case that an image belongs to; in a list of files the channel suffix is not part of it."""
    if isinstance(image, (str, Path)):
        return stem(image)
    first = stem(next(iter(image)))
    match = CHANNEL.match(first)
    return match["case"] if match else first


def image_entry(name: str, files: list[Path]) -> str | list[str]:
    """Return a case's image as its items hold it: one path, or a list where the names end in a channel suffix."""
    return str(files[0]) if name == stem(files[0]) else [str(path) for path in files]


def group_channels(paths: Iterable[Path], in_channels: int, label_names: Iterable[str] = ()) -> dict[str, list[Path]]:
    """Group image files into cases by nnU-Net's channel suffix `_0000`, `_0001`, ... where that is what it is.

    Numbered cases (`case_0001.nii.gz` with a label of the same name) end in four digits as well. The suffix counts as a
    channel only if every image has one, no label bears an image's full name, and at least one case has exactly the
    channels 0 .. in_channels - 1.

    Args:
        paths: image files of one folder.
        in_channels: number of channels that the network takes.
        label_names: names of the labels that belong to the folder.

    Returns:
        Case name to the case's files, both in order of name.

    Raises:
        DataError: if two files have the same name but for their folder or extension.
    """
    names: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: path.name):
        if stem(path) in names:
            raise DataError(f"{path}: another image of this name is {names[stem(path)]}; leave one of the two out")
        names[stem(path)] = path
    whole = {name: [path] for name, path in names.items()}
    matches = {name: CHANNEL.match(name) for name in names}
    if not names or not all(matches.values()) or set(label_names) & set(names):
        return whole
    groups: dict[str, list[Path]] = {}
    for name, path in names.items():
        groups.setdefault(matches[name]["case"], []).append(path)
    complete = [f"{channel:04d}" for channel in range(in_channels)]
    if not any([stem(path)[-4:] for path in group] == complete for group in groups.values()):
        return whole
    return groups


class CaseNameFormatter:
    """Name the file that MONAI's `SaveImaged` writes after the case, without the channel suffix of its image."""

    def __call__(self, meta: dict[str, Any], saver: Any) -> dict[str, Any]:
        """Return what `monai.data.FolderLayout.filename` takes; it cuts the extension off again, and nothing more."""
        return {"subject": f"{meta['case_name']}.nii.gz", "idx": None}
