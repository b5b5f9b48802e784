# SPDX-License-Identifier: Apache-2.0
"""The scans to predict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .case_folder import BUILT_IN, CaseFolder
from .case_names import group_channels, image_entry, volumes_in
from .errors import DataError


def inference_cases(
    dataset_dir: str, inputs: Sequence[str] = (), in_channels: int = 1, split: str = "auto"
) -> list[dict[str, Any]]:
    """List the scans to predict: those given, else `imagesTs/`, else the folder's own, else the split's test cases.

    Args:
        dataset_dir: folder to look in, or "builtin:NAME".
        inputs: image files; they take the place of the folder.
        in_channels: number of channels that the network takes.
        split: as in `CaseFolder`.

    Returns:
        `{"image": path or channel paths}` for every scan.

    Raises:
        DataError: if there is no scan, an input is missing, or two inputs have one case name.
    """
    paths = [Path(path) for path in ([inputs] if isinstance(inputs, str) else inputs)]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: no such input file")
    if not paths and not dataset_dir.startswith(BUILT_IN):
        root = Path(dataset_dir)
        if not root.is_dir():
            raise DataError(f"dataset_dir {dataset_dir!r} is not a folder; give one with scans in it, or --inputs")
        folder = root / "imagesTs" if (root / "imagesTs").is_dir() else root
        paths = volumes_in(folder)
    if not paths:
        test = CaseFolder(dataset_dir, split=split, in_channels=in_channels)
        if not dataset_dir.startswith(BUILT_IN) and not (test.root / "imagesTr").is_dir():
            raise DataError(f"{dataset_dir}: no scan to predict in it or in its imagesTs/; give --inputs")
        if not test.names["test"]:
            raise DataError(f"{dataset_dir}: has no imagesTs/ and no test case in a split; give --inputs")
        return [{"image": case["image"]} for case in test.test]
    return [{"image": image_entry(name, files)} for name, files in group_channels(paths, in_channels).items()]
