# SPDX-License-Identifier: Apache-2.0
"""Reading a case, with errors that name the file."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import EnsureChannelFirst, LoadImage, MapTransform

from .case_names import case_name
from .errors import DataError


class LoadCased(MapTransform):
    """Load image and label channel-first and check every voxel in the same pass.

    Differs from `LoadImaged` and `EnsureChannelFirstd`, which it uses, in its errors: one line that names the file.

    Args:
        keys: what to load; absent keys are skipped, so that labelled and unlabelled cases share one chain.
        num_classes: labels must be whole numbers in 0 .. num_classes - 1.
        label_key: the key, if among `keys`, that holds a label.

    Raises:
        DataError: for a file that is truncated or otherwise unreadable, voxels that are not finite, and label values
            that are not whole numbers or out of range.
    """

    def __init__(self, keys: KeysCollection, num_classes: int, label_key: str = "label") -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.num_classes = num_classes
        self.label_key = label_key
        self.load = LoadImage(image_only=True, dtype=torch.float32)
        self.channel_first = EnsureChannelFirst()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with tensors `(C, X, Y, Z)`, float32 images and uint8 labels, in place of paths."""
        item = dict(data)
        for key in self.key_iterator(item):
            path = item[key]
            name = path[0] if isinstance(path, (list, tuple)) else path
            try:
                volume = self.channel_first(self.load(path))
            except Exception as error:
                reason = (str(error.__cause__ or error).strip().splitlines() or [type(error).__name__])[0]
                raise DataError(f"{name}: cannot be read, it may be truncated ({reason}); copy it again") from error
            volume.meta["case_name"] = case_name(path)
            item[key] = self._label(volume, name) if key == self.label_key else self._image(volume, name)
        return item

    def _image(self, volume: torch.Tensor, name: str) -> torch.Tensor:
        bad = int((~torch.isfinite(volume)).sum())
        if bad:
            raise DataError(f"{name}: {bad} voxels are not finite (NaN or infinite); replace them")
        return volume

    def _label(self, volume: torch.Tensor, name: str) -> torch.Tensor:
        if volume.shape[0] != 1:
            raise DataError(f"{name}: a label has one channel, this one has {volume.shape[0]}; use class indices")
        values = torch.unique(volume.as_tensor())
        if not torch.equal(values, values.round()):
            raise DataError(f"{name}: label values are not whole numbers, for example {_example(values)}")
        if values.min() < 0 or values.max() > self.num_classes - 1:
            text = ", ".join(f"{value:g}" for value in values[:10].tolist())
            raise DataError(f"{name}: label values {text} are not all in 0..{self.num_classes - 1} (num_classes - 1)")
        return volume.to(torch.uint8)


def _example(values: torch.Tensor) -> str:
    return f"{values[values != values.round()][0].item():g}"
