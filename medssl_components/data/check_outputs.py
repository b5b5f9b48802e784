# SPDX-License-Identifier: Apache-2.0
"""A check that predictions overwrite nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .case_names import case_name
from .errors import DataError


def check_outputs(cases: Sequence[dict[str, Any]], output_dir: str, overwrite: bool = False) -> None:
    """Stop if a prediction's file is there already, or if it would be the image itself.

    Args:
        cases: the cases to predict.
        output_dir: where `<case>.nii.gz` will be written.
        overwrite: whether an earlier prediction may be replaced; an input never is.

    Raises:
        DataError: for the first such file.
    """
    for case in cases:
        files = case["image"] if isinstance(case["image"], list) else [case["image"]]
        path = Path(output_dir) / f"{case_name(case['image'])}.nii.gz"
        if path.exists() and any(path.samefile(file) for file in files):
            raise DataError(f"{path}: the prediction would replace the image; give another --output_dir")
        if path.exists() and not overwrite:
            raise DataError(f"{path}: is there already; give another --output_dir, or --overwrite true")
