# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from medssl_components.ops.gumbel_softmax_map import gumbel_softmax_map, sample_gumbel


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_noise_is_that_of_the_gumbel_distribution():
    noise = sample_gumbel((200_000,), generator())
    assert noise.dtype == torch.float32 and noise.isfinite().all()
    for value in (-1.0, 0.0, 2.0):  # its distribution function
        expected = torch.exp(-torch.exp(torch.tensor(-value))).item()
        assert (noise <= value).float().mean().item() == pytest.approx(expected, abs=5e-3)
    assert torch.equal(noise, sample_gumbel((200_000,), generator()))


def test_largest_noisy_logit_is_a_draw_of_the_softmax():
    logits = torch.tensor([2.0, 0.0, 1.0]).reshape(1, 3, 1).expand(1, 3, 100_000)
    probs = gumbel_softmax_map(logits, sample_gumbel(logits.shape, generator()), sigma=0)
    drawn = torch.bincount(probs.argmax(1).flatten(), minlength=3) / 100_000
    torch.testing.assert_close(drawn, logits[0, :, 0].softmax(0), atol=5e-3, rtol=0)


def test_without_noise_and_blur_it_is_the_tempered_softmax():
    logits = torch.tensor([1.0, -1.0, 0.0]).reshape(1, 3, 1, 1)
    probs = gumbel_softmax_map(logits, torch.zeros_like(logits), temperature=0.5, sigma=0)
    torch.testing.assert_close(probs, (logits * 2).softmax(1))


@pytest.mark.parametrize("axes", [2, 3])
def test_blur_has_the_taps_of_the_gaussian(axes):
    side = 5
    logits = torch.zeros(1, 2, *(side,) * axes)
    logits[(0, 1, *(side // 2,) * axes)] = 100.0
    probs = gumbel_softmax_map(logits, torch.zeros_like(logits))
    excess = (probs[0, 1] - 0.5) / 0.5  # one sure voxel among undecided ones, blurred
    taps = torch.tensor([0.0, 0.27406862, 0.45186276, 0.27406862, 0.0])
    expected = taps
    for _ in range(axes - 1):
        expected = expected[..., None] * taps
    torch.testing.assert_close(excess, expected)


def test_probabilities_sum_to_one_at_the_border_and_constant_maps_stay():
    logits = torch.randn(2, 4, 5, 3, 4, generator=generator())
    probs = gumbel_softmax_map(logits, sample_gumbel(logits.shape, generator(1)))
    torch.testing.assert_close(probs.sum(1), torch.ones(2, 5, 3, 4))
    constant = torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1, 1).expand(1, 2, 4, 4, 4)
    blurred = gumbel_softmax_map(constant, torch.zeros_like(constant))
    torch.testing.assert_close(blurred, constant.softmax(1))


def test_a_wider_blur_reaches_further():
    logits = torch.zeros(1, 2, 9)
    logits[0, 1, 4] = 50.0
    narrow = gumbel_softmax_map(logits, torch.zeros_like(logits), sigma=1.0, radius=1)[0, 1] > 0.5
    wide = gumbel_softmax_map(logits, torch.zeros_like(logits), sigma=2.0, radius=3)[0, 1] > 0.5
    assert narrow.nonzero().flatten().tolist() == [3, 4, 5]
    assert wide.nonzero().flatten().tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_half_precision_logits_give_finite_probabilities_in_float32():
    logits = torch.randn(1, 3, 4, 4, 4, generator=generator()).clamp(-1, 1).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        probs = gumbel_softmax_map(logits, sample_gumbel(logits.shape, generator()))
    assert probs.dtype == torch.float32 and probs.isfinite().all()
    torch.testing.assert_close(probs, gumbel_softmax_map(logits.float(), sample_gumbel(logits.shape, generator())))


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"sigma": -1.0}, {"radius": 0}])
def test_settings_out_of_range_are_errors(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        gumbel_softmax_map(torch.zeros(1, 2, 4), torch.zeros(1, 2, 4), **settings)


def test_noise_of_another_shape_is_an_error():
    with pytest.raises(ValueError, match=r"\(1, 2, 4\) and noise \(1, 1, 4\) differ"):
        gumbel_softmax_map(torch.zeros(1, 2, 4), torch.zeros(1, 1, 4))
