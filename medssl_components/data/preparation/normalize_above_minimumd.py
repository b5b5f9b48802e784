# SPDX-License-Identifier: Apache-2.0
"""The z-score of a brain whose surroundings are normalised with it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..errors import DataError


class NormalizeAboveMinimumd(MapTransform):
    """Subtract the mean and divide by the standard deviation of the voxels above the least value, in all voxels.

    The surroundings of a brain without its skull have the least value, zero, and become one negative value. A volume
    that is normalised already stays as it is, so one block of settings serves whole scans and prepared ones. Differs
    from `NormalizeIntensityd(nonzero=True)`, which leaves the surroundings at zero, inside the range of the brain; and
    from the published code in that this takes the voxels above zero, which are the same ones in such a scan.

    Args:
        keys: what to normalise.
        tolerance: values count as the least one up to this part of the range above it, as interpolation moves them.

    Raises:
        DataError: if the voxels above the least value have no spread.
    """

    def __init__(self, keys: KeysCollection, tolerance: float = 1e-4) -> None:
        super().__init__(keys)
        self.tolerance = tolerance

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the volumes normalised."""
        item = dict(data)
        for key in self.key_iterator(item):
            values = torch.as_tensor(item[key])
            low, high = float(values.min()), float(values.max())
            inside = values[values > low + self.tolerance * (high - low)].double()
            spread = float(inside.std(correction=0)) if len(inside) else 0.0
            if spread == 0:
                raise DataError(f"the {key} has no two values above its least one, so it cannot be normalised")
            item[key] = (item[key] - float(inside.mean())) / spread
        return item
