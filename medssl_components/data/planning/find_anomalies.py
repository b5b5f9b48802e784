# SPDX-License-Identifier: Apache-2.0
"""Cases that differ from the others, by file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .choose_intensity import looks_like_ct
from .fingerprint import Fingerprint


def find_anomalies(
    fingerprint: Fingerprint, modality: str, patch_size: Sequence[int], spacing: Sequence[float], factor: float = 3.0
) -> list[str]:
    """Return a line for whatever is odd but does not stop a training.

    That is: a label without any object, a class that no label has, a scan whose voxels all have one value, voxels or an
    extent in mm that differ from the median by more than `factor`, values that cannot be Hounsfield units among CT, or
    that can among others (if not most scans are so), and a scan that is less than half a patch.

    Args:
        fingerprint: of the folder.
        modality: "ct" or "mr".
        patch_size: sides of the patch in voxels.
        spacing: voxel size in mm after resampling.
        factor: how much larger or smaller than the median is odd.
    """
    lines = []
    for index, name in enumerate(fingerprint.class_names):
        if not fingerprint.with_class(index):
            lines.append(f"no label has the class {index} {name}; it cannot be learned")
    usual = np.median(fingerprint.spacings, axis=0)
    extent = np.median(fingerprint.spacings * fingerprint.shapes, axis=0)
    patch = np.array(patch_size) * spacing
    strange = {case.name for case in fingerprint.cases if looks_like_ct(case) != (modality == "ct")}
    strange = strange if 2 * len(strange) < len(fingerprint.cases) else set()
    for case in fingerprint.cases:
        if case.label_file and not set(case.class_voxels) - {0}:
            lines.append(f"{case.label_file}: is background alone")
        if (case.percentiles[:, 0] == case.percentiles[:, 1]).any():
            lines.append(f"{case.file}: nearly all voxels of a channel have one value")
        elif case.name in strange:
            kind = "no Hounsfield units" if modality == "ct" else "Hounsfield units"
            lines.append(f"{case.file}: its values look like {kind}, from {case.percentiles[:, 0].min():.4g}")
        if _differs(case.spacing, usual, factor):
            lines.append(f"{case.file}: has voxels of {_sides(case.spacing)} mm, the median is {_sides(usual)}")
        size = case.spacing * case.shape
        if _differs(size, extent, factor):
            lines.append(f"{case.file}: is {_sides(size)} mm large, the median is {_sides(extent)}")
        if size.prod() < patch.prod() / 2:
            lines.append(f"{case.file}: is {_sides(size)} mm large, less than half a patch")
    return lines


def _differs(sides: np.ndarray, usual: np.ndarray, factor: float) -> bool:
    return bool(((sides > factor * usual) | (sides < usual / factor)).any())


def _sides(sides: np.ndarray) -> str:
    return " x ".join(f"{side:.3g}" for side in sides)
