# SPDX-License-Identifier: Apache-2.0
"""How large patches may be for a training step to fit the memory."""

from __future__ import annotations

import math

from ..errors import DataError

SMALLEST = 32**3  # voxels; of a smaller patch four reductions leave next to nothing


def voxels_in_memory(
    gigabytes: float, patches: int, bytes_per_voxel: float = 1000.0, fixed_bytes: float = 1.2e8
) -> float:
    """Return the number of voxels that a patch may have.

    A step takes `fixed_bytes + bytes_per_voxel * patches * voxels`: weights, their gradients and momentum, then what is
    kept for the gradients. The defaults are measured with the V-Net of the bundle `supervised` (16 base channels, fp32,
    the peak of the process on a CPU less what it takes before the first step); docs/plan.md has those of the others.

    Difference from nnU-Net: it scales a measured number for its own network, and then the batch; here the batch is the
    bundle's, as the shares of labelled and unlabelled patches are part of the method.

    Args:
        gigabytes: memory of a step, 10^9 bytes.
        patches: number of patches in a step.
        bytes_per_voxel: of one patch.
        fixed_bytes: whatever the patch.

    Raises:
        DataError: if not even the smallest patch fits.
    """
    voxels = (gigabytes * 1e9 - fixed_bytes) / (patches * bytes_per_voxel)
    if voxels < SMALLEST:
        least = math.ceil((fixed_bytes + bytes_per_voxel * patches * SMALLEST) / 1e7) / 100
        raise DataError(f"memory is {gigabytes:g} GB, too little for {patches} patches of 32 x 32 x 32; give {least:g}")
    return voxels
