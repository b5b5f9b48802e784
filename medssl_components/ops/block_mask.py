# SPDX-License-Identifier: Apache-2.0
"""Volumes of which random blocks are hidden."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def sample_block_mask(
    num_volumes: int,
    shape: Sequence[int],
    mask_ratio: float = 0.5,
    blocks: int = 16,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    r"""Draw which blocks of volumes stay visible, :math:`[v > r]` with :math:`v \sim U(0, 1)` for each block.

    Reference: W. Li et al., Boosting generic semi-supervised medical image segmentation (DTLP-Net),
    https://arxiv.org/abs/2508.08549, equation 14, whose blocks have two axes, after masked image consistency in 2-D;
    here they have all of the volume's.

    Args:
        num_volumes: number of volumes, B; each has its own mask.
        shape: their spatial sides, in voxels.
        mask_ratio: r, the probability that a block is hidden.
        blocks: number of blocks along each axis; a block's side is the volume's over this, rounded down, at least 1.
        generator: source of the random numbers, on the same device; None takes PyTorch's own.
        device: of the result.

    Returns:
        True where a voxel is visible, `(B, 1, ...)`.

    Raises:
        ValueError: for a ratio outside [0, 1] or fewer than one block.
    """
    if not 0 <= mask_ratio <= 1:
        raise ValueError(f"mask_ratio is {mask_ratio}; give a number from 0 to 1")
    if blocks < 1:
        raise ValueError(f"blocks is {blocks}; give 1 or more")
    sides = [max(1, side // blocks) for side in shape]
    grid = [-(-side // block) for side, block in zip(shape, sides, strict=True)]
    visible = torch.rand((num_volumes, 1, *grid), generator=generator, device=device) > mask_ratio
    for axis, (side, block) in enumerate(zip(shape, sides, strict=True), start=2):
        visible = visible.repeat_interleave(block, axis).narrow(axis, 0, side)
    return visible


def mask_blocks(image: torch.Tensor, visible: torch.Tensor, fill: float | torch.Tensor = 0.0) -> torch.Tensor:
    r"""Return :math:`M \odot x`, the volumes with the hidden blocks filled.

    Args:
        image: `(B, C, ...)`.
        visible: `(B, 1, ...)`, see `sample_block_mask`.
        fill: the value of hidden voxels, 0 in the paper, or a tensor that broadcasts, such as the volumes' means.

    Raises:
        ValueError: for a mask of other volumes.
    """
    if tuple(visible.shape) != (image.shape[0], 1, *image.shape[2:]):
        raise ValueError(f"visible has the shape {tuple(visible.shape)}; draw it for {tuple(image.shape)}")
    return torch.where(visible, image, fill)
