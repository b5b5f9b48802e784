# SPDX-License-Identifier: Apache-2.0
"""A check that predictions overwrite nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .case_names import case_name
from .errors import DataError
from .flag import flag


def check_outputs(cases: Sequence[dict[str, Any]], output_dir: str, overwrite: bool | str = False) -> None:
    """Stop if a prediction's file is there already, or if a prediction would replace an image.

    Args:
        cases: the cases to predict.
        output_dir: where `<case>.nii.gz` will be written.
        overwrite: whether an earlier prediction may be replaced; an input never is.

    Raises:
        DataError: for the first such file.
    """
    inputs = {_file(path) for case in cases for path in _paths(case["image"])}
    for case in cases:
        path = Path(output_dir) / f"{case_name(case['image'])}.nii.gz"
        if path.exists() and _file(path) in inputs:
            raise DataError(f"{path}: the prediction would replace an image; give another --output_dir")
        if path.exists() and not flag(overwrite, "overwrite"):
            raise DataError(f"{path}: is there already; give another --output_dir, or --overwrite true")


def _paths(image: Any) -> Sequence[str]:
    return image if isinstance(image, (list, tuple)) else [image]


def _file(path: str | Path) -> tuple[int, int]:
    stat = os.stat(path)  # one file may have many names
    return stat.st_dev, stat.st_ino
