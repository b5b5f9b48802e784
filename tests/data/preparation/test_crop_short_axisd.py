# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from medssl_components.data import DataError
from medssl_components.data.preparation import CropShortAxisd


def item(first: int, last: int) -> dict[str, torch.Tensor]:
    label = torch.zeros(1, 13, 9, 8)
    label[:, 0, 0, first] = label[:, 12, 4, last] = 2
    return {"image": torch.arange(label.numel(), dtype=torch.float32).reshape(label.shape), "label": label}


@pytest.mark.parametrize(
    ("first", "last", "slices"), [(2, 6, slice(2, 6)), (0, 7, slice(0, 7)), (3, 3, slice(3, 4))], ids=str
)
def test_middle_of_the_plane_and_all_labelled_slices_but_the_last(first: int, last: int, slices: slice) -> None:
    """x: 13 // 2 -+ 13 // 3 = 2 .. 10; y: 9 // 2 -+ 9 // 3 = 1 .. 7, the ends exclusive."""
    before = item(first, last)
    after = CropShortAxisd(["image", "label"])(before)
    assert torch.equal(torch.as_tensor(after["image"]), before["image"][:, 2:10, 1:7, slices])
    assert after["label"].shape == after["image"].shape


def test_an_empty_label_is_an_error() -> None:
    with pytest.raises(DataError, match="empty"):
        CropShortAxisd(["label"])({"label": torch.zeros(1, 6, 6, 3)})
