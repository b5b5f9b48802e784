# SPDX-License-Identifier: Apache-2.0
"""The z-score of a brain whose surroundings are normalised with it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..errors import DataError


class NormalizeByPositived(MapTransform):
    """Subtract the mean and divide by the standard deviation of the voxels above zero, in all voxels.

    The surroundings, zero before, become one negative value. Differs from `NormalizeIntensityd(nonzero=True)`, which
    leaves them at zero, inside the range of the brain.

    Args:
        keys: what to normalise.

    Raises:
        DataError: if the voxels above zero have no spread.
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the volumes normalised."""
        item = dict(data)
        for key in self.key_iterator(item):
            positive = torch.as_tensor(item[key])
            positive = positive[positive > 0].double()
            spread = float(positive.std(correction=0)) if len(positive) else 0.0
            if spread == 0:
                raise DataError(f"the {key} has no two values above zero, so it cannot be normalised")
            item[key] = (item[key] - float(positive.mean())) / spread
        return item
