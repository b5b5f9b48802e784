# SPDX-License-Identifier: Apache-2.0
"""The resampling to a voxel size that published preparations of CT do."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy.ndimage import affine_transform

ROUNDING = 1e-3  # voxels; a side of 239.9999999 mm is one of 240


class ResampleToSpacingd(MapTransform):
    """Resample to a voxel size on a grid that keeps the centre of the first voxel.

    A side of n voxels of s mm gets floor(n s / t) voxels of t mm, and voxel i of the outcome is sampled at the index
    i t / s, as `ResampleImageFilter` of ITK does with the origin kept. Differs from MONAI's `Spacingd` in the number of
    voxels and in the splines' ends: they are mirrored, as ITK's are.

    Args:
        keys: what to resample, `(C, X, Y, Z)` with an affine.
        spacing: voxel size to reach, in mm.
        order: for each key the order of the splines, 3 for images, 0 (nearest) for labels.
    """

    def __init__(self, keys: KeysCollection, spacing: Sequence[float] = (1.0, 1.0, 1.0), order: Sequence[int] = (3, 0)):
        super().__init__(keys)
        self.spacing = np.array(spacing, float)
        self.order = tuple(order)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the volumes resampled."""
        item = dict(data)
        for key, order in self.key_iterator(item, self.order):
            item[key] = self._resample(item[key], order)
        return item

    def _resample(self, volume: MetaTensor, order: int) -> MetaTensor:
        affine = np.asarray(volume.affine, float)
        step = self.spacing / np.linalg.norm(affine[:3, :3], axis=0)
        shape = [max(math.floor(side / by + ROUNDING), 1) for side, by in zip(volume.shape[1:], step, strict=True)]
        channels = [
            affine_transform(channel, step, output_shape=tuple(shape), order=order, mode="mirror")
            for channel in volume.as_tensor().numpy()
        ]
        return MetaTensor(torch.from_numpy(np.stack(channels)), affine=affine @ np.diag([*step, 1.0]))
