# SPDX-License-Identifier: Apache-2.0
"""The zoom to one size for all volumes, as published preparations of the heart do it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy.ndimage import zoom


class ZoomToSized(MapTransform):
    """Zoom every volume to one size, whatever its voxels, with its first and last voxels kept where they are.

    Voxel i of N is sampled at the index i (n - 1) / (N - 1) of n, as `scipy.ndimage.zoom` does. Differs from MONAI's
    `Resized`, whose nearest neighbour is at floor(i n / N).

    Args:
        keys: what to zoom, `(C, X, Y, Z)` with an affine.
        spatial_size: voxels to reach along each axis.
        order: for each key the order of the splines; 0 is the nearest voxel.
    """

    def __init__(self, keys: KeysCollection, spatial_size: Sequence[int], order: Sequence[int] = (0, 0)) -> None:
        super().__init__(keys)
        self.spatial_size = tuple(spatial_size)
        self.order = tuple(order)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the volumes zoomed."""
        item = dict(data)
        for key, order in self.key_iterator(item, self.order):
            item[key] = self._zoom(item[key], order)
        return item

    def _zoom(self, volume: MetaTensor, order: int) -> MetaTensor:
        sides = tuple(volume.shape[1:])
        factors = [size / side for size, side in zip(self.spatial_size, sides, strict=True)]
        channels = [zoom(channel, factors, order=order, mode="nearest") for channel in volume.as_tensor().numpy()]
        # One voxel that fills the whole side has no distance to a last one; its thickness is shared out.
        steps = [
            (side - 1) / (size - 1) if side > 1 and size > 1 else side / size
            for size, side in zip(self.spatial_size, sides, strict=True)
        ]
        affine = np.asarray(volume.affine, float) @ np.diag([*steps, 1.0])
        return MetaTensor(torch.from_numpy(np.stack(channels)), affine=affine)
