# SPDX-License-Identifier: Apache-2.0
"""The crop to what is not zero, as published preparations count its ends."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, SpatialCrop

from ..errors import DataError


class CropToBoxd(MapTransform):
    """Crop to the box of the voxels that are not zero, moved outwards, or inwards, by fixed numbers of voxels.

    Differs from `CropForegroundd` in that the two ends have margins of their own, which may be negative: published
    preparations lose the last plane of the box.

    Args:
        keys: what to crop, `(C, X, Y, Z)`.
        source_key: the volume whose voxels that are not zero make the box.
        lower: planes to keep before the first plane of the box, along every axis.
        upper: planes to keep after the last plane of the box; -1 drops that plane.

    Raises:
        DataError: if nothing is left.
    """

    def __init__(self, keys: KeysCollection, source_key: str = "image", lower: int = 0, upper: int = 0) -> None:
        super().__init__(keys)
        self.source_key = source_key
        self.lower = lower
        self.upper = upper

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the volumes cropped."""
        item = dict(data)
        voxels = torch.as_tensor(item[self.source_key]).any(dim=0).nonzero()
        if not len(voxels):
            raise DataError(f"the {self.source_key} is zero everywhere, so there is nothing to crop to")
        shape = item[self.source_key].shape[1:]
        start = [max(int(first) - self.lower, 0) for first in voxels.amin(dim=0)]
        end = [min(int(last) + 1 + self.upper, side) for last, side in zip(voxels.amax(dim=0), shape, strict=True)]
        if any(high <= low for low, high in zip(start, end, strict=True)):
            raise DataError(f"the box of the {self.source_key} is too thin to crop to")
        crop = SpatialCrop(roi_start=start, roi_end=end)
        for key in self.key_iterator(item):
            item[key] = crop(item[key])
        return item
