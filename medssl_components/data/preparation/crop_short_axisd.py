# SPDX-License-Identifier: Apache-2.0
"""The crop of short-axis scans of the heart that published preparations do."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, SpatialCrop

from ..errors import DataError


class CropShortAxisd(MapTransform):
    """Crop to the middle of the slices, and along them from the first to the last but one slice that has a label.

    In the plane a side of s voxels keeps s // 2 - s // f .. s // 2 + s // f - 1. The last labelled slice is lost, as in
    the published code; where it is the only one it stays, for otherwise nothing would be left.

    Args:
        keys: what to crop, `(C, X, Y, Z)` with the slices along Z.
        label_key: the label; every class but 0 counts.
        fraction: f; 3 keeps two thirds of each side.

    Raises:
        DataError: if the label is empty.
    """

    def __init__(self, keys: KeysCollection, label_key: str = "label", fraction: int = 3) -> None:
        super().__init__(keys)
        self.label_key = label_key
        self.fraction = fraction

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the volumes cropped."""
        item = dict(data)
        label = torch.as_tensor(item[self.label_key])
        slices = label.amax(dim=(0, 1, 2)).nonzero()
        if not len(slices):
            raise DataError("the label is empty, so there is nothing to crop to")
        first, last = int(slices.min()), int(slices.max())
        start = [side // 2 - side // self.fraction for side in label.shape[1:3]]
        end = [side // 2 + side // self.fraction for side in label.shape[1:3]]
        crop = SpatialCrop(roi_start=[*start, first], roi_end=[*end, max(last, first + 1)])
        for key in self.key_iterator(item):
            item[key] = crop(item[key])
        return item
