# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import inspect
import itertools

import pytest
import torch
from torch.nn import functional

from medssl_components.ops import SignedDistanceMap, convolutional_distance_transform, signed_distance_map


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


@pytest.mark.parametrize(("value", "expected"), [(0.0, 1.0), (0.4, 1.0), (0.5, 1.0), (1.0, -1.0), (0.6, -1.0)])
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


def test_a_constant_channel_and_a_lost_object_leave_the_others_of_the_batch_alone():
    one_voxel = torch.zeros(12, 12, 12)
    one_voxel[5, 5, 5] = 1
    masks = [torch.zeros(12, 12, 12), torch.ones(12, 12, 12), ball(5.0, 3.0, side=12)[0, 0], one_voxel]
    probs = torch.stack(masks)[:, None].requires_grad_()
    together = signed_distance_map(probs)
    for sample in range(4):
        torch.testing.assert_close(together[sample], signed_distance_map(probs[sample : sample + 1])[0])
    together.square().sum().backward()
    assert [bool(gradient.any()) for gradient in probs.grad] == [False, False, True, True]


def test_probabilities_give_the_map_of_their_mask():
    probs = torch.rand(1, 1, 8, 7, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        signed_distance_map(probs, scale=1.0), signed_distance_map((probs > 0.5).float(), scale=1.0)
    )


@pytest.mark.parametrize(("scale", "side", "radius"), [(1.0, 24, 6.0), (0.5, 24, 6.0), (1.0, 40, 9.0), (0.5, 40, 9.0)])
def test_every_gradient_asks_for_the_right_change(scale, side, radius):
    """A ball against a shifted, larger one: descent adds where something is missing and removes where too much is."""
    predicted, truth = ball(side / 2 - 2, radius, side), ball(side / 2, radius + 1, side)
    probs = (0.98 * predicted + 0.01).requires_grad_()
    difference = signed_distance_map(probs, scale=scale) - signed_distance_map(truth, scale=scale)
    difference.square().mean().backward()
    missing, surplus = (truth > predicted) & (probs.grad != 0), (truth < predicted) & (probs.grad != 0)
    assert missing.sum() > 20 and surplus.sum() > 20
    # at half size a voxel of the small map answers for eight, not all of which need be wrong
    share = 0.99 if scale == 1 else 0.9
    assert (probs.grad[missing] < 0).float().mean() > share and (probs.grad[surplus] > 0).float().mean() > share


@pytest.mark.parametrize(("kernel_size", "h"), [(3, 0.35), (5, 0.35), (3, 0.25)])
def test_values_and_gradient_are_those_of_both_transforms_over_their_largest_distance(kernel_size, h):
    generator = torch.Generator().manual_seed(0)
    probs = torch.rand(1, 1, 7, 6, 5, generator=generator).requires_grad_()
    weights = torch.randn(probs.shape, generator=generator)
    mask = (probs > 0.5).float().requires_grad_()
    outside = convolutional_distance_transform(mask, kernel_size, h)
    inside = convolutional_distance_transform(1 - mask, kernel_size, h)
    expected = outside / outside.max().item() - inside / inside.max().item()  # the maxima as constants
    distance = signed_distance_map(probs, scale=1.0, kernel_size=kernel_size, h=h)
    torch.testing.assert_close(distance, expected)
    (distance * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(probs.grad, mask.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("shape", "small"), [((11, 9, 7), (5, 4, 3)), ((11, 9), (5, 4)), ((9, 7, 1), (4, 3, 1))])
def test_half_the_size_is_the_map_of_the_resized_probabilities_resized_back(shape, small):
    probs = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    mask = (functional.interpolate(probs, small, mode=mode) > 0.5).float()
    expected = functional.interpolate(signed_distance_map(mask, scale=1.0), shape, mode=mode)
    torch.testing.assert_close(signed_distance_map(probs, scale=0.5), expected)


@pytest.mark.parametrize("scale", [0.5, 0.3, 0.05])
def test_small_scales_give_the_size_back(scale):
    assert signed_distance_map(ball(5.0, 3.0, side=11)[..., :9], scale=scale).shape == (1, 1, 11, 11, 9)


def test_an_object_that_resizing_would_lose_is_kept():
    mask = torch.zeros(1, 1, 12, 12, 12)
    mask[:, :, 5, 5, 5] = 1
    distance = signed_distance_map(mask, scale=0.5)
    assert distance.min() < 0 and distance[0, 0, 5, 5, 5] < 0 and distance[0, 0, 0, 0, 0] > 0
    flat = signed_distance_map(mask[:, :, 5], scale=0.5)
    assert flat[0, 0, 5, 5] < 0 and flat[0, 0, 0, 0] > 0


def test_two_dimensions():
    mask = torch.zeros(1, 1, 8, 9)
    mask[:, :, 2:5, 3:7] = 1
    assert torch.equal(signed_distance_map(mask, scale=1.0) < 0, mask == 1)


def test_float32_within_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distance = signed_distance_map(ball(5.0, 3.0, side=11).bfloat16())
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance, signed_distance_map(ball(5.0, 3.0, side=11)))


@pytest.mark.parametrize("autocast", [True, False])
def test_half_precision_is_resized_in_float32(autocast):
    """Means of eight values beside 0.5 are not all on the grid of bfloat16, which would move some of them to 0.5."""
    steps = torch.randint(-4, 5, (1, 1, 12, 12, 12), generator=torch.Generator().manual_seed(0))
    probs = 0.5 + steps / 256
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        distance = signed_distance_map(probs.bfloat16())
    torch.testing.assert_close(distance, signed_distance_map(probs))


def test_the_object_has_the_defaults_of_the_function():
    of_function = list(inspect.signature(signed_distance_map).parameters.values())[1:]
    assert list(inspect.signature(SignedDistanceMap).parameters.values()) == of_function


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
    mask = ball(5.0, 3.0, side=11)
    with pytest.raises(ValueError, match=message):
        signed_distance_map(mask, **options)
    with pytest.raises(ValueError, match=message):
        SignedDistanceMap(**options)(mask)
