# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from monai.data import MetaTensor
from monai.transforms import Spacingd

from medssl_components.data import SpacingOnlyd


def scan() -> MetaTensor:
    affine = torch.diag(torch.tensor([1.0, 1.0, 2.0, 1.0]))
    values = torch.arange(2 * 4 * 6 * 3, dtype=torch.float32).reshape(2, 4, 6, 3)
    return MetaTensor(values, affine=affine, meta={"filename_or_obj": "scan.nii.gz"})


def test_it_resamples_as_monai_does_and_leaves_a_path_alone():
    item = {"image": scan(), "image_path": "scan.nii.gz", "device": "cpu"}
    transform = SpacingOnlyd(keys="image", pixdim=(2.0, 1.0, 1.0), mode="bilinear")
    found = transform(item)
    expected = Spacingd(keys="image", pixdim=(2.0, 1.0, 1.0), mode="bilinear")({"image": scan()})["image"]
    torch.testing.assert_close(found["image"].as_tensor(), expected.as_tensor(), rtol=0, atol=0)
    assert found["image"].shape == (2, 2, 6, 5)
    assert (found["image_path"], found["device"]) == ("scan.nii.gz", "cpu")
    assert item["image"].shape == (2, 4, 6, 3)


def test_it_can_be_inverted():
    transform = SpacingOnlyd(keys="image", pixdim=(2.0, 1.0, 1.0), mode="nearest")
    back = transform.inverse(transform({"image": scan(), "image_path": "scan.nii.gz"}))
    assert back["image"].shape == (2, 4, 6, 3)


def test_a_missing_key_can_be_allowed():
    transform = SpacingOnlyd(keys=["image", "label"], pixdim=(2.0, 1.0, 1.0), allow_missing_keys=True)
    assert set(transform({"image": scan()})) == {"image"}
