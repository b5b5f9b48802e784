# SPDX-License-Identifier: Apache-2.0
"""A student that agrees with the moving average of itself on unlabelled scans."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from .moving_average import MovingAverage


class MeanTeacher(nn.Module):
    r"""Minimise :math:`w_s L_{sup}(f(x), y) + w(p) \, \| \sigma(f(u)) - \sigma(f'(u + \eta)) \|^2`, f' being f's mean.

    The student f sees labelled and unlabelled patches in one pass, so that its BatchNorm statistics are those of the
    joint batch. The teacher f' has f's weights averaged over the steps; no gradient reaches it. It sees the unlabelled
    patches with noise added, in training mode, with dropout and batch statistics of its own.

    References: Tarvainen and Valpola, Mean teachers are better role models, NeurIPS 2017,
    https://arxiv.org/abs/1703.01780; with the settings of Yu et al., Uncertainty-aware self-ensembling model, MICCAI
    2019, https://arxiv.org/abs/1907.07034, without its uncertainty.

    Args:
        network: the student, and the network to deploy: maps images `(B, C, D, H, W)` to logits `(B, K, D, H, W)`.
        loss: the supervised loss, of logits and labels `(B, 1, D, H, W)`.
        consistency_weight: maps progress to the weight w.
        supervised_weight: the factor w_s.
        ema_decay: of the teacher; it starts as the mean of all weights so far, see `warmed_up_decay`.
        noise: standard deviation of the normal noise on the teacher's input, in standard deviations of the image.
        noise_limit: the noise is cut off there, on both sides.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        consistency_weight: Callable[[float], float],
        supervised_weight: float = 1.0,
        ema_decay: float = 0.99,
        noise: float = 0.1,
        noise_limit: float = 0.2,
    ) -> None:
        super().__init__()
        self.network = network
        self.teacher = MovingAverage(network, ema_decay)
        self.loss = loss
        self.consistency_weight = consistency_weight
        self.supervised_weight = supervised_weight
        self.noise = noise
        self.noise_limit = noise_limit

    def forward(
        self, labeled: dict[str, torch.Tensor], unlabeled: dict[str, torch.Tensor] | None, progress: float
    ) -> dict[str, torch.Tensor]:
        """Return the loss to minimise and its parts.

        Args:
            labeled: "image" `(B, C, D, H, W)` and "label" `(B, 1, D, H, W)`.
            unlabeled: "image" `(U, C, D, H, W)`, or None to train on the labels alone.
            progress: from 0 at the first iteration to 1 at the last.
        """
        self.teacher.start(self.network)
        count = len(labeled["image"])
        images = labeled["image"] if unlabeled is None else torch.cat([labeled["image"], unlabeled["image"]])
        logits = self.network(images).float()
        supervised = self.loss(logits[:count], labeled["label"])
        losses = {"loss": self.supervised_weight * supervised, "supervised_loss": supervised.detach()}
        if unlabeled is not None:
            consistency = (logits[count:].softmax(1) - self._teach(unlabeled["image"])).square().mean()
            weight = self.consistency_weight(progress)
            losses["loss"] = losses["loss"] + weight * consistency
            losses["consistency_loss"] = consistency.detach()
            losses["consistency_weight"] = consistency.new_tensor(weight)
        return losses

    def after_step(self) -> None:
        """Move the teacher towards the student."""
        self.teacher.update(self.network)

    @torch.no_grad()
    def _teach(self, image: torch.Tensor) -> torch.Tensor:
        noise = (self.noise * torch.randn_like(image)).clamp(-self.noise_limit, self.noise_limit)
        return self.teacher(image + noise).float().softmax(1)
