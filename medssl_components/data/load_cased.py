# SPDX-License-Identifier: Apache-2.0
"""Reading a case, with errors that name the file."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import ITKReader, MetaTensor, NibabelReader
from monai.transforms import EnsureChannelFirst, LoadImage, MapTransform

from .case_names import case_name
from .errors import DataError, reason
from .header import is_nifti


class LoadCased(MapTransform):
    """Load image and label channel-first and check every voxel in the same pass.

    Differs from `LoadImaged` and `EnsureChannelFirstd`, whose parts it uses, in its errors: one line that names the
    file. The reader depends on the file's name alone, and is the one whose header `read_header` reads.

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
        self.load = LoadImage(reader=NibabelReader(), image_only=True, dtype=torch.float32)
        self.channel_first = EnsureChannelFirst()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with tensors `(C, X, Y, Z)`, float32 images and uint8 labels, in place of paths."""
        item = dict(data)
        for key in self.key_iterator(item):
            files = list(item[key]) if isinstance(item[key], (list, tuple)) else [item[key]]
            volumes = [self._read(file) for file in files]
            volume = volumes[0] if len(volumes) == 1 else torch.cat(volumes)
            volume.meta["case_name"] = case_name(item[key])
            item[key] = self._label(volume, files[0]) if key == self.label_key else volume
        return item

    def _read(self, file: str) -> MetaTensor:
        # A reader of its own for each file, as readers remember what they read: threads would share that, and a cache
        # that knows its transforms by their state would take them for others.
        reader = NibabelReader() if is_nifti(file) else ITKReader()
        try:
            volume = self.channel_first(self.load(file, reader=reader))
        except Exception as error:
            raise DataError(f"{file}: cannot be read, it may be truncated ({reason(error)}); copy it again") from error
        bad = int((~torch.isfinite(volume)).sum())
        if bad:
            raise DataError(f"{file}: {bad} voxel(s) are not finite (NaN or infinite); replace them")
        return volume

    def _label(self, volume: MetaTensor, name: str) -> MetaTensor:
        if volume.shape[0] != 1:
            raise DataError(f"{name}: a label has one channel, this one has {volume.shape[0]}; use class indices")
        values = torch.unique(volume.as_tensor())
        if not torch.equal(values, values.round()):
            raise DataError(
                f"{name}: label values are not whole numbers, for example {_example(values)}; use class indices"
            )
        if values.min() < 0 or values.max() > self.num_classes - 1:
            text = ", ".join(f"{value:g}" for value in values[:10].tolist())
            last = self.num_classes - 1
            raise DataError(f"{name}: label values {text} are not all in 0..{last}; correct the label or num_classes")
        return volume.to(torch.uint8)


def _example(values: torch.Tensor) -> str:
    return f"{values[values != values.round()][0].item():g}"
