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


@pytest.mark.parametrize("grid, shape, mode", [((2, 3, 2), (8, 12, 8), "trilinear"), ((2, 3), (8, 12), "bilinear")])
def test_identity_returns_the_resampled_logits(grid, shape, mode):
    logits = random(2, 3, *shape)
    identity = torch.eye(math.prod(grid)).expand(2, -1, -1)
    result = propagate_labels(logits, identity, grid)
    coarse = functional.interpolate(logits, grid, mode=mode, align_corners=False)
    torch.testing.assert_close(result, functional.interpolate(coarse, shape, mode=mode, align_corners=False))
    assert result.shape == logits.shape


def test_average_takes_the_mean_of_each_place():
    logits = random(1, 2, 4, 4, 4)
    result = propagate_labels(logits, torch.eye(8)[None], (2, 2, 2), downsampling="average")
    means = logits.unfold(2, 2, 2).unfold(3, 2, 2).unfold(4, 2, 2).mean((-1, -2, -3))
    expected = functional.interpolate(means, (4, 4, 4), mode="trilinear", align_corners=False)
    torch.testing.assert_close(result, expected)


def test_each_target_is_the_mean_of_the_sources_that_its_column_names():
    logits = random(1, 3, 2, 2, 1)  # the grid is that of the logits: no resampling
    correlation = torch.zeros(1, 4, 4)
    correlation[0, 2, 0] = 1.0  # target 0 takes source 2
    correlation[0, :, 1] = 0.25  # target 1 takes all
    correlation[0, 0, 2] = correlation[0, 3, 3] = 1.0
    flat, result = logits.flatten(2), propagate_labels(logits, correlation, (2, 2, 1)).flatten(2)
    expected = torch.stack([flat[..., 2], flat.mean(2), flat[..., 0], flat[..., 3]], 2)
    torch.testing.assert_close(result, expected)


def test_equal_logits_stay_what_they_are():
    source, target = features(2, 4, 2, 2, 2)
    logits = torch.tensor([1.0, -3.0]).reshape(1, 2, 1, 1, 1).expand(2, 2, 8, 8, 8)
    result = propagate_labels(logits, correlation_map(source, target), (2, 2, 2))
    torch.testing.assert_close(result, logits.contiguous())


@pytest.mark.parametrize("detach", [False, True])
def test_gradient_reaches_features_and_logits_unless_detached(detach):
    source, target = (part.requires_grad_() for part in features(1, 4, 2, 2, 2))
    logits = random(1, 3, 4, 4, 4, seed=2).requires_grad_()
    propagate_labels(logits, correlation_map(source, target), (2, 2, 2), detach).square().sum().backward()
    assert source.grad.abs().max() > 0 and target.grad.abs().max() > 0
    assert (logits.grad is None) == detach


def test_half_precision_under_autocast_is_computed_in_float32():
    source, target = features(1, 4, 2, 2, 2)
    logits = random(1, 3, 4, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        correlation = correlation_map(source.bfloat16(), target.bfloat16())
        result = propagate_labels(logits, correlation, (2, 2, 2))
    assert correlation.dtype == result.dtype == torch.float32
    torch.testing.assert_close(correlation, correlation_map(source.bfloat16().float(), target.bfloat16().float()))


def test_unknown_words_and_shapes_are_errors():
    source, target = features(1, 4, 2, 2, 2)
    for words, call in (
        ('scale "none" is unknown', lambda: correlation_map(source, target, scale="none")),
        ('sum_to_one "both" is unknown', lambda: correlation_map(source, target, sum_to_one="both")),
        ("max_voxels is 0; give 1 or more", lambda: pool_features(source, 0)),
        ("differ; give two of one shape", lambda: correlation_map(source, target[:, :2])),
        (
            'downsampling "max" is unknown',
            lambda: propagate_labels(source, torch.eye(8)[None], (2, 2, 2), False, "max"),
        ),
        ("not that of a grid", lambda: propagate_labels(source, torch.eye(8)[None], (2, 2, 1))),
        ("not that of a grid", lambda: propagate_labels(source, torch.eye(8)[None], (4, 2))),
    ):
        with pytest.raises(ValueError, match=words):
            call()
