# SPDX-License-Identifier: Apache-2.0
"""Training on the labelled cases alone: the lower bound of every other method, and with all labels the upper."""

from __future__ import annotations

import torch
from torch import nn


class Supervised(nn.Module):
    r"""Minimise the supervised loss :math:`w \, L(f(x), y)` on labelled patches; unlabelled ones are not looked at.

    Args:
        network: maps images `(B, C, D, H, W)` to logits `(B, K, D, H, W)`.
        loss: takes logits and labels `(B, 1, D, H, W)`, such as MONAI's `DiceCELoss(softmax=True, to_onehot_y=True)`.
        supervised_weight: the factor w.
    """

    def __init__(self, network: nn.Module, loss: nn.Module, supervised_weight: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.supervised_weight = supervised_weight

    def forward(
        self, labeled: dict[str, torch.Tensor], unlabeled: dict[str, torch.Tensor] | None, progress: float
    ) -> dict[str, torch.Tensor]:
        """Return the loss to minimise and its parts.

        Args:
            labeled: "image" `(B, C, D, H, W)` and "label" `(B, 1, D, H, W)`.
            unlabeled: not used.
            progress: not used.
        """
        supervised = self.loss(self.network(labeled["image"]).float(), labeled["label"])
        return {"loss": self.supervised_weight * supervised, "supervised_loss": supervised.detach()}

    def after_step(self) -> None:
        """Do nothing: there is no teacher to move."""
