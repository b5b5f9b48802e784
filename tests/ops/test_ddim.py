# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.networks.schedulers import DDIMScheduler

from medssl_components.ops.ddim import LabelDiffusion

T = 1000
KEPT = np.cumprod(1 - np.linspace(1e-4, 0.02, T))  # in float64


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def denoiser(noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """A stand-in for a network; partly beyond [-1, 1]."""
    return 1.5 * torch.tanh(noisy.flip(1)) + times.view(-1, 1, 1, 1, 1) / 2000 - 0.3


def test_schedule_and_steps_are_those_of_the_recipe():
    diffusion = LabelDiffusion(num_classes=4)
    assert diffusion.sample_times == [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]
    kept = diffusion.scheduler.alphas_cumprod
    assert kept[[0, 100, 500]].tolist() == pytest.approx([0.9999, 0.8951, 0.0778], abs=5e-5)
    assert kept[999].item() == pytest.approx(4.0e-5, rel=0.02)
    np.testing.assert_allclose(kept.numpy(), KEPT, rtol=1e-4)


@pytest.mark.parametrize("steps, times", [(1, [999]), (2, [999, 0]), (4, [999, 666, 333, 0])])
def test_fewer_steps_are_spread_evenly(steps, times):
    assert LabelDiffusion(2, sample_steps=steps).sample_times == times


def test_noise_by_hand():
    label = torch.tensor([[0, 2], [1, 1]]).reshape(2, 1, 2, 1, 1)
    noise, times = random(2, 3, 2, 1, 1), torch.tensor([0, 500])
    noisy = LabelDiffusion(num_classes=3).add_noise(label, noise, times)
    clean = np.array([[[1, -1], [-1, -1], [-1, 1]], [[-1, -1], [1, 1], [-1, -1]]]).reshape(2, 3, 2, 1, 1)
    kept = KEPT[times.numpy()].reshape(2, 1, 1, 1, 1)
    np.testing.assert_allclose(noisy.numpy(), np.sqrt(kept) * clean + np.sqrt(1 - kept) * noise.numpy(), atol=1e-5)


def test_noise_is_added_in_float32_whatever_comes_in():
    label = torch.zeros(1, 1, 4, 4, 4, dtype=torch.uint8)
    diffusion = LabelDiffusion(num_classes=2)
    noise = random(1, 2, 4, 4, 4).bfloat16()
    noisy = diffusion.add_noise(label, noise, torch.tensor([7]))
    assert noisy.dtype == torch.float32
    assert torch.equal(noisy, LabelDiffusion(num_classes=2).add_noise(label, noise.float(), torch.tensor([7])))
    assert diffusion.scheduler.alphas_cumprod.dtype == torch.float32


def reference(noise: torch.Tensor, times: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The DDIM sampler with eta = 0, estimates of x_0 clamped to [-1, 1], in float64."""
    noisy = noise.double()
    for index, time in enumerate(times):
        logits = denoiser(noisy, torch.full((len(noise),), time))
        clean = logits.clamp(-1, 1)
        epsilon = (noisy - np.sqrt(KEPT[time]) * clean) / np.sqrt(1 - KEPT[time])
        earlier = KEPT[times[index + 1]] if index + 1 < len(times) else 1.0
        noisy = np.sqrt(earlier) * clean + np.sqrt(1 - earlier) * epsilon
    return clean.numpy(), logits.numpy()


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_sample_equals_the_formula(steps):
    noise = random(2, 3, 3, 2, 4)
    diffusion = LabelDiffusion(num_classes=3, sample_steps=steps)
    sample = diffusion.sample(denoiser, noise)
    clean, logits = reference(noise, diffusion.sample_times)
    np.testing.assert_allclose(sample.clean.numpy(), clean, atol=1e-4)
    np.testing.assert_allclose(sample.logits.numpy(), logits, atol=1e-4)
    assert torch.equal(sample.clean, sample.logits.clamp(-1, 1)) and (sample.logits.abs() > 1).any()


def test_monais_own_step_is_another_sampler():
    """Why `sample` has its own step: MONAI's goes from 999 to 899, not to 888, and clamps after the direction."""
    noise = random(1, 2, 2, 2, 2)
    scheduler = DDIMScheduler(T, "linear_beta", prediction_type="sample", beta_start=1e-4, beta_end=0.02)
    scheduler.set_timesteps(10)
    logits = denoiser(noise, torch.tensor([999]))
    for given, agrees_at in ((logits.clamp(-1, 1), 899), (logits, None)):
        stepped, clean = scheduler.step(given, 999, noise)
        clean, epsilon = clean.double(), (noise - np.sqrt(KEPT[999]) * clean) / np.sqrt(1 - KEPT[999])
        for time in (899, 888):
            expected = np.sqrt(KEPT[time]) * clean + np.sqrt(1 - KEPT[time]) * epsilon
            assert np.allclose(stepped, expected, atol=1e-5) == (time == agrees_at)
    scheduler.set_timesteps(8)  # and for other numbers of steps the two come apart further on
    assert scheduler.timesteps[-2] - T // 8 > 0


def test_a_denoiser_that_knows_the_label_finds_it():
    label = torch.randint(3, (2, 1, 4, 4, 4), generator=torch.Generator().manual_seed(1))
    clean = 2.0 * torch.nn.functional.one_hot(label[:, 0], 3).movedim(-1, 1) - 1
    seen = []

    def know(noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        seen.append((noisy, times.tolist()))
        return 3 * clean

    noise = random(2, 3, 4, 4, 4)
    diffusion = LabelDiffusion(num_classes=3)
    assert torch.equal(diffusion.sample(know, noise).clean, clean)
    assert [times for _, times in seen] == [[time] * 2 for time in diffusion.sample_times]
    for noisy, times in seen:  # on its way the noisy map is the label with the noise that it began with
        kept = KEPT[times[0]]
        if times[0] == 999:
            assert torch.equal(noisy, noise)
            continue
        start = (noise - np.sqrt(KEPT[999]) * clean) / np.sqrt(1 - KEPT[999])
        torch.testing.assert_close(noisy, np.sqrt(kept) * clean + np.sqrt(1 - kept) * start, atol=1e-4, rtol=0)


def test_sampling_needs_no_gradient():
    weight = torch.ones((), requires_grad=True)
    sample = LabelDiffusion(2, sample_steps=2).sample(lambda noisy, times: weight * noisy, random(1, 2, 2, 2, 2))
    assert not sample.logits.requires_grad and not sample.clean.requires_grad


def test_times_are_drawn_from_all_steps():
    times = LabelDiffusion(2).draw_times(20_000, torch.Generator().manual_seed(0))
    assert times.min() == 0 and times.max() == 999
    assert times.double().mean().item() == pytest.approx(499.5, abs=10)


def test_settings_out_of_range_are_errors():
    for steps in (0, 1001):
        with pytest.raises(ValueError, match=f"sample_steps is {steps}; give a number from 1 to 1000"):
            LabelDiffusion(2, sample_steps=steps)
    with pytest.raises(ValueError, match="noise has the shape"):
        LabelDiffusion(3).add_noise(torch.zeros(1, 1, 2, 2, 2), torch.zeros(1, 2, 2, 2, 2), torch.tensor([1]))
