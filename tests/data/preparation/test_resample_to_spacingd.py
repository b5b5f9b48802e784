# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itk
import numpy as np
import torch
from monai.data import MetaTensor

from medssl_components.data.preparation import ResampleToSpacingd


def volume(spacing: tuple[float, ...], shape: tuple[int, ...] = (20, 15, 6)) -> MetaTensor:
    values = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (5, -7, 9)
    return MetaTensor(torch.from_numpy(values), affine=affine)


def test_it_agrees_with_itk() -> None:
    """Floor of the side in mm, 20 x 0.782 = 15.64 and 15 x 0.9 = 13.5; first voxel kept; cubic and nearest."""
    before = volume((0.782, 0.9, 1.0))
    after = ResampleToSpacingd(["image", "label"])({"image": before, "label": before})
    image = itk.image_from_array(np.ascontiguousarray(before.numpy()[0].T))
    image.SetSpacing([0.782, 0.9, 1.0])
    splines = itk.BSplineInterpolateImageFunction.New(image)
    nearest = itk.NearestNeighborInterpolateImageFunction.New(image)
    for key, kind in (("image", splines), ("label", nearest)):
        options = {"size": [15, 13, 6], "output_spacing": [1.0] * 3, "output_origin": [0.0] * 3}
        expected = itk.array_from_image(itk.resample_image_filter(image, interpolator=kind, **options)).T
        assert np.allclose(after[key].numpy()[0], expected, atol=1e-4)
    assert np.allclose(after["image"].affine, [[1, 0, 0, 5], [0, 1, 0, -7], [0, 0, 1, 9], [0, 0, 0, 1]])


def test_a_side_that_is_whole_but_for_rounding_stays_whole() -> None:
    before = volume((1.0, 1.0, 0.9999999))
    after = ResampleToSpacingd(["image"], order=[3])({"image": before})["image"]
    assert after.shape == before.shape and np.allclose(after, before, atol=1e-5)
