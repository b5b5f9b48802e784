# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from medssl_components.ops.euclidean_distance_transform import euclidean_distance_transform, soft_distance_transform


def boxes(shape, seed=0):
    """Two channels of a sample: three boxes anywhere, borders included, and their complement."""
    generator = np.random.default_rng(seed)
    mask = np.zeros(shape, dtype=bool)
    for _ in range(3):
        start = [generator.integers(0, side) for side in shape]
        mask[tuple(slice(first, first + max(1, side // 4)) for first, side in zip(start, shape, strict=True))] = True
    return np.stack([mask, ~mask])


def scipy_distances(mask, spacing=None):
    return np.stack([[distance_transform_edt(~channel, sampling=spacing) for channel in sample] for sample in mask])


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((17, 23, 12), None),
        ((17, 23, 12), (2.5, 0.7, 1.3)),
        ((14, 9, 30), (6.0, 0.4, 0.4)),
        ((40, 60, 50), None),  # more lines than are taken at once
        ((31, 19), None),
        ((31, 19), (0.3, 2.0)),
    ],
)
def test_distances_are_those_of_scipy(shape, spacing):
    mask = np.stack([boxes(shape, seed) for seed in (0, 1)])
    expected = scipy_distances(mask, spacing)
    volumes = torch.from_numpy(mask)
    np.testing.assert_allclose(euclidean_distance_transform(volumes, spacing), expected, rtol=1e-5, atol=1e-6)
    with_gradient = euclidean_distance_transform(volumes.float().requires_grad_(), spacing)
    np.testing.assert_array_equal(with_gradient.detach(), euclidean_distance_transform(volumes, spacing))


@pytest.mark.parametrize(("shape", "spacing"), [((17, 23, 12), (2.5, 0.7, 1.3)), ((31, 19), None), ((14, 9, 30), None)])
def test_soft_distances_of_a_binary_mask_are_exact_up_to_the_reach(shape, spacing):
    mask = np.stack([boxes(shape, seed) for seed in (0, 1)])
    exact = scipy_distances(mask, spacing)
    shortest = min(spacing or [1])
    for reach in (3.5, 1000.0):
        distance = soft_distance_transform(torch.from_numpy(mask), spacing, reach)
        np.testing.assert_allclose(distance, np.minimum(exact, reach * shortest), rtol=1e-5, atol=1e-6)


def test_distance_counts_all_axes_with_their_spacing():
    mask = torch.zeros(1, 1, 5, 6, 3)
    mask[0, 0, 0, 0, 0] = 1
    assert euclidean_distance_transform(mask)[0, 0, 3, 4, 0] == 5
    assert euclidean_distance_transform(mask, (1, 1, 6))[0, 0, 2, 3, 1] == 7


@pytest.mark.parametrize("shape", [(3, 4, 12), (5, 1, 1), (1, 1, 1), (3, 4)])
def test_empty_and_full_masks(shape):
    empty = torch.zeros(1, 2, *shape, requires_grad=True)
    distance = euclidean_distance_transform(empty, [2.0] * len(shape))
    torch.testing.assert_close(distance, torch.full_like(distance, 2 * math.hypot(*shape)))
    distance.sum().backward()
    assert empty.grad.isfinite().all()
    full = torch.ones(1, 2, *shape, requires_grad=True)
    for transform in (euclidean_distance_transform, soft_distance_transform):
        distance = transform(full)
        assert (distance == 0).all()
        (gradient,) = torch.autograd.grad(distance.sum(), full)
        assert (gradient == 0).all()


def test_gradient_up_to_the_reach_is_the_nearest_voxels_and_beyond_the_voxels_own():
    mask = torch.tensor([1.0, 0, 0, 0, 0]).reshape(1, 1, 1, 5).requires_grad_()
    distance = euclidean_distance_transform(mask, reach=2.0)
    # 4 / (2 * 1) from the neighbour; 4 / (2 * 2) of those 2 or more voxels away; none where the distance is 0
    expected = [[0, 0, 0, 0, 0], [-2, 0, 0, 0, 0], [0, 0, -1, 0, 0], [0, 0, 0, -1, 0], [0, 0, 0, 0, -1]]
    for voxel, row in enumerate(expected):
        (gradient,) = torch.autograd.grad(distance[0, 0, 0, voxel], mask, retain_graph=True)
        assert gradient.flatten().tolist() == row


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 0.5, 1.0)])
def test_gradients_of_a_voxel_are_bounded(spacing):
    mask = torch.from_numpy(boxes((5, 6, 4))[None]).double()
    probs = torch.rand(mask.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for transform, volume, bound in ((euclidean_distance_transform, mask, 2), (soft_distance_transform, probs, 2)):
        jacobian = torch.autograd.functional.jacobian(lambda x, f=transform: f(x, spacing, 2.0), volume)
        assert 0 < jacobian.abs().max() <= bound * min(spacing) + 1e-9


@pytest.mark.parametrize(("shape", "spacing"), [((3, 4, 3), (1.0, 0.6, 2.0)), ((5, 6), None)])
@pytest.mark.parametrize("reach", [2.0, 4.0])
def test_gradient_of_the_soft_distances_is_that_of_finite_differences(shape, spacing, reach):
    generator = torch.Generator().manual_seed(0)
    probs = 0.9 * torch.rand(2, 2, *shape, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: soft_distance_transform(p, spacing, reach), probs.requires_grad_())


@pytest.mark.parametrize("transform", [euclidean_distance_transform, soft_distance_transform])
def test_samples_and_channels_do_not_see_each_other(transform):
    batch = torch.from_numpy(np.stack([boxes((7, 8, 9), seed) for seed in range(3)])).float().requires_grad_()
    together = transform(batch)
    for sample in range(3):
        for channel in range(2):
            alone = transform(batch[sample, channel][None, None])
            torch.testing.assert_close(together[sample, channel], alone[0, 0], rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(together[1, 0].sum(), batch)
    assert gradient[1, 0].abs().sum() > 0
    gradient[1, 0] = 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("transform", [euclidean_distance_transform, soft_distance_transform])
def test_number_formats(transform):
    mask = torch.from_numpy(boxes((6, 7, 5))[None])
    for dtype in (torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32):
        volume = mask if transform is euclidean_distance_transform else mask.to(torch.float32)
        assert transform(volume.to(dtype)).dtype == torch.float32
    assert transform(mask.double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(transform(mask.float()).double(), transform(mask.double()))


@pytest.mark.parametrize("transform", [euclidean_distance_transform, soft_distance_transform])
def test_parts_of_any_size_give_the_same(transform, monkeypatch):
    module = importlib.import_module("medssl_components.ops.euclidean_distance_transform")
    results = []

    def all_at_once(volumes):  # as on a GPU
        return (volumes.flatten(0, 1),)

    for lines, parts in ((2048, module._parts), (7, all_at_once)):
        monkeypatch.setattr(module, "LINES_AT_ONCE", lines)
        monkeypatch.setattr(module, "_parts", parts)
        mask = torch.from_numpy(np.stack([boxes((9, 11, 7), seed) for seed in (0, 1)])).float().requires_grad_()
        distance = transform(mask, (1.0, 1.5, 0.8))
        distance.square().sum().backward()
        results.append((distance.detach(), mask.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("transform", [euclidean_distance_transform, soft_distance_transform])
def test_a_gpu_gives_the_same(transform):
    mask = torch.from_numpy(np.stack([boxes((17, 23, 12), seed) for seed in (0, 1)])).float()
    results = {}
    for device in ("cpu", "cuda"):
        volume = mask.to(device).requires_grad_()
        distance = transform(volume, (2.5, 0.7, 1.3))
        distance.square().sum().backward()
        results[device] = distance.detach().cpu(), volume.grad.cpu()
    for on_cpu, on_gpu in zip(*results.values(), strict=True):
        torch.testing.assert_close(on_cpu, on_gpu, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("transform", [euclidean_distance_transform, soft_distance_transform])
def test_wrong_arguments_are_named(transform):
    with pytest.raises(ValueError, match=r"\(3, 3, 3\)"):
        transform(torch.ones(3, 3, 3))
    with pytest.raises(ValueError, match="spacing"):
        transform(torch.ones(1, 1, 3, 3, 3), (1.0, 1.0))
    with pytest.raises(ValueError, match="spacing"):
        transform(torch.ones(1, 1, 3, 3), (1.0, 0.0))
    with pytest.raises(ValueError, match="reach"):
        transform(torch.ones(1, 1, 3, 3), reach=0)
