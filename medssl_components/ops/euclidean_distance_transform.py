# SPDX-License-Identifier: Apache-2.0
r"""Exact Euclidean distance transforms through which gradients pass.

A squared distance is a sum over axes, so the nearest voxel is searched axis by axis, each time on all lines of a volume
at once: a voxel is compared with those 1, 2, 3, ... voxels away on both sides, until a farther one cannot be nearer.

Where a gradient is asked for, the minimum runs over 64-bit integers that hold the squared distance in the upper bits
and the voxel that it leads to in the lower ones. So one operation finds both, and backward adds a voxel's gradient to
the voxel that its distance leads to: a minimum has the gradient of the term that attains it (envelope theorem).

Of the other forms that were measured on a CPU, a table of all pairs of a line is as fast as long as only the minimum is
wanted, and several times slower with the index beside it; marking the nearest voxel by a masked write in each step
is slower too, and so is the lower envelope of parabolas, linear in a line's length but with gathers in each step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

LINES_AT_ONCE = 2048  # on a CPU, so that the blocks of a comparison stay in its cache
STEPS_BETWEEN_CHECKS = 4  # to ask whether a farther voxel can be nearer costs as much as a comparison


def euclidean_distance_transform(
    mask: torch.Tensor, spacing: Sequence[float] | None = None, reach: float = 2.0
) -> torch.Tensor:
    r"""Compute the distance of every voxel to the nearest non-zero voxel of its channel, 0 on it.

    The values are those of SciPy's `distance_transform_edt(mask == 0, sampling=spacing)`. Differentiated is the same
    distance cut off at the reach r, :math:`\sqrt{\min_j |x_i - x_j|^2 + r^2 (1 - b_j)}` at the binary mask b: a voxel
    nearer than r depends on the nearest voxel of the set, any other on itself, as it would be at 0 if it belonged to
    the set. A gradient is at most :math:`r^2 / 2` shortest sides of a voxel for each voxel that it comes
    from (r / 2 for r below 1), and 0 where the distance is 0. Without the cut, gradients from everywhere would meet on
    the set's surface: fewer of a prediction's wrong voxels would get one, and fewer of those with the right sign.

    Args:
        mask: `(B, C, H, W)` or `(B, C, D, H, W)`; what is not 0 belongs to the set.
        spacing: size of a voxel along each axis; None for distances in voxels.
        reach: r, in shortest sides of a voxel; for the gradient only.

    Returns:
        Distances of the mask's shape, in float64 for a float64 mask and else in float32. Those of a channel without set
        are the length of the volume's diagonal.

    Raises:
        ValueError: for another number of axes, a spacing of another length or not above 0, or a reach not above 0.
    """
    sides = _sides(mask, spacing, reach)
    with torch.autocast(mask.device.type, enabled=False):
        mask = mask if mask.dtype == torch.float64 else mask.float()
        inside = mask.detach() != 0
        exact = torch.cat([_exact(part, sides, mask.dtype) for part in _parts(inside)]).reshape(mask.shape)
        if not (mask.requires_grad and torch.is_grad_enabled()):
            return exact
        binary = inside.to(mask.dtype) + (mask - mask.detach())
        cut = _Distance.apply((reach * min(sides)) ** 2 * (1 - binary), sides, reach * min(sides))
        return exact + (cut - cut.detach())  # adds 0, and the gradient


def soft_distance_transform(
    probs: torch.Tensor, spacing: Sequence[float] | None = None, reach: float = 2.0
) -> torch.Tensor:
    r"""Compute :math:`D_i = \sqrt{\min_j |x_i - x_j|^2 + r^2 (1 - p_j)^2}`, the distance to a set of uncertain voxels.

    A voxel of probability p counts as lying :math:`r (1 - p)` above the grid, and so never farther away than r. Where
    all probabilities are 0 or 1, D is the Euclidean distance, cut off at r. This function itself is differentiated: a
    gradient is at most r for each voxel that it comes from, and 0 where the distance is 0. The square of 1 - p is what
    bounds it; the root of 1 - p would be infinitely steep at 1. Up to a reach of 2, either the distance to the set or
    that to the complement is a voxel's own, so that gradients reach every uncertain voxel.

    Args:
        probs: probabilities of belonging to the set, `(B, C, H, W)` or `(B, C, D, H, W)`.
        spacing: size of a voxel along each axis; None for distances in voxels.
        reach: r, in shortest sides of a voxel.

    Returns:
        Distances of the shape of `probs`, in float64 for float64 probabilities and else in float32.

    Raises:
        ValueError: for another number of axes, a spacing of another length or not above 0, or a reach not above 0.
    """
    sides = _sides(probs, spacing, reach)
    with torch.autocast(probs.device.type, enabled=False):
        probs = probs if probs.dtype == torch.float64 else probs.float()
        return _Distance.apply((reach * min(sides) * (1 - probs)).square(), sides, reach * min(sides))


class _Distance(torch.autograd.Function):
    """The root of the least squared distance plus cost, for costs up to the square of `reach`."""

    @staticmethod
    def forward(ctx: Any, cost: torch.Tensor, sides: list[float], reach: float) -> torch.Tensor:
        found = [_nearest(part, sides, reach) for part in _parts(cost)]
        distance = torch.cat([squared for squared, _ in found]).sqrt_().reshape(cost.shape)
        ctx.save_for_backward(distance, torch.cat([site for _, site in found]))
        return distance

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        distance, site = ctx.saved_tensors
        share = gradient / (2 * distance).masked_fill_(distance == 0, math.inf)
        result = torch.zeros_like(share).flatten(0, 1).flatten(1)
        result.scatter_add_(1, site.flatten(1).long(), share.flatten(0, 1).flatten(1))
        return result.reshape(gradient.shape), None, None


def _exact(inside: torch.Tensor, sides: list[float], dtype: torch.dtype) -> torch.Tensor:
    """Return the distances to a set, of volumes `(N, ...)`."""
    position = torch.arange(inside.shape[-1], device=inside.device, dtype=dtype)
    # along the first axis no search is needed: the nearest is the last one before or the first one after
    before = torch.where(inside, position, -math.inf).cummax(-1).values
    after = torch.where(inside, position, math.inf).flip(-1).cummin(-1).values.flip(-1)
    offset = torch.minimum(position - before, after - position)
    diagonal = math.hypot(*(count * side for count, side in zip(inside.shape[1:], sides, strict=True)))
    squared = (offset * sides[-1]).square_().clamp_(max=diagonal**2)
    return _least(squared, _steps(inside, sides, diagonal)[:-1]).sqrt_()


def _nearest(cost: torch.Tensor, sides: list[float], reach: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the least squared distances plus costs of volumes `(N, ...)`, and the voxels that they lead to."""
    site = torch.arange(cost[0].numel(), device=cost.device).reshape(cost.shape[1:])
    bits = (site.numel() - 1).bit_length()
    scale = 2.0 ** (61 - bits - math.ceil(2 * math.log2(reach)))  # a cost and a step add up to less than 2 ** 63
    keys = ((cost.double() * scale).long() << bits) + site
    keys = _least(keys, [[round(step * scale) << bits for step in axis] for axis in _steps(cost, sides, reach)])
    return ((keys >> bits).double() / scale).to(cost.dtype), (keys & (2**bits - 1)).int()


def _least(volumes: torch.Tensor, steps: list[list[float]] | list[list[int]]) -> torch.Tensor:
    """Return the least of value plus step over the voxels of each line, axis by axis from the first behind N."""
    for axis, terms in enumerate(steps, start=1):
        rows = volumes.movedim(axis, 0)
        lines = rows.reshape(len(rows), -1)
        result = torch.empty_like(lines)
        at_once = LINES_AT_ONCE if lines.device.type == "cpu" else lines.shape[1]
        for given, target in zip(lines.split(at_once, 1), result.split(at_once, 1), strict=True):
            given = given.contiguous()
            least, best, farther = given.amin(0), given.clone(), torch.empty_like(given)
            for step, term in enumerate(terms[1:], start=1):
                if step % STEPS_BETWEEN_CHECKS == 0 and (best.amax(0) - least).max().item() <= term:
                    break
                torch.add(given[:-step], term, out=farther[step:])
                torch.minimum(best[step:], farther[step:], out=best[step:])
                torch.add(given[step:], term, out=farther[:-step])
                torch.minimum(best[:-step], farther[:-step], out=best[:-step])
            target.copy_(best)
        volumes = result.reshape(rows.shape).movedim(0, axis)
    return volumes


def _steps(volumes: torch.Tensor, sides: list[float], reach: float) -> list[list[float]]:
    """Return for each axis the squared lengths of 0, 1, 2, ... voxels that are shorter than the reach."""
    squares = [[(step * side) ** 2 for step in range(n)] for n, side in zip(volumes.shape[1:], sides, strict=True)]
    return [[square for square in axis if square < reach**2] for axis in squares]


def _parts(volumes: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Split `(B, C, ...)` into volumes `(N, ...)`: singly for a CPU's cache, all at once for fewer calls of a GPU."""
    flat = volumes.flatten(0, 1)
    return flat.split(1 if volumes.device.type == "cpu" else len(flat))


def _sides(volumes: torch.Tensor, spacing: Sequence[float] | None, reach: float) -> list[float]:
    axes = volumes.ndim - 2
    if axes not in (2, 3):
        raise ValueError(f"mask has the shape {tuple(volumes.shape)}; give (B, C, H, W) or (B, C, D, H, W)")
    sides = [1.0] * axes if spacing is None else [float(side) for side in spacing]
    if len(sides) != axes or min(sides) <= 0:
        raise ValueError(f"spacing is {sides}; give {axes} lengths above 0")
    if reach <= 0:
        raise ValueError(f"reach is {reach}; give a number above 0")
    return sides
