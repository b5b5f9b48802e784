# SPDX-License-Identifier: Apache-2.0
"""The patch that a network takes, that fits the memory and that suits the scans."""

from __future__ import annotations

import math
from collections.abc import Sequence


def choose_patch(
    shape: Sequence[float], spacing: Sequence[float], divisor: Sequence[int], max_voxels: float, least: int = 2
) -> tuple[int, ...]:
    """Return the sides of a patch that is as near to a cube in mm as scan, network and memory allow.

    Beginning with the smallest patch, the side that is the shortest in mm grows by one step of the network, as long as
    the patch has at most `max_voxels`. No side grows beyond the scan's, rounded to the nearest step (down where two are
    as near).

    nnU-Net begins with a cube in mm too, cut to the median shape, and shrinks it until it fits. It changes the network
    with the patch, so that its sides are multiples of less where a scan is thin, and rounds up; a multiple of 16 above
    the scan would be padding in a third of all voxels and more.

    Args:
        shape: voxels of a usual scan along each axis, after resampling.
        spacing: voxel size in mm along each axis.
        divisor: a side is a multiple of this number; for each axis.
        max_voxels: the most that the memory allows.
        least: the smallest patch has that many steps of the network along each axis, where the scan has them.

    Returns:
        The sides in voxels; if not even the smallest patch fits, that one.
    """
    steps = [max(1, math.ceil(side / step - 0.5)) for side, step in zip(shape, divisor, strict=True)]
    most = [number * step for number, step in zip(steps, divisor, strict=True)]
    patch = [min(least * step, limit) for step, limit in zip(divisor, most, strict=True)]
    while growing := [axis for axis in range(len(patch)) if patch[axis] < most[axis]]:
        axis = min(growing, key=lambda axis: patch[axis] * spacing[axis])
        larger = [side + divisor[axis] * (index == axis) for index, side in enumerate(patch)]
        if math.prod(larger) > max_voxels:
            break
        patch = larger
    return tuple(patch)
