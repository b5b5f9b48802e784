# SPDX-License-Identifier: Apache-2.0
"""From class probabilities to a normalised signed distance map, with gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from .convolutional_distance_transform import convolutional_distance_transform
from .euclidean_distance_transform import euclidean_distance_transform, soft_distance_transform

TRANSFORMS = ("convolutional", "euclidean", "soft")


class SignedDistanceMap:
    """The settings of :func:`signed_distance_map`, as an object that a config can name.

    Args:
        transform: see :func:`signed_distance_map`, as are the others.
        scale: size at which the transform runs, as a share of the patch's side.
        spacing: size of a voxel in mm.
        kernel_size: of the convolutional transform.
        h: of the convolutional transform.
        reach: of the euclidean and the soft transform.
    """

    def __init__(
        self,
        transform: str = "convolutional",
        scale: float = 0.5,
        spacing: Sequence[float] | None = None,
        kernel_size: int = 3,
        h: float = 0.35,
        reach: float = 2.0,
    ) -> None:
        self.transform = transform
        self.scale = scale
        self.spacing = spacing
        self.kernel_size = kernel_size
        self.h = h
        self.reach = reach

    def __call__(self, probs: torch.Tensor) -> torch.Tensor:
        """Return the signed distance maps of probabilities `(B, C, D, H, W)`."""
        return signed_distance_map(
            probs, self.transform, self.scale, self.spacing, self.kernel_size, self.h, self.reach
        )


def signed_distance_map(
    probs: torch.Tensor,
    transform: str = "convolutional",
    scale: float = 0.5,
    spacing: Sequence[float] | None = None,
    kernel_size: int = 3,
    h: float = 0.35,
    reach: float = 2.0,
) -> torch.Tensor:
    r"""Compute :math:`R = D_{out} / \max D_{out} - D_{in} / \max D_{in}`, negative inside an object, positive outside.

    The probabilities are resized to `scale`, made binary (1 where above 0.5), transformed with D the distance to the
    object (out) and to its complement (in), normalised by the largest distance of each sample and channel, and the map
    is resized back. Gradients pass the binary step as if it were the identity. A channel without object is +1, one
    without background -1, and no gradient passes it.

    Differentiated is, by transform: "convolutional", the soft minimum of each ring at the binary mask; "euclidean", the
    distances to the binary mask and to its complement, cut off at the reach; "soft", the map itself, which is that of
    the probabilities, with no binary step, and is cut off at the reach in its values too. The largest distance counts
    as a constant.

    Reference: J. Li, Fully differentiable bidirectional dual-task synergistic learning (DBiSL), equations 3 to 5 and
    section 4.10.

    Differences from the paper: the paper calls D to the object "in" and normalises over axes that it does not name. An
    object that resizing would lose is resized by the maximum instead. The paper has the convolutional transform only;
    the other two are exact where the probabilities are 0 or 1, the soft one up to its reach.

    Args:
        probs: foreground probabilities, one channel an object, `(B, C, H, W)` or `(B, C, D, H, W)`.
        transform: "convolutional", "euclidean" or "soft", see `convolutional_distance_transform`,
            `euclidean_distance_transform` and `soft_distance_transform`.
        scale: size at which the transform runs, as a share of each side, above 0 up to 1.
        spacing: size of a voxel of `probs` along each axis in mm; None for distances in voxels, which is all that the
            convolutional transform can measure.
        kernel_size: of the convolutional transform, in voxels.
        h: of the convolutional transform, in voxels.
        reach: of the gradient of the euclidean transform, and of the soft transform, in shortest sides of a voxel at
            the scale of the transform.

    Returns:
        Maps in float32, of the shape of `probs`, in [-1, 1].

    Raises:
        ValueError: for an unknown transform, a scale outside (0, 1], or a spacing with the convolutional transform.
    """
    if transform not in TRANSFORMS:
        raise ValueError(f'transform "{transform}" is unknown: use one of {", ".join(TRANSFORMS)}')
    if not 0 < scale <= 1:
        raise ValueError(f"scale is {scale}; give a number above 0, at most 1")
    if spacing is not None and transform == "convolutional":
        raise ValueError("spacing is given, but the convolutional transform measures in voxels; leave it out")
    with torch.autocast(probs.device.type, enabled=False):
        size = probs.shape[2:]
        small = _shrink(probs.float(), scale)
        mask = _binarise(small)
        # inverted after it was made binary: 1 - p of a soft p would have no exact zeros, and no distances
        binary = torch.cat([mask, 1 - mask], dim=1)
        sides = [side * a / b for side, a, b in zip(spacing or [1] * len(size), size, mask.shape[2:], strict=True)]
        if transform == "convolutional":
            both = convolutional_distance_transform(binary, kernel_size, h)  # equation 3
        elif transform == "euclidean":
            both = euclidean_distance_transform(binary, sides, reach)
        else:
            both = soft_distance_transform(torch.cat([small, 1 - small], dim=1), sides, reach)
        distance_outside, distance_inside = both.chunk(2, dim=1)
        distance = _normalise(distance_outside) - _normalise(distance_inside)  # equation 4
        axes = list(range(2, mask.ndim))
        empty, full = mask.amax(axes, keepdim=True) == 0, mask.amin(axes, keepdim=True) == 1
        distance = torch.where(empty, 1, torch.where(full, -1, distance))
        return distance if distance.shape[2:] == size else _resize(distance, size)


def _shrink(probs: torch.Tensor, scale: float) -> torch.Tensor:
    if scale == 1:
        return probs
    size = [max(1, int(side * scale)) for side in probs.shape[2:]]
    small = _resize(probs, size)
    pool = functional.adaptive_max_pool3d if probs.ndim == 5 else functional.adaptive_max_pool2d
    axes = list(range(2, probs.ndim))
    lost = (small.amax(axes, keepdim=True) <= 0.5) & (probs.amax(axes, keepdim=True) > 0.5)
    return torch.where(lost, pool(probs, size), small)


def _resize(volume: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    mode = "trilinear" if volume.ndim == 5 else "bilinear"
    return functional.interpolate(volume, list(size), mode=mode, align_corners=False)


def _binarise(probs: torch.Tensor) -> torch.Tensor:
    # in brackets a difference that is exactly 0, so that the sum is exactly 0 or 1
    return (probs > 0.5).float() + (probs - probs.detach())


def _normalise(distance: torch.Tensor) -> torch.Tensor:
    largest = distance.detach().amax(list(range(2, distance.ndim)), keepdim=True)
    return distance / largest.clamp(min=1e-6)
