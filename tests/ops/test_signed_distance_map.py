# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import pytest
import torch

from medssl_components.ops import SignedDistanceMap, signed_distance_map


def ball(centre: float, radius: float, side: int = 24) -> torch.Tensor:
    grid = torch.stack(torch.meshgrid(*[torch.arange(side).float()] * 3, indexing="ij"))
    return ((grid - centre).norm(dim=0) <= radius).float()[None, None]


def test_negative_exactly_inside_and_within_one():
    mask = torch.zeros(1, 1, 9, 8, 7)
    mask[:, :, 2:6, 2:6, 2:5] = 1
    distance = signed_distance_map(mask, scale=1.0)
    assert torch.equal(distance < 0, mask == 1)
    assert distance.min() == -1 and distance.max() == 1


def test_values_beside_a_wall():
    """From a wall of three voxels the rings are 0.65, 1.65, 2.65 on both sides; each side is divided by its last."""
    mask = torch.zeros(1, 1, 6, 7, 7)
    mask[:, :, :3] = 1
    line = signed_distance_map(mask, scale=1.0)[0, 0, :, 3, 3]
    steps = torch.tensor([0.65, 1.65, 2.65])
    torch.testing.assert_close(line[3:], steps / 2.65, atol=1e-3, rtol=0)
    torch.testing.assert_close(line[:3], -steps.flip(0) / 2.65, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("value", "expected"), [(0.0, 1.0), (0.4, 1.0), (1.0, -1.0), (0.6, -1.0)])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_empty_is_plus_one_and_full_minus_one_without_gradient(value, expected, scale):
    probs = torch.full((1, 1, 6, 5, 4), value, requires_grad=True)
    distance = signed_distance_map(probs, scale=scale)
    assert torch.equal(distance, torch.full_like(distance, expected))
    distance.square().sum().backward()
    assert torch.equal(probs.grad, torch.zeros_like(probs))


def test_a_sample_does_not_depend_on_its_batch_nor_a_channel_on_its_neighbour():
    probs = torch.rand(3, 2, 8, 7, 6, generator=torch.Generator().manual_seed(0))
    together = signed_distance_map(probs)
    for sample, channel in itertools.product(range(3), range(2)):
        alone = signed_distance_map(probs[sample : sample + 1, channel : channel + 1])
        torch.testing.assert_close(together[sample, channel], alone[0, 0])


def test_probabilities_give_the_map_of_their_mask():
    probs = torch.rand(1, 1, 8, 7, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        signed_distance_map(probs, scale=1.0), signed_distance_map((probs > 0.5).float(), scale=1.0)
    )


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_every_gradient_asks_for_the_right_change(scale):
    """A ball against a shifted, larger one: descent adds where something is missing and removes where too much is."""
    predicted, truth = ball(10.0, 6.0), ball(12.0, 7.0)
    probs = (0.98 * predicted + 0.01).requires_grad_()
    difference = signed_distance_map(probs, scale=scale) - signed_distance_map(truth, scale=scale)
    difference.square().mean().backward()
    missing, surplus = (truth > predicted) & (probs.grad != 0), (truth < predicted) & (probs.grad != 0)
    assert missing.sum() > 20 and surplus.sum() > 20
    if scale == 1:
        assert (probs.grad[missing] < 0).all() and (probs.grad[surplus] > 0).all()
    else:  # a voxel of the small map answers for eight, not all of which need be wrong
        assert (probs.grad[missing] < 0).float().mean() > 0.9 and (probs.grad[surplus] > 0).float().mean() > 0.9


@pytest.mark.parametrize("scale", [0.5, 0.3])
def test_small_scales_give_the_size_back(scale):
    assert signed_distance_map(ball(5.0, 3.0, side=11), scale=scale).shape == (1, 1, 11, 11, 11)


def test_an_object_that_resizing_would_lose_is_kept():
    mask = torch.zeros(1, 1, 12, 12, 12)
    mask[:, :, 5, 5, 5] = 1
    distance = signed_distance_map(mask, scale=0.5)
    assert distance.min() < 0 and distance[0, 0, 5, 5, 5] < 0 and distance[0, 0, 0, 0, 0] > 0


def test_two_dimensions():
    mask = torch.zeros(1, 1, 8, 9)
    mask[:, :, 2:5, 3:7] = 1
    assert torch.equal(signed_distance_map(mask, scale=1.0) < 0, mask == 1)


def test_float32_within_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distance = signed_distance_map(ball(5.0, 3.0, side=11).bfloat16())
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance, signed_distance_map(ball(5.0, 3.0, side=11)))


def test_the_object_has_the_settings_of_the_function():
    mask = ball(5.0, 3.0, side=11)
    settings = {"transform": "convolutional", "scale": 0.7, "kernel_size": 5, "h": 0.5}
    torch.testing.assert_close(SignedDistanceMap(**settings)(mask), signed_distance_map(mask, **settings))
    assert not torch.allclose(signed_distance_map(mask, **settings), signed_distance_map(mask))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": "chamfer"}, '^transform "chamfer" is unknown: use one of .*convolutional'),
        ({"scale": 0.0}, r"^scale is 0\.0; give a number above 0, at most 1$"),
        ({"scale": 1.5}, r"^scale is 1\.5; give a number above 0, at most 1$"),
        ({"spacing": (1.0, 1.0, 2.0)}, "^spacing is given, but the convolutional transform measures in voxels"),
    ],
)
def test_wrong_arguments_are_one_line(options, message):
    with pytest.raises(ValueError, match=message):
        signed_distance_map(ball(5.0, 3.0, side=11), **options)
