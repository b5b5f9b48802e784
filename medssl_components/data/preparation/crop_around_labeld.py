# SPDX-License-Identifier: Apache-2.0
"""The crop around the ground truth that the left atrium and pancreas data are published with."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable, SpatialCrop

from ..errors import DataError


class CropAroundLabeld(Randomizable, MapTransform):
    """Crop to the box of the label, widened to a least size and then by margins drawn from a range.

    With first and last labelled voxel a and b, side s and margins r1, r2, all along one axis, it keeps
    max(a - r1 - p, 0) .. min(b + r2 + p, s) - 1, where p = max(min_size - (b - a), 0) // 2 [L. Yu et al.:
    Uncertainty-aware self-ensembling model for semi-supervised 3D left atrium segmentation, MICCAI 2019,
    https://arxiv.org/abs/1907.07034, data preparation of its code].

    Args:
        keys: what to crop, `(C, X, Y, Z)`.
        label_key: the label; every class but 0 counts.
        spatial_axes: axes to crop along; the others are kept whole.
        min_size: least size along each of `spatial_axes`, in voxels.
        margin: least and largest margin in voxels, drawn evenly and on each side by itself.

    Raises:
        DataError: if the label is empty.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_key: str = "label",
        spatial_axes: Sequence[int] = (0, 1),
        min_size: Sequence[int] = (112, 112),
        margin: tuple[int, int] = (10, 19),
    ) -> None:
        super().__init__(keys)
        self.label_key = label_key
        self.spatial_axes = tuple(spatial_axes)
        self.min_size = tuple(min_size)
        self.margin = tuple(margin)
        self.margins = np.zeros((len(self.spatial_axes), 2), int)

    def randomize(self, data: Any = None) -> None:
        """Draw the margins of one case."""
        self.margins = self.R.randint(self.margin[0], self.margin[1] + 1, size=self.margins.shape)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the volumes cropped."""
        item = dict(data)
        self.randomize()
        voxels = torch.as_tensor(item[self.label_key])[0].nonzero()
        if not len(voxels):
            raise DataError("the label is empty, so there is nothing to crop around")
        shape = item[self.label_key].shape[1:]
        start, end = [0] * len(shape), list(shape)
        for axis, least, (before, after) in zip(self.spatial_axes, self.min_size, self.margins.tolist(), strict=True):
            first, last = int(voxels[:, axis].min()), int(voxels[:, axis].max())
            pad = max(least - (last - first), 0) // 2
            start[axis] = max(first - before - pad, 0)
            end[axis] = min(last + after + pad, shape[axis])
        crop = SpatialCrop(roi_start=start, roi_end=end)
        for key in self.key_iterator(item):
            item[key] = crop(item[key])
        return item
