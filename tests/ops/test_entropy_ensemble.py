# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch

from medssl_components.ops.entropy_ensemble import entropy_ensemble


def column(*probs: float) -> torch.Tensor:
    return torch.tensor(probs).reshape(1, -1, 1, 1, 1)


def random_probs(seed: int) -> torch.Tensor:
    return torch.randn(2, 3, 4, 2, 3, generator=torch.Generator().manual_seed(seed)).softmax(1)


def test_equal_inputs_give_themselves():
    probs = random_probs(0)
    torch.testing.assert_close(entropy_ensemble(probs, probs), probs)


def test_sure_teacher_dominates_an_undecided_one_of_14_classes():
    sure, undecided = torch.zeros(1, 14, 1), torch.full((1, 14, 1), 1 / 14)
    sure[0, 3] = 1.0
    weight = math.exp(-math.log2(14))
    assert weight == pytest.approx(0.022, abs=5e-4)
    expected = (sure + weight * undecided) / (1 + weight)
    torch.testing.assert_close(entropy_ensemble(sure, undecided), expected)
    torch.testing.assert_close(entropy_ensemble(undecided, sure), expected)


def test_hand_computed():
    first, second = column(0.5, 0.5), column(0.25, 0.75)
    weights = math.exp(-1), math.exp(-(0.25 * 2 + 0.75 * math.log2(4 / 3)))  # bits
    expected = (weights[0] * 0.5 + weights[1] * 0.25) / sum(weights)
    result = entropy_ensemble(first, second)
    assert result.flatten().tolist() == pytest.approx([expected, 1 - expected])


def test_equals_equations_8_to_10_at_each_voxel():
    first, second = random_probs(1), random_probs(2)
    weights = [torch.exp((probs * probs.log2()).sum(1, keepdim=True)) for probs in (first, second)]
    expected = (weights[0] * first + weights[1] * second) / (weights[0] + weights[1])
    result = entropy_ensemble(first, second)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(result.sum(1), torch.ones(2, 4, 2, 3))


def test_zeros_are_finite_and_half_precision_becomes_float32():
    first, second = column(1.0, 0.0, 0.0), column(0.0, 0.5, 0.5)
    result = entropy_ensemble(first, second)
    expected = [1 / (1 + math.exp(-1)), 0.5 * math.exp(-1) / (1 + math.exp(-1))]
    assert result.flatten().tolist() == pytest.approx([expected[0], expected[1], expected[1]])
    assert entropy_ensemble(first.half(), second.half()).dtype == torch.float32


def test_two_shapes_are_an_error():
    with pytest.raises(ValueError, match=r"\(1, 2, 1, 1, 1\) and \(1, 3, 1, 1, 1\)"):
        entropy_ensemble(column(0.5, 0.5), column(0.2, 0.3, 0.5))
