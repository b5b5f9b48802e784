# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from medssl_components.ops import convolutional_distance_transform


def by_autograd(mask: torch.Tensor, kernel_size: int, h: float = 0.35) -> torch.Tensor:
    """The rounds one after the other, each in the graph: what the closed form of the gradient must equal."""
    radius, dimensions = kernel_size // 2, mask.ndim - 2
    axis = torch.arange(-radius, radius + 1).float()
    grids = torch.meshgrid(*[axis] * dimensions, indexing="ij")
    kernel = torch.exp(-torch.stack(grids).norm(dim=0) / h)[None, None]
    convolve = functional.conv3d if dimensions == 3 else functional.conv2d
    inside = mask.flatten(0, 1).unsqueeze(1)
    distance = torch.zeros_like(inside)
    for i in range(math.ceil(max(mask.shape[2:]) / radius)):
        summed = convolve(functional.pad(inside, [radius] * 2 * dimensions, mode="replicate"), kernel)
        reached = (summed > 1e-30) & (summed < 1)
        ring = i * radius - h * torch.where(reached, summed, 1).log()
        distance = distance + torch.where(reached, ring, 0)
        inside = torch.where(reached, 1, inside)
    return distance.view(mask.shape)


def wall(*shape: int) -> torch.Tensor:
    mask = torch.zeros(1, 1, *shape)
    mask[:, :, 0] = 1
    return mask


def checkerboard(*shape: int) -> torch.Tensor:
    return (torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij")).sum(0) % 2).float()[None, None]


def test_first_step_from_a_wall_is_short_and_each_further_one_is_one_voxel():
    """The nine neighbours on a wall add up: 1 + 4 exp(-1/h) ... stands for the one that is nearest."""
    distance = convolutional_distance_transform(wall(4, 7, 7))
    torch.testing.assert_close(distance[0, 0, :, 3, 3], torch.tensor([0, 0.650, 1.650, 2.650]), atol=5e-4, rtol=0)
    h = 0.35
    neighbours = math.exp(-1 / h) + 4 * math.exp(-math.sqrt(2) / h) + 4 * math.exp(-math.sqrt(3) / h)
    assert distance[0, 0, 1, 3, 3].item() == pytest.approx(-h * math.log(neighbours), abs=1e-5)


def test_neighbours_of_one_voxel_have_their_euclidean_distance():
    mask = torch.zeros(1, 1, 3, 3, 3)
    mask[0, 0, 1, 1, 1] = 1
    offsets = torch.stack(torch.meshgrid(*[torch.arange(-1, 2).float()] * 3, indexing="ij"))
    torch.testing.assert_close(convolutional_distance_transform(mask)[0, 0], offsets.norm(dim=0))


def test_two_dimensions():
    mask = torch.zeros(1, 1, 3, 3)
    mask[0, 0, 1, 1] = 1
    root = math.sqrt(2)
    expected = torch.tensor([[root, 1, root], [1, 0, 1], [root, 1, root]])
    torch.testing.assert_close(convolutional_distance_transform(mask)[0, 0], expected)


def test_rings_go_on_to_the_end_of_the_longest_side():
    distance = convolutional_distance_transform(wall(10, 3, 2))
    steps = distance[0, 0, 1:, 1, 1].diff()
    torch.testing.assert_close(steps, torch.ones(8), atol=1e-4, rtol=0)


def test_wide_kernel_leaves_voxels_beside_a_wall_at_zero():
    assert convolutional_distance_transform(wall(4, 7, 7), h=1.0)[0, 0, 1, 3, 3] == 0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_empty_and_full_masks_are_zero_everywhere(value):
    assert torch.equal(convolutional_distance_transform(torch.full((1, 1, 5, 4, 3), value)), torch.zeros(1, 1, 5, 4, 3))


def one_voxel() -> torch.Tensor:
    mask = torch.zeros(1, 1, 6, 5, 4)
    mask[0, 0, 2, 2, 2] = 1
    return mask


@pytest.mark.parametrize(
    "mask", [torch.zeros(1, 1, 6, 5, 4), torch.ones(1, 1, 6, 5, 4), one_voxel(), wall(6, 5, 4), checkerboard(6, 5, 4)]
)
def test_gradients_are_finite(mask):
    mask = mask.clone().requires_grad_()
    convolutional_distance_transform(mask).square().sum().backward()
    assert mask.grad.isfinite().all()


@pytest.mark.parametrize(
    ("shape", "kernel_size"), [((2, 2, 7, 6, 5), 3), ((1, 2, 8, 7, 9), 5), ((1, 1, 9, 8), 3), ((2, 1, 9, 8), 5)]
)
@pytest.mark.parametrize("share", [0.02, 0.2, 0.6, 0.95])
def test_distances_and_gradients_are_those_of_autograd_through_the_rounds(shape, kernel_size, share):
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(shape, generator=generator) < share).float()
    mask.view(-1)[5] = 1  # not empty in any case
    weights = torch.randn(shape, generator=generator)
    ours, theirs = mask.clone().requires_grad_(), mask.clone().requires_grad_()
    distance = convolutional_distance_transform(ours, kernel_size)
    expected = by_autograd(theirs, kernel_size)
    torch.testing.assert_close(distance, expected)
    (distance * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)
    assert ours.grad.abs().sum() > 0


@pytest.mark.parametrize("h", [0.25, 0.5])
def test_gradient_beside_one_voxel(h):
    """There the sum of the kernel is exp(-1/h): the derivative is -h by that voxel, -h exp(1/h) by the place itself."""
    mask = torch.zeros(1, 1, 5, 5)
    mask[0, 0, 2, 2] = 1
    mask.requires_grad_()
    convolutional_distance_transform(mask, h=h)[0, 0, 1, 2].backward()
    assert mask.grad[0, 0, 2, 2].item() == pytest.approx(-h)
    assert mask.grad[0, 0, 1, 2].item() == pytest.approx(-h * math.exp(1 / h))
    assert mask.grad[0, 0, 4].abs().sum() == 0


def test_the_mask_stays_as_it_was():
    mask = wall(4, 5, 6)
    before = mask.clone()
    convolutional_distance_transform(mask)
    assert torch.equal(mask, before)


def test_samples_and_channels_do_not_see_each_other():
    masks = (torch.rand(2, 3, 6, 5, 4, generator=torch.Generator().manual_seed(0)) < 0.1).float()
    together = convolutional_distance_transform(masks)
    for sample in range(2):
        for channel in range(3):
            alone = convolutional_distance_transform(masks[sample : sample + 1, channel : channel + 1])
            torch.testing.assert_close(together[sample, channel], alone[0, 0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.uint8, torch.bool])
@pytest.mark.parametrize("autocast", [True, False])
def test_computes_in_float32_also_within_autocast(dtype, autocast):
    mask = wall(5, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        distance = convolutional_distance_transform(mask.to(dtype))
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance, convolutional_distance_transform(mask))


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((5, 5, 5), {}, r"^mask has the shape \(5, 5, 5\); give \(B, C, H, W\) or \(B, C, D, H, W\)$"),
        ((1, 1, 1, 5, 5, 5), {}, r"^mask has the shape \(1, 1, 1, 5, 5, 5\); give"),
        ((1, 1, 5, 5), {"kernel_size": 4}, "^kernel_size is 4; give an odd number, 3 or more$"),
        ((1, 1, 5, 5), {"kernel_size": 1}, "^kernel_size is 1; give an odd number, 3 or more$"),
        ((1, 1, 5, 5), {"h": 0.0}, r"^h is 0\.0; give a number above 0$"),
        ((1, 1, 5, 5), {"h": -0.35}, r"^h is -0\.35; give a number above 0$"),
    ],
)
def test_wrong_arguments_are_one_line(shape, options, message):
    with pytest.raises(ValueError, match=message):
        convolutional_distance_transform(torch.zeros(shape), **options)
