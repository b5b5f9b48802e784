# SPDX-License-Identifier: Apache-2.0
"""Logits that voxels pass on to voxels with similar features."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

SCALES = ("inside", "outside")
SUMS = ("source", "target")
DOWNSAMPLINGS = ("linear", "average")


def pool_features(features: torch.Tensor, max_voxels: int) -> torch.Tensor:
    """Return the features of a map whose sides are halved, rounded up, until it has at most so many voxels.

    The arithmetic of a propagation over N voxels rises with N^2, and so does a correlation map, 64 MiB for 4096 voxels.

    Args:
        features: `(B, D, ...)`, in 2-D or 3-D.
        max_voxels: 1 or more.

    Returns:
        The means over pairs of voxels along each axis, or the features themselves where they are few enough.

    Raises:
        ValueError: for a number below 1.
    """
    if max_voxels < 1:
        raise ValueError(f"max_voxels is {max_voxels}; give 1 or more")
    pool = {4: functional.avg_pool2d, 5: functional.avg_pool3d}[features.ndim]
    while math.prod(features.shape[2:]) > max_voxels:
        features = pool(features, [min(2, side) for side in features.shape[2:]], ceil_mode=True)
    return features


def correlation_map(
    source: torch.Tensor, target: torch.Tensor, scale: str = "inside", sum_to_one: str = "source"
) -> torch.Tensor:
    r"""Return :math:`C = softmax(e_1^T e_2 / \sqrt{D})`, how much each source gives to each target.

    Reference: W. Li et al., Boosting generic semi-supervised medical image segmentation (DTLP-Net),
    https://arxiv.org/abs/2508.08549, equation 18. The N voxels of the feature maps are sources and targets.

    Differences from the paper: it prints the division by :math:`\sqrt{D}` after the softmax (`scale="outside"`), which
    only makes the propagated logits smaller; and it does not name the softmax's axis. Summing to 1 over the sources
    makes a target's logits a weighted mean of logits; the other axis has each source divide its own among the targets.

    Args:
        source: e_1, `(B, D, ...)`.
        target: e_2, same shape.
        scale: "inside" or "outside" the softmax, where the division is.
        sum_to_one: "source" or "target", over which of the two C sums to 1 (times the scale, if outside).

    Returns:
        C, sources by targets in fp32, `(B, N, N)`.

    Raises:
        ValueError: for an unknown word, or two shapes.
    """
    _check(source, target, scale, sum_to_one)
    with torch.autocast(source.device.type, enabled=False):
        factor = 1 / math.sqrt(source.shape[1])
        similarity = source.flatten(2).float().transpose(1, 2) @ target.flatten(2).float()
        axis = 1 if sum_to_one == "source" else 2
        if scale == "inside":
            return (similarity * factor).softmax(axis)
        return similarity.softmax(axis) * factor


def propagate_labels(
    logits: torch.Tensor,
    source: torch.Tensor,
    target: torch.Tensor,
    scale: str = "inside",
    sum_to_one: str = "source",
    detach_logits: bool = False,
    downsampling: str = "linear",
) -> torch.Tensor:
    r"""Return :math:`z_{kj} = \sum_i P_{ki} C_{ij}`, the logits as the correlation spreads them.

    Reference: as of `correlation_map`, equation 19. The logits P are brought down to the feature maps' grid and the
    result z up to their own again, linearly along each axis; the paper does not say how. Where C sums to 1 over the
    sources this is attention, the targets being queries, the sources keys and the logits values: PyTorch's own, which
    never holds C, computes it, in the precision of the features.

    Args:
        logits: `(B, K, ...)`, in 2-D or 3-D.
        source: e_1, features `(B, D, ...)`.
        target: e_2, same shape.
        scale: see `correlation_map`.
        sum_to_one: see `correlation_map`.
        detach_logits: let the gradient reach the features alone.
        downsampling: "linear" or "average", the mean over the voxels of each place of the grid.

    Returns:
        Logits in fp32, of the shape of `logits`.

    Raises:
        ValueError: for an unknown word, two shapes of features, or features of other patches than the logits.
    """
    if downsampling not in DOWNSAMPLINGS:
        raise ValueError(f'downsampling "{downsampling}" is unknown: use one of {", ".join(DOWNSAMPLINGS)}')
    _check(source, target, scale, sum_to_one)
    sides = source.shape[2:]
    if len(source) != len(logits) or source.ndim != logits.ndim:
        raise ValueError(
            f"features {tuple(source.shape)} and logits {tuple(logits.shape)} differ in number or in axes; give those "
            "of the same patches"
        )
    mode = {2: "bilinear", 3: "trilinear"}[len(sides)]
    with torch.autocast(logits.device.type, enabled=False):
        volume = (logits.detach() if detach_logits else logits).float()
        if downsampling == "linear":
            coarse = functional.interpolate(volume, sides, mode=mode, align_corners=False)
        else:
            pool = {2: functional.adaptive_avg_pool2d, 3: functional.adaptive_avg_pool3d}[len(sides)]
            coarse = pool(volume, sides)
        spread = _attend if sum_to_one == "source" else _multiply
        passed_on = spread(coarse.flatten(2), source.flatten(2), target.flatten(2), scale).unflatten(2, sides)
        return functional.interpolate(passed_on, volume.shape[2:], mode=mode, align_corners=False)


def _check(source: torch.Tensor, target: torch.Tensor, scale: str, sum_to_one: str) -> None:
    if scale not in SCALES:
        raise ValueError(f'scale "{scale}" is unknown: use one of {", ".join(SCALES)}')
    if sum_to_one not in SUMS:
        raise ValueError(f'sum_to_one "{sum_to_one}" is unknown: use one of {", ".join(SUMS)}')
    if source.shape != target.shape:
        raise ValueError(f"source {tuple(source.shape)} and target {tuple(target.shape)} differ; give two of one shape")


def _multiply(logits: torch.Tensor, source: torch.Tensor, target: torch.Tensor, scale: str) -> torch.Tensor:
    return logits @ correlation_map(source, target, scale, "target")


def _attend(logits: torch.Tensor, source: torch.Tensor, target: torch.Tensor, scale: str) -> torch.Tensor:
    num_classes, channels = logits.shape[1], source.shape[1]
    factor = 1 / math.sqrt(channels)
    # the kernels that never hold C want as many values as features, and those of a voxel side by side
    values = functional.pad(logits, (0, 0, 0, max(0, channels - num_classes))).to(source.dtype)
    query, key, value = (part.transpose(1, 2).unsqueeze(1).contiguous() for part in (target, source, values))
    inside = scale == "inside"
    spread = functional.scaled_dot_product_attention(query, key, value, scale=factor if inside else 1.0)
    spread = spread[:, 0, :, :num_classes].transpose(1, 2).float()
    return spread if inside else spread * factor
