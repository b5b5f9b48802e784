# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from medssl_components.ops.label_propagation import correlation_map, pool_features, propagate_labels


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def features(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    return random(*shape), random(*shape, seed=1)


def test_hand_computed():
    source = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).reshape(1, 2, 2)  # D = 2, two voxels
    target = torch.tensor([[1.0, 3.0], [1.0, 0.0]]).reshape(1, 2, 2)
    products = torch.tensor([[1.0, 3.0], [2.0, 0.0]])  # of source i, target j
    correlation = correlation_map(source, target)
    torch.testing.assert_close(correlation[0], (products / math.sqrt(2)).softmax(0))
    outside = correlation_map(source, target, scale="outside")
    torch.testing.assert_close(outside[0], products.softmax(0) / math.sqrt(2))
    rows = correlation_map(source, target, sum_to_one="target")
    torch.testing.assert_close(rows[0], (products / math.sqrt(2)).softmax(1))


def test_columns_sum_to_one():
    source, target = features(2, 7, 3, 2, 4)
    correlation = correlation_map(source, target)
    assert correlation.shape == (2, 24, 24)
    torch.testing.assert_close(correlation.sum(1), torch.ones(2, 24))
    assert not torch.allclose(correlation.sum(2), torch.ones(2, 24))
    torch.testing.assert_close(correlation_map(source, target, sum_to_one="target").sum(2), torch.ones(2, 24))
    scaled = correlation_map(source, target, scale="outside").sum(1)
    torch.testing.assert_close(scaled, torch.full((2, 24), 1 / math.sqrt(7)))


def test_a_bias_of_the_sources_changes_nothing():
    source, target = features(1, 4, 2, 2, 2)
    shifted = source + torch.tensor([1.0, -2.0, 0.5, 3.0]).reshape(1, 4, 1, 1, 1)
    torch.testing.assert_close(correlation_map(shifted, target), correlation_map(source, target))
    assert not torch.allclose(correlation_map(source, target + 1), correlation_map(source, target))


def test_pooling_halves_until_the_map_is_small_enough():
    features = random(1, 2, 4, 6, 2)
    assert pool_features(features, 48) is features
    means = features.unfold(2, 2, 2).unfold(3, 2, 2).unfold(4, 2, 2).mean((-1, -2, -3))
    torch.testing.assert_close(pool_features(features, 47), means)
    assert pool_features(features, 1).shape == (1, 2, 1, 1, 1)


def test_an_odd_side_is_rounded_up():
    features = random(1, 2, 3, 2)
    pooled = pool_features(features, 5)
    assert pooled.shape == (1, 2, 2, 1)
    torch.testing.assert_close(pooled[..., 1, 0], features[:, :, 2].mean(-1))


def one_hots(*grid: int) -> torch.Tensor:
    """Return features of which each voxel resembles itself alone, so that C is the identity."""
    return 100 * torch.eye(math.prod(grid)).reshape(1, -1, *grid)


@pytest.mark.parametrize("grid, shape, mode", [((2, 3, 2), (8, 12, 8), "trilinear"), ((2, 3), (8, 12), "bilinear")])
@pytest.mark.parametrize("sum_to_one", ["source", "target"])
def test_voxels_that_resemble_themselves_alone_keep_the_resampled_logits(grid, shape, mode, sum_to_one):
    logits, own = random(2, 3, *shape), one_hots(*grid).expand(2, *[-1] * (1 + len(grid)))
    result = propagate_labels(logits, own, own, sum_to_one=sum_to_one)
    coarse = functional.interpolate(logits, grid, mode=mode, align_corners=False)
    torch.testing.assert_close(result, functional.interpolate(coarse, shape, mode=mode, align_corners=False))
    assert result.shape == logits.shape


def test_average_takes_the_mean_of_each_place():
    logits = random(1, 2, 4, 4, 4)
    result = propagate_labels(logits, one_hots(2, 2, 2), one_hots(2, 2, 2), downsampling="average")
    means = logits.unfold(2, 2, 2).unfold(3, 2, 2).unfold(4, 2, 2).mean((-1, -2, -3))
    expected = functional.interpolate(means, (4, 4, 4), mode="trilinear", align_corners=False)
    torch.testing.assert_close(result, expected)


def test_each_target_is_the_mean_of_the_sources_that_it_resembles():
    logits = random(1, 3, 2, 2, 1)  # the grid is that of the logits: no resampling
    target = torch.zeros(1, 4, 4)
    target[0, 2, 0] = 100.0  # target 0 resembles source 2
    target[0, 0, 2] = target[0, 3, 3] = 100.0  # target 1 resembles all alike
    result = propagate_labels(logits, one_hots(2, 2, 1), target.reshape(1, 4, 2, 2, 1)).flatten(2)
    flat = logits.flatten(2)
    expected = torch.stack([flat[..., 2], flat.mean(2), flat[..., 0], flat[..., 3]], 2)
    torch.testing.assert_close(result, expected)


def spread_by_map(logits: torch.Tensor, source: torch.Tensor, target: torch.Tensor, **words: str) -> torch.Tensor:
    """Return equation 19 as printed, with the map of equation 18."""
    coarse = functional.interpolate(logits, source.shape[2:], mode="trilinear", align_corners=False)
    spread = (coarse.flatten(2) @ correlation_map(source, target, **words)).unflatten(2, source.shape[2:])
    return functional.interpolate(spread, logits.shape[2:], mode="trilinear", align_corners=False)


@pytest.mark.parametrize("scale", ["inside", "outside"])
@pytest.mark.parametrize("sum_to_one", ["source", "target"])
@pytest.mark.parametrize("num_classes", [2, 7])
def test_value_and_gradients_are_those_of_the_correlation_map(scale, sum_to_one, num_classes):
    words, found = {"scale": scale, "sum_to_one": sum_to_one}, []
    for spread in (propagate_labels, spread_by_map):
        inputs = [part.requires_grad_() for part in (random(2, num_classes, 8, 8, 4), *features(2, 5, 4, 2, 2))]
        result = spread(*inputs, **words)
        result.square().sum().backward()
        found.append([result.detach(), *(part.grad for part in inputs)])
    for own, printed in zip(*found, strict=True):
        torch.testing.assert_close(own, printed, rtol=1e-4, atol=1e-4)


def test_equal_logits_stay_what_they_are():
    source, target = features(2, 4, 2, 2, 2)
    logits = torch.tensor([1.0, -3.0]).reshape(1, 2, 1, 1, 1).expand(2, 2, 8, 8, 8)
    torch.testing.assert_close(propagate_labels(logits, source, target), logits.contiguous())


@pytest.mark.parametrize("detach", [False, True])
def test_gradient_reaches_features_and_logits_unless_detached(detach):
    source, target = (part.requires_grad_() for part in features(1, 4, 2, 2, 2))
    logits = random(1, 3, 4, 4, 4, seed=2).requires_grad_()
    propagate_labels(logits, source, target, detach_logits=detach).square().sum().backward()
    assert source.grad.abs().max() > 0 and target.grad.abs().max() > 0
    assert (logits.grad is None) == detach


def test_half_precision_under_autocast_gives_float32():
    source, target = (part.bfloat16() for part in features(1, 4, 2, 2, 2))
    logits = random(1, 3, 4, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        correlation = correlation_map(source, target)
        result = propagate_labels(logits, source, target)
    assert correlation.dtype == result.dtype == torch.float32
    torch.testing.assert_close(correlation, correlation_map(source.float(), target.float()))
    torch.testing.assert_close(result, propagate_labels(logits, source.float(), target.float()), rtol=0.02, atol=0.02)


def test_unknown_words_and_shapes_are_errors():
    source, target = features(1, 4, 2, 2, 2)
    for words, call in (
        ('scale "none" is unknown', lambda: correlation_map(source, target, scale="none")),
        ('sum_to_one "both" is unknown', lambda: correlation_map(source, target, sum_to_one="both")),
        ('scale "none" is unknown', lambda: propagate_labels(source, source, target, "none")),
        ('sum_to_one "both" is unknown', lambda: propagate_labels(source, source, target, "inside", "both")),
        ("max_voxels is 0; give 1 or more", lambda: pool_features(source, 0)),
        ("differ; give two of one shape", lambda: correlation_map(source, target[:, :2])),
        ("differ; give two of one shape", lambda: propagate_labels(source, source, target[:, :2])),
        ('downsampling "max" is unknown', lambda: propagate_labels(source, source, target, downsampling="max")),
        ("give those of the same patches", lambda: propagate_labels(random(2, 3, 4, 4, 4), source, target)),
        ("give those of the same patches", lambda: propagate_labels(random(1, 3, 4, 4), source, target)),
    ):
        with pytest.raises(ValueError, match=words):
            call()
