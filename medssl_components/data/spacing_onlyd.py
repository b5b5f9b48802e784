# SPDX-License-Identifier: Apache-2.0
"""Resampling that changes what it is told to change."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Spacingd


class SpacingOnlyd(Spacingd):
    """MONAI's `Spacingd` on its own keys, whatever else the item has.

    For NIfTI files MONAI 1.6's takes every other entry whose key begins with a key and an underscore for a table of
    metadata, and MONAI Label puts the path of the scan under "image_path". The arguments are those of `Spacingd`.
    """

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, torch.Tensor]:
        """Return the item with its keys resampled; the other entries stay as they are."""
        own = {key: data[key] for key in self.keys if key in data}
        return {**data, **super().__call__(own, lazy=lazy)}
