# SPDX-License-Identifier: Apache-2.0
"""AMOS22: an MR scan has its slices along the first axis."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .volumes import corner, write_nifti

AFFINE = np.diag([-0.7, -0.7, 5.0, 1.0])
NAMES = ("amos_0001", "amos_0507", "amos_0008")
OFFICIAL_VALIDATION = ("amos_0008",)


def shape(name: str) -> tuple[int, int, int]:
    """Return the shape of a case, that of MR beyond number 500."""
    return (12, 20, 22) if int(name[-4:]) > 500 else (22, 20, 12)


def organs(name: str) -> np.ndarray:
    """Draw the last organ, and one voxel of the pancreas that tells the case by the last two digits of its name."""
    label = corner(shape(name), 15)
    label[-1, int(name[-2]), int(name[-1])] = 10
    return label


def download(source: Path, cases: Sequence[str] = NAMES) -> Path:
    """Write the cases, a scan for the official test, and what operating systems leave in archives."""
    for name in cases:
        part = "Va" if name in OFFICIAL_VALIDATION else "Tr"
        label = organs(name)
        write_nifti(source / f"images{part}" / f"{name}.nii.gz", label.astype(np.int16) * 30 - 100, AFFINE)
        write_nifti(source / f"labels{part}" / f"{name}.nii.gz", label, AFFINE)
    write_nifti(source / "imagesTs" / "amos_0002.nii.gz", np.zeros((4, 4, 4), np.int16), AFFINE)
    junk = source / "__MACOSX" / "imagesTr" / f"._{cases[0]}.nii.gz"
    junk.parent.mkdir(parents=True)
    junk.write_bytes(b"\0")
    (source / "imagesTr" / f"._{cases[0]}.nii.gz").write_bytes(b"\0")
    (source / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "8": "arota"}}))
    return source
