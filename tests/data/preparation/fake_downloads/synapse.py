# SPDX-License-Identifier: Apache-2.0
"""Synapse: all thirteen organs in each scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .volumes import write_nifti

SHAPE = (20, 18, 9)
AFFINE = np.array([[-0.8, 0, 0, 90], [0, 0.8, 0, -70], [0, 0, 3.0, 11], [0, 0, 0, 1]])
NAMES = ("0001", "0007", "0021", "0035", "0008")


def organs(name: str) -> np.ndarray:
    """Blocks of all values; the right kidney at low, the left at high x, each at another y and z."""
    label = np.zeros(SHAPE, np.uint8)
    for value in range(1, 14):
        label[value, 2 + value % 5 : 5 + value % 5, value % 4 : value % 4 + 2] = value
    label[2:4, 3:6, 1:4] = 2
    label[15:18, 9:14, 5:8] = 3
    label[19, 17 - int(name) // 9, int(name) % 9] = 1
    return label


def download(source: Path, cases: Sequence[str] = NAMES) -> Path:
    """Write the cases, a scan without a label, and the other data of the project."""
    for name in cases:
        label = organs(name)
        image = np.where(label > 0, label * 20.0, -1024.0)
        write_nifti(source / "Training" / "img" / f"img{name}.nii.gz", image.astype(np.int16), AFFINE)
        write_nifti(source / "Training" / "label" / f"label{name}.nii.gz", label, AFFINE)
    write_nifti(source / "Testing" / "img" / "img0061.nii.gz", np.zeros(SHAPE, np.int16), AFFINE)
    average = source / "averaged-training-images"
    write_nifti(average / "DET0000101_avg.nii.gz", np.zeros(SHAPE, np.int16), AFFINE)
    return source
