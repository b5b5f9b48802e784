# SPDX-License-Identifier: Apache-2.0
"""Two teachers of different kinds: a diffusion with the labelled decoder, and the moving average of the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from ..networks import DiffusionVNet, untracked_statistics
from ..ops import LabelDiffusion, entropy_ensemble, gumbel_softmax_map, sample_gumbel
from .moving_average import MovingAverage

TEACHERS = ("first", "second")


class Teaching(NamedTuple):
    """What the teachers say, none of it with a gradient.

    `probs` (U, K, ...) is the ensemble on the unlabelled images and `first`, `second` are its members (None if left
    out); `soft` are the predictions to distil, of the labelled decoder and, where it sampled, of the diffusion;
    `logits` (L + U, K, ...) are the average's on the labelled images, then on the unlabelled ones.
    """

    probs: torch.Tensor
    first: torch.Tensor | None
    second: torch.Tensor | None
    soft: list[torch.Tensor]
    logits: torch.Tensor


class DiverseTeachers(nn.Module):
    r"""Predict unlabelled images by two teachers, and weigh them by their entropy.

    The first teacher is the mean of the labelled decoder's softmax and of a label map that the diffusion decoder makes
    out of noise, softened with Gumbel noise and a blur (equation 7). The second one is the moving average of the
    network, on its deployed path. Their ensemble is that of equations 8 to 10.

    Reference: W. Li et al., Boosting generic semi-supervised medical image segmentation via diverse teaching and label
    propagation (DTLP-Net), https://arxiv.org/abs/2508.08549, section III-B.

    Differences from the paper: the passes without gradient leave running statistics alone and drop no channel; the
    diffusion and the labelled decoder use the statistics of the batch, the average its own, which are averages as well:
    those of the network follow its last few steps. What is distilled of the diffusion is the softmax of its last logits
    before the clamp; clamped to [-1, 1] they are nearly uniform for many classes. The average is moved at every step
    (the paper says periodically).

    Args:
        network: the student, which is copied.
        diffusion: adds noise to label maps and makes label maps out of noise.
        teachers: which of "first" and "second" make the pseudo-labels (table XI).
        ema_decay: of the average.
        buffers: what becomes of running statistics in the average, "average" or "copy", see `update_ema`.
        sampling_interval: steps from one sampling of the diffusion to the next; without it the labelled decoder is the
            first teacher alone. 1 in the paper; sampling takes a third of a step's arithmetic.
        temperature: of the Gumbel softmax.
        blur: standard deviation of the Gaussian in voxels.

    Raises:
        ValueError: for an unknown teacher, none, an interval below 1, or what `MovingAverage` refuses.
    """

    def __init__(
        self,
        network: DiffusionVNet,
        diffusion: LabelDiffusion,
        teachers: Sequence[str] = TEACHERS,
        ema_decay: float = 0.99,
        buffers: str = "average",
        sampling_interval: int = 1,
        temperature: float = 1.0,
        blur: float = 1.0,
    ) -> None:
        super().__init__()
        if not teachers or any(teacher not in TEACHERS for teacher in teachers):
            raise ValueError(f"teachers is {list(teachers)}; give one of {', '.join(TEACHERS)} or both")
        if sampling_interval < 1:
            raise ValueError(f"sampling_interval is {sampling_interval}; give 1 or more")
        self.average = MovingAverage(network, ema_decay, buffers)
        self.diffusion = diffusion
        self.teachers = tuple(teachers)
        self.sampling_interval = sampling_interval
        self.temperature = temperature
        self.blur = blur

    @torch.no_grad()
    def forward(self, network: DiffusionVNet, labeled: torch.Tensor, unlabeled: torch.Tensor) -> Teaching:
        """Predict a step's images.

        Args:
            network: the student.
            labeled: images `(L, C, D, H, W)`.
            unlabeled: images `(U, C, D, H, W)`.
        """
        step = self.average.start(network)
        self.average.eval()
        logits = self.average(torch.cat([labeled, unlabeled])).float()
        first, soft = self._first(network, unlabeled, sample=step % self.sampling_interval == 0)
        second = logits[len(labeled) :].softmax(1)
        first, second = (first if "first" in self.teachers else None), (second if "second" in self.teachers else None)
        if first is None or second is None:
            probs = first if second is None else second
        else:
            probs = entropy_ensemble(first, second)  # equations 8 to 10
        return Teaching(probs, first, second, soft, logits)

    def start(self, network: DiffusionVNet) -> None:
        """Begin the average in a step without unlabelled images, which does not ask the teachers."""
        self.average.start(network)

    def update(self, network: DiffusionVNet) -> None:
        """Move the average towards the student, after its step."""
        self.average.update(network)

    def _first(
        self, network: DiffusionVNet, image: torch.Tensor, sample: bool
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        with untracked_statistics(network, dropout=False):
            probs = network.labeled_path(image).logits.float().softmax(1)
            if not sample:
                return probs, [probs]
            shape = (len(image), network.num_classes, *image.shape[2:])
            denoised = self.diffusion.sample(
                lambda noisy, times: network.diffusion_path(image, noisy, times).logits,
                torch.randn(shape, device=image.device),
            )
        noise = sample_gumbel(shape, device=image.device)
        smooth = gumbel_softmax_map(denoised.clean, noise, self.temperature, self.blur)
        return (smooth + probs) / 2, [denoised.logits.softmax(1), probs]  # equation 7
