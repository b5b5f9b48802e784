# SPDX-License-Identifier: Apache-2.0
"""Volumes whose stored axes count, not the directions of the body."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import MapTransform


class KeepStoredAxesd(MapTransform):
    """Make the stored axes those of the world, right, front and up, and keep the size of the voxels.

    Stacks along the short axis of the heart are oblique, at another angle in every body: turned to the nearest
    directions of the body, as training turns its scans, the axis across the slices would be the third in one case and
    the second in another. Where the scan lay is given up.

    Args:
        keys: volumes `(C, X, Y, Z)` with an affine.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with new affines and the same voxels."""
        item = dict(data)
        for key in self.key_iterator(item):
            spacing = np.linalg.norm(np.asarray(item[key].affine, float)[:3, :3], axis=0)
            item[key] = MetaTensor(item[key].as_tensor(), affine=np.diag([*spacing, 1.0]))
        return item
