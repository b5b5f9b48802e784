# SPDX-License-Identifier: Apache-2.0
"""A second look of the same scans, to try a method on a shift between domains without a second data set."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform


class ShiftDomaind(MapTransform):
    """Change how the images of one domain look, the same way each time; images of other domains stay as they are.

    With x the image, scaled channel by channel to the range from 0 to 1, it makes x' = (1 - x or x)^gamma
    exp(bias d . u), scaled back. u are the voxel's coordinates, -1 to 1 along each axis; the direction d, of length 1,
    is drawn from the case's name. So `invert` turns the contrast round, as between T1 and T2 images, `gamma` bends it,
    and `bias` shades the image from one side to the other, as the field of a coil does, by exp(2 bias) along an axis.

    A scan of which no domain is known, as in inference, stays as it is.

    Args:
        keys: images, `(C, X, Y[, Z])`.
        domain: the domain whose images are changed, as under "domain" in the item.
        invert: whether bright becomes dark.
        gamma: exponent, positive.
        bias: strength of the shading; 0 leaves it out.

    Raises:
        ValueError: for a gamma that is not positive.
    """

    def __init__(
        self, keys: KeysCollection, domain: str, invert: bool = False, gamma: float = 1.0, bias: float = 0.0
    ) -> None:
        super().__init__(keys)
        if gamma <= 0:
            raise ValueError(f"gamma is {gamma}; give a positive number")
        self.domain = domain
        self.invert = invert
        self.gamma = gamma
        self.bias = bias

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item, its images changed if it is of the domain."""
        item = dict(data)
        if item.get("domain") == self.domain:
            for key in self.key_iterator(item):
                item[key] = self._shift(item[key])
        return item

    def _shift(self, image: torch.Tensor) -> torch.Tensor:
        axes = tuple(range(1, image.ndim))
        low, high = image.amin(axes, keepdim=True), image.amax(axes, keepdim=True)
        scaled = (image - low) / (high - low).clamp_min(torch.finfo(image.dtype).tiny)
        shifted = (1 - scaled if self.invert else scaled) ** self.gamma
        if self.bias:
            shifted = shifted * self._shading(image)
        return low + (high - low) * shifted

    def _shading(self, image: torch.Tensor) -> torch.Tensor:
        sides = image.shape[1:]
        name = getattr(image, "meta", {}).get("case_name", "")
        direction = np.random.default_rng(zlib.crc32(name.encode())).normal(size=len(sides))
        direction /= np.linalg.norm(direction)
        coordinates = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in sides), indexing="ij")
        exponent = sum(float(d) * u for d, u in zip(direction, coordinates, strict=True))
        return torch.exp(self.bias * exponent).to(image)
