# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.transforms import RandSpatialCropd

from medssl_components.engines import SignedDistanceMapd
from medssl_components.ops import SignedDistanceMap


@pytest.fixture
def label():
    volume = torch.zeros(1, 12, 10, 8)
    volume[0, 2:6, 2:8, 2:6] = 1
    volume[0, 7:10, 3:6, 1:5] = 2
    return volume


def test_appends_one_map_an_object_negative_exactly_inside(label):
    item = SignedDistanceMapd("label", 3, SignedDistanceMap(scale=1.0))({"label": label})
    classes, first, second = item["label"]
    assert item["label"].dtype == torch.float32
    torch.testing.assert_close(classes, label[0])
    assert torch.equal(first < 0, label[0] == 1)
    assert torch.equal(second < 0, label[0] == 2)


def test_patch_holds_the_distances_of_the_whole_label(label):
    """Which is what tells them from those made of the patch."""
    distances = SignedDistanceMap(scale=1.0)
    item = SignedDistanceMapd("label", 3, distances)({"label": label})
    crop = RandSpatialCropd("label", roi_size=(6, 10, 8), random_size=False).set_random_state(0)
    patch = crop(item)["label"]
    start = crop.cropper._slices[0].start
    torch.testing.assert_close(patch, item["label"][:, start : start + 6])
    of_patch = distances((patch[None, :1] == 1).float())[0, 0]
    assert not torch.allclose(patch[1], of_patch)


def test_item_without_label_stays_if_allowed():
    transform = SignedDistanceMapd("label", 3, SignedDistanceMap(), allow_missing_keys=True)
    assert transform({"image": 0}) == {"image": 0}
    with pytest.raises(KeyError):
        SignedDistanceMapd("label", 3, SignedDistanceMap())({"image": 0})
