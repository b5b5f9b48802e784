# SPDX-License-Identifier: Apache-2.0
"""Label maps that noise is added to, and label maps that come out of noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from monai.networks import one_hot
from monai.networks.schedulers import DDIMScheduler


class DenoisedLabel(NamedTuple):
    """What came out of noise: `clean`, clamped to [-1, 1], and the `logits` it was clamped from, `(B, K, ...)`."""

    clean: torch.Tensor
    logits: torch.Tensor


class LabelDiffusion:
    r"""Adds noise to label maps, :math:`x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t} \epsilon`; removes it.

    References: W. Li et al., Boosting generic semi-supervised medical image segmentation (DTLP-Net),
    https://arxiv.org/abs/2508.08549, equation 1, which prints :math:`\alpha` for :math:`\bar\alpha`, and section III-B
    a; Song et al., Denoising diffusion implicit models (DDIM), https://arxiv.org/abs/2010.02502, equation 12 with
    :math:`\sigma = 0`. A label map enters as :math:`x_0 = 2 y - 1`, y having one channel of 0 and 1 for each class; the
    network's logits are its estimate of it.

    The noise and the chosen steps are those of MONAI's `DDIMScheduler`. Its own `step` is not used: it goes to the time
    `t - T // n`, which is the next of the chosen ones only by chance (899 after 999 for 10 of 1000, not 888), and takes
    the direction of the noise from the estimate before it is clamped.

    Args:
        num_classes: background included, K.
        train_steps: T, number of steps of the diffusion.
        beta_start: variance of the noise of the first step; it rises linearly.
        beta_end: variance of the noise of the last step.
        sample_steps: number n of steps that `sample` takes, evenly spaced from T - 1 to 0.

    Raises:
        ValueError: for a number of steps that is not in 1..T.
    """

    def __init__(
        self,
        num_classes: int,
        train_steps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        sample_steps: int = 10,
    ) -> None:
        if not 1 <= sample_steps <= train_steps:
            raise ValueError(f"sample_steps is {sample_steps}; give a number from 1 to {train_steps}")
        self.num_classes = num_classes
        self.train_steps = train_steps
        self.scheduler = DDIMScheduler(train_steps, "linear_beta", beta_start=beta_start, beta_end=beta_end)
        self.scheduler.set_timesteps(sample_steps)
        self.sample_times: list[int] = self.scheduler.timesteps.tolist()
        self._kept: list[float] = self.scheduler.alphas_cumprod[self.scheduler.timesteps].tolist()

    def draw_times(
        self, count: int, generator: torch.Generator | None = None, device: torch.device | str | None = None
    ) -> torch.Tensor:
        """Draw the step t of each label map, uniformly from 0 to T - 1, (count,).

        Args:
            count: number of label maps.
            generator: source of the random numbers, on the same device; None takes PyTorch's own.
            device: of the result.
        """
        return torch.randint(self.train_steps, (count,), generator=generator, device=device)

    def add_noise(self, label: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Return the noisy label maps x_t, `(B, K, ...)` in fp32.

        Args:
            label: class indices, `(B, 1, ...)`.
            noise: epsilon, of the standard normal distribution, `(B, K, ...)`.
            times: t, `(B,)`.

        Raises:
            ValueError: for noise of another shape.
        """
        clean = 2 * one_hot(label, self.num_classes) - 1
        if clean.shape != noise.shape:
            raise ValueError(f"noise has the shape {tuple(noise.shape)}; for this label give {tuple(clean.shape)}")
        return self.scheduler.add_noise(clean, noise.float(), times)

    @torch.no_grad()
    def sample(
        self, denoise: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], noise: torch.Tensor
    ) -> DenoisedLabel:
        """Turn noise into label maps.

        Args:
            denoise: maps noisy label maps `(B, K, ...)` and their times `(B,)` to logits `(B, K, ...)`.
            noise: where to start, of the standard normal distribution, `(B, K, ...)`.

        Returns:
            The estimate at the last step, t = 0.
        """
        noisy = noise.float()
        for time, kept, next_kept in zip(self.sample_times, self._kept, [*self._kept[1:], 1.0], strict=True):
            logits = denoise(noisy, torch.full((len(noise),), time, device=noise.device)).float()
            clean = logits.clamp(-1, 1)
            direction = (noisy - math.sqrt(kept) * clean) / math.sqrt(1 - kept)
            noisy = math.sqrt(next_kept) * clean + math.sqrt(1 - next_kept) * direction
        return DenoisedLabel(clean, logits)
