# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medssl_components.data import DataError
from medssl_components.data.preparation import CropAroundLabeld


def item(first: tuple[int, int], last: tuple[int, int], shape: tuple[int, int, int] = (60, 50, 4)) -> dict:
    label = torch.zeros(1, *shape)
    label[:, first[0] : last[0] + 1, first[1] : last[1] + 1, 1] = 1
    image = torch.arange(label.numel(), dtype=torch.float32).reshape(label.shape)
    return {"image": MetaTensor(image, affine=np.diag([2.0, 1.0, 1.0, 1.0])), "label": MetaTensor(label)}


def test_fixed_margin_and_a_box_that_is_large_enough() -> None:
    """x: 20 - 3 .. 29 + 3, the end exclusive as published; y: 8 - 3 .. 40 + 3."""
    crop = CropAroundLabeld(["image", "label"], min_size=(5, 5), margin=(3, 3))
    before = item((20, 8), (29, 40))
    after = crop(before)
    assert after["image"].shape == after["label"].shape == (1, 15, 38, 4)
    assert torch.equal(after["image"].as_tensor(), before["image"].as_tensor()[:, 17:32, 5:43])
    assert after["image"].affine[:3, 3].tolist() == [34, 5, 0]


def test_a_small_box_is_widened_to_the_least_size_and_clipped() -> None:
    """x: p = (20 - (30 - 21)) // 2 = 5, 21 - 1 - 5 .. 30 + 1 + 5; y: p = (20 - 4) // 2 = 8, clipped at 0."""
    crop = CropAroundLabeld(["image", "label"], min_size=(20, 20), margin=(1, 1))
    before = item((21, 2), (30, 6))
    assert torch.equal(crop(before)["image"].as_tensor(), before["image"].as_tensor()[:, 15:36, 0:15])


def test_margins_fill_their_range_on_each_side_and_follow_the_seed() -> None:
    crop = CropAroundLabeld(["label"], min_size=(1, 1), margin=(2, 4))
    before = item((20, 20), (29, 29))
    pairs = set()
    for seed in range(60):
        label = crop.set_random_state(seed)(before)["label"].as_tensor()[0]
        assert crop.set_random_state(seed)(before)["label"].shape[1:] == label.shape
        found = label.nonzero()[:, 0]
        pairs.add((int(found.min()), label.shape[0] - int(found.max())))
    assert pairs == set(itertools.product((2, 3, 4), repeat=2))


def test_an_empty_label_is_an_error() -> None:
    empty = {"label": torch.zeros(1, 4, 4, 4)}
    with pytest.raises(DataError, match="empty"):
        CropAroundLabeld(["label"])(empty)
