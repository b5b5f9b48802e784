# SPDX-License-Identifier: Apache-2.0
"""Distances of a whole label, made once, before patches are taken from it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.networks import one_hot
from monai.transforms import MapTransform


class SignedDistanceMapd(MapTransform):
    """Append the signed distance map of each object to a label, as channels that crops and flips then take along.

    Reference: J. Li, Fully differentiable bidirectional dual-task synergistic learning (DBiSL), section 4.11, where
    distances of the patch are found to teach better than these.

    Args:
        keys: labels `(1, X, Y, Z)`.
        num_classes: background included.
        signed_distance_map: makes maps of masks `(1, num_classes - 1, X, Y, Z)`, see `SignedDistanceMap`.
        allow_missing_keys: whether an item without label stays as it is.
    """

    def __init__(
        self,
        keys: KeysCollection,
        num_classes: int,
        signed_distance_map: Callable[[torch.Tensor], torch.Tensor],
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.num_classes = num_classes
        self.signed_distance_map = signed_distance_map

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with labels `(num_classes, X, Y, Z)` in float32: the class, then its objects' distances."""
        item = dict(data)
        for key in self.key_iterator(item):
            label = item[key]
            masks = one_hot(label[None], self.num_classes)[:, 1:]
            item[key] = torch.cat([label.float(), self.signed_distance_map(masks)[0]])
        return item
