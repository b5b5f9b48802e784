# SPDX-License-Identifier: Apache-2.0
"""The sizes of patch that a network with strides can take."""

from __future__ import annotations

from collections.abc import Sequence


def check_patch_size(patch_size: Sequence[int], divisor: Sequence[int]) -> None:
    """Raise an error of one line if the total stride of a network does not divide each side of a patch.

    Args:
        patch_size: sides of the patch in voxels, one for each spatial axis.
        divisor: total stride of the network along each spatial axis.

    Raises:
        ValueError: when a side is not a positive multiple of its divisor; the message names each such axis and its side
            and proposes the nearest valid sides; or when the two arguments differ in length.
    """
    sides = tuple(patch_size)
    if len(sides) != len(divisor):
        raise ValueError(f"patch_size {sides} has {len(sides)} sides, the network needs {len(divisor)}")
    problems = []
    for axis, (side, step) in enumerate(zip(sides, divisor, strict=True)):
        if side <= 0 or side % step:
            below = max(side, 0) // step * step
            nearest = f"{below} or {below + step}" if below else f"{step}"
            problems.append(f"axis {axis} has side {side}, which is not a multiple of {step}: use {nearest}")
    if problems:
        raise ValueError(f"patch_size {sides} does not fit the network's strides: {'; '.join(problems)}")
