# SPDX-License-Identifier: Apache-2.0
"""What all fakes are made of."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np


def corner(shape: Sequence[int], value: int = 1, dtype: type = np.uint8) -> np.ndarray:
    """Draw a body that differs along all three axes, away from the middle."""
    label = np.zeros(shape, dtype)
    x, y, z = (side // 6 for side in shape)
    label[x : 3 * x, y : 2 * y, z : 2 * z + 1] = value
    label[x : 2 * x, y : 4 * y, z : 2 * z + 1] = value
    label[x : 2 * x, y : 2 * y, z : 4 * z + 1] = value
    return label


def write_nrrd(path: Path, array: np.ndarray, encoding: str = "raw", spacing: float = 1.0) -> Path:
    """Write an 8-bit NRRD file by hand, x fastest."""
    directions = " ".join(f"({','.join(str(spacing * (row == axis)) for axis in range(3))})" for row in range(3))
    header = [
        "NRRD0004",
        "type: unsigned char",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, array.shape))}",
        f"space directions: {directions}",
        "kinds: domain domain domain",
        f"encoding: {encoding}",
        "space origin: (0,0,0)",
    ]
    voxels = array.astype(np.uint8).tobytes(order="F")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join([*header, "", ""]).encode() + (gzip.compress(voxels) if encoding == "gzip" else voxels))
    return path


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
    """Write an array of any type and number of axes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the voxels and the affine of a NIfTI file."""
    volume = nibabel.load(path)
    return np.asarray(volume.dataobj), volume.affine


def write_split(path: Path, training: list[str], validation: list[str], test: list[str], **more: object) -> Path:
    """Write a split of one's own."""
    content = {"training": training, "validation": validation, "test": test, **more}
    path.write_text(json.dumps(content))
    return path
