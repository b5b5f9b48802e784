# SPDX-License-Identifier: Apache-2.0
"""A distance transform made of convolutions, so that gradients pass through it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch.nn import functional

SMALLEST_SUM = 1e-30  # below it a voxel counts as out of the kernel's reach, and its logarithm is not taken


def convolutional_distance_transform(mask: torch.Tensor, kernel_size: int = 3, h: float = 0.35) -> torch.Tensor:
    r"""Approximate the distance of every voxel to the nearest non-zero voxel of its channel, in voxels.

    A ring of thickness :math:`r = \lfloor K/2 \rfloor` is added around the set in each round. With the kernel
    :math:`k(x) = \exp(-|x| / h)` and :math:`S_i` the set in round i, the new voxels get the distance
    :math:`i r - h \ln (k * S_i)`: the logarithm of the sum is a soft minimum over the neighbours.

    The gradient of a voxel's distance is that of its own round, :math:`-h \, k(u - v) / (k * S_i)(u)` for each
    neighbour v that was not yet in a ring. It is computed in one pass over the volume after the last round, so that
    memory does not grow with the number of rounds.

    References: J. Li, Fully differentiable bidirectional dual-task synergistic learning (DBiSL), equations 2 and 3; the
    algorithm is that of Pham et al., Differentiable distance transform, in kornia, Riba et al., WACV 2020,
    https://arxiv.org/abs/1910.02190.

    Differences: voxels out of reach are left out before the logarithm, which keeps gradients finite for empty, full and
    sparse masks.

    Args:
        mask: `(B, C, H, W)` or `(B, C, D, H, W)`, 0 or 1; in between, a value counts as a logit and not as a distance.
        kernel_size: K, side of the kernel in voxels, odd, 3 or more. Beyond 3 gradients explode.
        h: width of the kernel in voxels. Far below 0.35 gradients explode; from 0.5 on voxels beside a wall get 0.

    Returns:
        Distances in float32, of the mask's shape: 0 on the set, and everywhere if it is empty.

    Raises:
        ValueError: for another number of axes, an even or too small kernel, or h that is not above 0.
    """
    if mask.ndim not in (4, 5):
        raise ValueError(f"mask has the shape {tuple(mask.shape)}; give (B, C, H, W) or (B, C, D, H, W)")
    if kernel_size < 3 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size is {kernel_size}; give an odd number, 3 or more")
    if h <= 0:
        raise ValueError(f"h is {h}; give a number above 0")
    with torch.autocast(mask.device.type, enabled=False):
        # all volumes as channels of one, and those last: the form in which a convolution by channel is fastest
        layout = torch.channels_last if mask.ndim == 4 else torch.channels_last_3d
        volumes = mask.float().flatten(0, 1)[None].contiguous(memory_format=layout)
        return _Rings.apply(volumes, kernel_size // 2, h).reshape(mask.shape)


class _Rings(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mask: torch.Tensor, radius: int, h: float) -> torch.Tensor:
        kernel = _kernel(mask, radius, h)
        convolve = functional.conv3d if mask.ndim == 5 else functional.conv2d
        inside = mask.clone()
        sums = torch.ones_like(mask)  # k * S_i in the round i in which a voxel was reached
        rounds = math.ceil(max(mask.shape[2:]) / radius)
        reached_in = torch.full_like(mask, rounds)
        for i in range(rounds):
            summed = convolve(_pad(inside, radius), kernel, groups=len(kernel))
            reached = (summed > SMALLEST_SUM) & (summed < 1)
            if mask.device.type == "cpu" and not reached.any():  # elsewhere asking would wait for the device
                break
            sums = torch.where(reached, summed, sums)
            reached_in.masked_fill_(reached, i)
            inside.masked_fill_(reached, 1)
        distance = torch.where(reached_in < rounds, reached_in * radius - h * sums.log(), 0)  # equation 3
        ctx.save_for_backward(kernel, sums, reached_in)
        ctx.radius, ctx.h, ctx.rounds = radius, h, rounds
        return distance

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        kernel, sums, reached_in = ctx.saved_tensors
        shape = gradient.shape[2:]
        gradient = torch.where(reached_in < ctx.rounds, -ctx.h * gradient / sums, 0)
        padded_round = _pad(reached_in, ctx.radius)
        result = torch.zeros_like(padded_round)
        for offset in itertools.product(range(2 * ctx.radius + 1), repeat=len(shape)):
            neighbour = (..., *(slice(start, start + side) for start, side in zip(offset, shape, strict=True)))
            untouched = reached_in <= padded_round[neighbour]
            result[neighbour] += kernel[(0, 0, *offset)] * gradient * untouched
        return _fold(result, ctx.radius), None, None


def _kernel(like: torch.Tensor, radius: int, h: float) -> torch.Tensor:
    axis = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    squares = sum(grid.square() for grid in torch.meshgrid(*[axis] * (like.ndim - 2), indexing="ij"))
    kernel = torch.exp(-squares.sqrt() / h)  # equation 2
    return kernel.expand(like.shape[1], 1, *kernel.shape)


def _pad(volume: torch.Tensor, radius: int) -> torch.Tensor:
    return functional.pad(volume, [radius] * 2 * (volume.ndim - 2), mode="replicate")


def _fold(padded: torch.Tensor, radius: int) -> torch.Tensor:
    """Add what fell on the padding to the border voxels that it repeats."""
    for axis in range(2, padded.ndim):
        before, volume, after = padded.split([radius, padded.shape[axis] - 2 * radius, radius], axis)
        volume = volume.clone()
        volume.narrow(axis, 0, 1).add_(before.sum(axis, keepdim=True))
        volume.narrow(axis, -1, 1).add_(after.sum(axis, keepdim=True))
        padded = volume
    return padded
