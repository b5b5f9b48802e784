# SPDX-License-Identifier: Apache-2.0
"""SKCDF: a decoder for labelled and one for unlabelled data, with heads that see all classes equally often."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from ..losses import balance_mask, balanced_loss, class_ratios
from ..losses.class_balance import READINGS
from ..ops import update_ema

TRANSFERS = ("labeled_head", "decoder", "unlabeled_head")


class SKCDF(nn.Module):
    r"""Minimise :math:`L_{sup,m} + L_{sup,a} + \lambda_u(p) (L_{u,m} + L_{u,a})` (equation 20).

    The labelled decoder sees both streams, whose features complement each other, and learns from the labels; what it
    predicts of the unlabelled patches are pseudo-labels. From these the unlabelled decoder learns, in a second pass of
    the unlabelled patches alone. Each decoder has a main head m and an auxiliary one a, whose loss drops voxels of
    frequent classes at random (equations 16 to 19). Before each step knowledge moves along: the labelled decoder's
    auxiliary head into its main head, that decoder into the unlabelled one, and there the auxiliary head into the main
    one, each by a moving average (equation 6). All of them train too. A transfer between heads moves a share of the
    weights whatever the learning rate; where that falls to 0 the main heads end as copies of the auxiliary ones, which
    predict too much of rare classes, unless `head_transfer` falls with it.

    Where lambda_u is 0 the second pass keeps no gradients. It is not left out: the statistics of batch normalisation
    that the unlabelled decoder is deployed with come from no other pass, and the log has its losses.

    Reference: Zhang et al., A semantic knowledge complementarity based decoupling framework for semi-supervised
    class-imbalanced medical image segmentation (SKCDF), CVPR 2025.

    Differences from the paper: :math:`\lambda_u` rises, as in the released code, where the paper has the constant 10.
    The pseudo-label that decides which voxels an auxiliary head drops is that head's own. For those of the balanced
    loss see `balanced_loss` and `class_ratios`, for those of the network `DecoupledVNet`.

    Args:
        network: a `DecoupledVNet`; its forward pass is what is deployed. Without auxiliary heads, without the second
            decoder or without the module, the terms and transfers that need them are left out (table 3).
        loss: of logits and labels `(B, 1, D, H, W)`, Dice and cross-entropy.
        class_counts: number of voxels of each class in the labelled cases, see `data.count_classes`.
        unlabeled_weight: maps progress to lambda_u.
        transfers: in this order, "labeled_head", "decoder" and "unlabeled_head"; other orders and fewer steps are
            those of table 5, none that of table 4 without the moving average.
        ema_decay: share of the old weights that a transfer keeps.
        head_transfer: maps progress to a factor on the share 1 - `ema_decay` that a transfer between heads moves; None
            is 1 throughout, as in the released code.
        auxiliary_weight: of both auxiliary heads' losses; 1 in the paper.
        balance_reading: "loss" or "logits", see `balanced_loss`.

    Raises:
        ValueError: for an unknown transfer or reading, or counts of another number of classes than the network's.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        class_counts: Sequence[int] | torch.Tensor,
        unlabeled_weight: Callable[[float], float],
        transfers: Sequence[str] = TRANSFERS,
        ema_decay: float = 0.99,
        head_transfer: Callable[[float], float] | None = None,
        auxiliary_weight: float = 1.0,
        balance_reading: str = "loss",
    ) -> None:
        super().__init__()
        for transfer in transfers:
            if transfer not in TRANSFERS:
                raise ValueError(f'transfers names "{transfer}", which is unknown: use {", ".join(TRANSFERS)}')
        if balance_reading not in READINGS:
            raise ValueError(f'balance_reading "{balance_reading}" is unknown: use one of {", ".join(READINGS)}')
        if len(class_counts) != network.num_classes:
            raise ValueError(f"class_counts has {len(class_counts)} numbers, the network {network.num_classes} classes")
        self.network = network
        self.loss = loss
        self.unlabeled_weight = unlabeled_weight
        self.transfers = tuple(transfers)
        self.ema_decay = ema_decay
        self.head_transfer = head_transfer
        self.auxiliary_weight = auxiliary_weight
        self.balance_reading = balance_reading
        self.register_buffer("class_ratios", class_ratios(class_counts))

    def forward(
        self, labeled: dict[str, torch.Tensor], unlabeled: dict[str, torch.Tensor] | None, progress: float
    ) -> dict[str, torch.Tensor]:
        """Move knowledge along, and return the loss to minimise and its parts.

        Args:
            labeled: "image" `(B, C, D, H, W)` and "label" `(B, 1, D, H, W)`.
            unlabeled: "image" `(U, C, D, H, W)`, or None to train the labelled decoder alone.
            progress: from 0 at the first iteration to 1 at the last.
        """
        self._transfer(progress)
        label, count = labeled["label"], len(labeled["image"])
        images = labeled["image"] if unlabeled is None else torch.cat([labeled["image"], unlabeled["image"]])
        joint = self.network.joint(images, count)  # equations 2 and 7 to 12
        parts = self._losses("supervised", [logits[:count] for logits in joint if logits is not None], [label] * 2, 1.0)
        loss = self._sum(parts)
        if unlabeled is not None:
            # max gives the indices ten times as fast as argmax on a CPU
            pseudo_labels = [
                logits[count:].detach().max(1, keepdim=True).indices for logits in joint if logits is not None
            ]  # equations 3 and 15
            weight = self.unlabeled_weight(progress)
            with torch.set_grad_enabled(weight != 0 and torch.is_grad_enabled()):
                alone = [logits for logits in self.network.alone(unlabeled["image"]) if logits is not None]
                of_unlabeled = self._losses("unlabeled", alone, pseudo_labels, progress)
            loss = loss + weight * self._sum(of_unlabeled)  # equation 20
            parts = {**parts, **of_unlabeled, "unlabeled_weight": loss.new_tensor(weight)}
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}}

    def after_step(self) -> None:
        """Do nothing: knowledge moves along before the next step."""

    def _losses(
        self, stream: str, heads: list[torch.Tensor], labels: list[torch.Tensor], progress: float
    ) -> dict[str, torch.Tensor]:
        """Return the loss of the main head and, if it is there, that of the auxiliary head."""
        losses = {f"{stream}_loss": self.loss(heads[0].float(), labels[0])}
        if len(heads) > 1 and self.auxiliary_weight:
            kept = balance_mask(labels[1], self.class_ratios, progress)  # equations 16 and 18
            losses[f"{stream}_auxiliary_loss"] = balanced_loss(  # equations 17 and 19
                self.loss, heads[1], labels[1], kept, self.balance_reading
            )
        return losses

    def _sum(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        main, *auxiliary = losses.values()
        return main + self.auxiliary_weight * sum(auxiliary)

    def _transfer(self, progress: float) -> None:
        factor = 1.0 if self.head_transfer is None else self.head_transfer(progress)
        head_decay = 1 - (1 - self.ema_decay) * factor
        labeled, unlabeled = self.network.labeled_decoder, self.network.unlabeled_decoder
        for transfer in self.transfers:  # equation 6
            if transfer == "decoder":
                if unlabeled is not None:
                    update_ema(unlabeled, labeled, self.ema_decay)
                continue
            decoder = labeled if transfer == "labeled_head" else unlabeled
            if decoder is not None and decoder.auxiliary_head is not None:
                update_ema(decoder.head, decoder.auxiliary_head, head_decay)
