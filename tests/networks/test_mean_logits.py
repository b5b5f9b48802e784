# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch

from medssl_components.networks import mean_logits


def test_hand_computed_mean() -> None:
    first = torch.tensor([[0.9, 0.1], [0.5, 0.5]]).log()
    second = torch.tensor([[0.3, 0.7], [0.1, 0.9]]).log() + 5.0  # a constant added to all logits changes nothing
    expected = torch.tensor([[0.6, 0.4], [0.3, 0.7]])
    torch.testing.assert_close(mean_logits(first, second).exp(), expected)


@pytest.mark.parametrize("shape", [(2, 2, 3, 4, 5), (1, 5, 3, 4), (3, 2)])
def test_softmax_is_the_mean_of_both_softmax(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(shape, generator=generator) * 5 for _ in range(2))
    logits = mean_logits(first, second)
    assert logits.shape == shape
    torch.testing.assert_close(logits.softmax(1), (first.softmax(1) + second.softmax(1)) / 2)
    torch.testing.assert_close(logits, mean_logits(second, first))


def test_two_equal_predictions_keep_their_log_probabilities() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    torch.testing.assert_close(mean_logits(logits, logits), logits.log_softmax(1))


def test_certain_predictions_stay_finite_and_so_do_their_gradients() -> None:
    first = torch.tensor([[1e4, -1e4, -1e4]], requires_grad=True)
    second = torch.tensor([[-1e4, 1e4, -1e4]], requires_grad=True)
    logits = mean_logits(first, second)
    half = -math.log(2)
    torch.testing.assert_close(logits, torch.tensor([[half, half, -2e4]]))  # the third is excluded by both
    logits.sum().backward()
    assert first.grad.isfinite().all() and second.grad.isfinite().all()


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_is_computed_in_float32(autocast: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(2, 3, 4, 4, 4, generator=generator).bfloat16() for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = mean_logits(first, second)
    assert logits.dtype == torch.float32
    expected = (first.double().softmax(1) + second.double().softmax(1)) / 2
    torch.testing.assert_close(logits.double().exp(), expected, rtol=1e-5, atol=1e-6)
