# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from medssl_components.data import DataError
from medssl_components.data.preparation import CropToBoxd


def item() -> dict[str, torch.Tensor]:
    image = torch.zeros(1, 10, 9, 8)
    image[:, 2:7, 1:5, 3:6] = 1
    return {"image": image, "label": torch.arange(720.0).reshape(1, 10, 9, 8)}


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        (0, 0, (slice(2, 7), slice(1, 5), slice(3, 6))),
        (0, -1, (slice(2, 6), slice(1, 4), slice(3, 5))),
        (2, 3, (slice(0, 10), slice(0, 8), slice(1, 8))),
    ],
    ids=["box", "last plane lost", "margins clipped"],
)
def test_ends_of_the_box(lower: int, upper: int, expected: tuple[slice, ...]) -> None:
    before = item()
    after = CropToBoxd(["image", "label"], lower=lower, upper=upper)(before)
    assert torch.equal(torch.as_tensor(after["label"])[0], before["label"][0][expected])
    assert after["image"].shape == after["label"].shape


def test_nothing_to_crop_to_is_an_error() -> None:
    with pytest.raises(DataError, match="zero everywhere"):
        CropToBoxd(["image"])({"image": torch.zeros(1, 3, 3, 3)})
    flat = torch.zeros(1, 3, 3, 3)
    flat[:, 1] = 1
    with pytest.raises(DataError, match="too thin"):
        CropToBoxd(["image"], upper=-1)({"image": flat})
