# SPDX-License-Identifier: Apache-2.0
"""The voxel size that scans are resampled to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .fingerprint import Fingerprint


class Grid(NamedTuple):
    """Voxel size in mm and patch size in voxels, with what led to them."""

    spacing: tuple[float, ...]
    patch_size: tuple[int, ...]
    why: str


def usual_spacing(
    spacings: np.ndarray, shapes: np.ndarray, anisotropy: float = 3.0, percentile: float = 10.0
) -> tuple[np.ndarray, str]:
    """Return the median voxel size of the scans, or less on an axis that is much coarser than the others.

    nnU-Net's rule (Isensee et al., Nature Methods 2021): if the median voxel is more than `anisotropy` times as long
    on one axis as on the others, and the scans have as many times fewer voxels there, that axis gets the 10th
    percentile of its voxel sizes, as interpolation to the median would blur the scans with thinner slices; but not less
    than the largest of the other axes.

    Difference from nnU-Net: unlabelled scans are counted as well, and shapes are those of whole scans.

    Args:
        spacings: (cases, 3), voxel sizes in mm.
        shapes: (cases, 3), voxels along each axis.
        anisotropy: how much longer a voxel is on the coarse axis.
        percentile: of the voxel sizes on the coarse axis.

    Returns:
        The voxel size in mm, (3,), and the rule in words.
    """
    spacing, shape = np.median(spacings, axis=0), np.median(shapes, axis=0)
    coarse = int(spacing.argmax())
    others = [axis for axis in range(3) if axis != coarse]
    longest = spacing[others].max()
    if spacing[coarse] <= anisotropy * longest or shape[coarse] * anisotropy >= shape[others].min():
        return spacing, "the median"
    spacing[coarse] = max(longest, np.percentile(spacings[:, coarse], percentile))
    return spacing, f"the median, on the coarse axis {'xyz'[coarse]} the {percentile:g}th percentile"


def choose_grid(
    fingerprint: Fingerprint,
    fit_patch: Callable[[Sequence[float], Sequence[float]], tuple[int, ...]],
    margin: float = 1.2,
    coarsest: float = 2.0,
    smallest: float = 100.0,
    steps: int = 8,
) -> Grid:
    """Choose a voxel size, and the patch for it, so that a patch has the volume of a whole object and what is round it.

    Voxels are those of :func:`usual_spacing`. While the patch that fits the memory has less volume than the bounding
    box of the largest class with a margin, all voxels grow by the same factor, but axes that are coarser than the
    others wait for these. They grow to `coarsest` times the usual size at most, and stop where the smallest class would
    be left with too few voxels.

    nnU-Net adds a second, coarser network where the patch has less than a quarter of the scan, with voxels that grow
    until it has. Here is one network, which has to see both context and detail, so what counts is the object and not
    how much of the body the scanner took with it, and the growth has a limit.

    Args:
        fingerprint: of the folder.
        fit_patch: takes a usual scan's shape, in voxels after resampling, and the voxel size, and returns the patch.
        margin: sides of the object's box are multiplied by this number.
        coarsest: limit of the growth, on each axis.
        smallest: number of voxels that the smallest class keeps in a usual case; if it has them to begin with.
        steps: number of steps to a doubling.
    """
    usual, rule = usual_spacing(fingerprint.spacings, fingerprint.shapes)
    extent = np.median(fingerprint.spacings * fingerprint.shapes, axis=0)
    classes = [index for index in range(1, fingerprint.num_classes) if fingerprint.with_class(index)]
    boxes = [np.minimum(margin * fingerprint.class_box(index), extent).prod() for index in classes]
    volume = min(fingerprint.class_volume(index) for index in classes)
    spacing = usual
    patch = fit_patch(extent / spacing, spacing)
    enough = _covers(patch, spacing, max(boxes))
    while not enough:
        larger = np.minimum(_larger(spacing, 2 ** (1 / steps)), coarsest * usual)
        if np.allclose(larger, spacing) or volume / larger.prod() < smallest:
            break
        spacing = larger
        patch = fit_patch(extent / spacing, spacing)
        enough = _covers(patch, spacing, max(boxes))
    if spacing is usual:
        return Grid(tuple(float(f"{side:.6g}") for side in spacing), patch, f"{rule} of the scans")
    largest = fingerprint.class_names[classes[int(np.argmax(boxes))]]
    why = f"{rule} of the scans is {' x '.join(f'{side:.4g}' for side in usual)} mm, and coarser voxels bring more of "
    why += f"the class {largest} into a patch" + ("" if enough else ", as far as detail allows")
    spacing = np.array([float(f"{side:.3g}") for side in spacing])
    return Grid(tuple(spacing.tolist()), fit_patch(extent / spacing, spacing), why)


def _covers(patch: Sequence[int], spacing: np.ndarray, volume: float) -> bool:
    return np.prod(patch) * spacing.prod() >= volume


def _larger(spacing: np.ndarray, factor: float) -> np.ndarray:
    finer = spacing * factor <= spacing.max() * (1 + 1e-6)
    return np.where(finer, spacing * factor, spacing) if finer.any() else spacing * factor
