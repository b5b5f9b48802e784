# SPDX-License-Identifier: Apache-2.0
"""Predictive entropy as a post-processing step."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..ops import predictive_entropy


class PredictiveEntropyd(MapTransform):
    """Add the entropy of a prediction's probabilities, from 0 to 1, as a map of its own.

    Args:
        keys: probabilities `(K, X, Y, Z)`.
        output_key: where the map `(1, X, Y, Z)` goes.
    """

    def __init__(self, keys: KeysCollection, output_key: str = "uncertainty") -> None:
        super().__init__(keys)
        self.output_key = output_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the map added; the probabilities stay."""
        item = dict(data)
        for key in self.key_iterator(item):
            # interpolation back to the scan's grid can leave probabilities a rounding error outside [0, 1]
            item[self.output_key] = predictive_entropy(item[key].clamp(0, 1), dim=0)
        return item
