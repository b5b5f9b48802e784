# SPDX-License-Identifier: Apache-2.0
"""The euclidean and the soft transform of the signed distance map, and what all three have in common."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch.nn import functional

from medssl_components.ops import SignedDistanceMap, signed_distance_map
from medssl_components.ops.signed_distance_map import TRANSFORMS


def ball(side, centre, radius):
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1)
    return torch.from_numpy(((grid - centre) ** 2).sum(-1) <= radius**2).float()[None, None]


def scipy_map(mask, sampling):
    outside = distance_transform_edt(mask == 0, sampling=sampling)
    inside = distance_transform_edt(mask == 1, sampling=sampling)
    return torch.from_numpy(outside / outside.max() - inside / inside.max()).float()


@pytest.mark.parametrize("spacing", [None, (2.0, 0.5, 1.0)])
def test_euclidean_map_is_scipys(spacing):
    mask = ball(24, (9, 12, 14), 6)
    result = signed_distance_map(mask, "euclidean", 1.0, spacing)
    torch.testing.assert_close(result[0, 0], scipy_map(mask[0, 0].numpy(), spacing), rtol=0, atol=1e-5)


def test_spacing_grows_with_the_voxels_of_a_smaller_grid():
    probs = functional.pad(ball(16, (7, 8, 8), 5), [0, 0, 0, 0, 0, 3])  # 19 voxels become 9, 16 become 8
    small = functional.interpolate(probs, [9, 8, 8], mode="trilinear", align_corners=False)
    sampling = [3 * 19 / 9, 1 * 16 / 8, 0.5 * 16 / 8]
    expected = scipy_map((small[0, 0] > 0.5).numpy(), sampling)[None, None]
    expected = functional.interpolate(expected, [19, 16, 16], mode="trilinear", align_corners=False)
    result = signed_distance_map(probs, "euclidean", 0.5, (3.0, 1.0, 0.5))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_soft_map_of_a_mask_is_the_exact_one_cut_off_at_the_reach():
    mask = ball(20, (9, 10, 9), 6)
    outside = distance_transform_edt(mask[0, 0].numpy() == 0).clip(max=4)
    inside = distance_transform_edt(mask[0, 0].numpy() == 1).clip(max=4)
    result = signed_distance_map(mask, "soft", 1.0, reach=4.0)[0, 0]
    torch.testing.assert_close(result, torch.from_numpy(outside / 4 - inside / 4).float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_map_is_negative_in_the_object_and_only_there(transform):
    mask = ball(24, (9, 12, 14), 6)
    mask[0, 0, :3, 20:, :5] = 1
    result = signed_distance_map(mask, transform, 1.0)
    assert torch.equal(result < 0, mask == 1)
    assert result.abs().max() <= 1


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_channels_without_object_or_without_background_are_constant(transform, scale):
    probs = torch.stack([torch.full((8, 8, 6), 0.1), torch.full((8, 8, 6), 0.9)])[None].requires_grad_()
    result = signed_distance_map(probs, transform, scale)
    assert (result[0, 0] == 1).all()
    assert (result[0, 1] == -1).all()
    result.square().sum().backward()
    assert (probs.grad == 0).all()


@pytest.mark.parametrize(("transform", "least_share"), [("euclidean", 0.5), ("soft", 1.0)])
@pytest.mark.parametrize(("centre", "radius"), [((21, 20, 20), 10), ((20, 20, 20), 7), ((22, 20, 21), 10)])
def test_gradients_of_wrong_voxels_point_the_right_way(transform, least_share, centre, radius):
    probs = (ball(40, (20, 20, 20), 9) * 0.8 + 0.1).requires_grad_()
    label = ball(40, centre, radius)
    target = signed_distance_map(label, transform, 1.0)
    (signed_distance_map(probs, transform, 1.0) - target).square().sum().backward()
    wrong = (probs > 0.5) != (label > 0.5)
    received = wrong & (probs.grad != 0)
    right = received & ((probs.grad < 0) == (label > 0.5))
    assert received.sum() >= least_share * wrong.sum()
    assert right.sum() >= 0.99 * received.sum()
    assert probs.grad.isfinite().all()


def test_settings_reach_the_function():
    mask = ball(16, (7, 8, 8), 5)
    mapping = SignedDistanceMap("soft", scale=1.0, spacing=(2.0, 1.0, 1.0), reach=3.0)
    torch.testing.assert_close(mapping(mask), signed_distance_map(mask, "soft", 1.0, (2.0, 1.0, 1.0), reach=3.0))
    names = list(inspect.signature(signed_distance_map).parameters)[1:]
    assert names == list(inspect.signature(SignedDistanceMap).parameters)


def test_spacing_needs_a_transform_that_respects_it():
    mask = ball(8, (4, 4, 4), 2)
    with pytest.raises(ValueError, match="leave it out"):
        signed_distance_map(mask, "convolutional", 1.0, (1.0, 1.0, 2.0))
    with pytest.raises(ValueError, match="euclidian.*convolutional, euclidean, soft"):
        signed_distance_map(mask, "euclidian")
