# SPDX-License-Identifier: Apache-2.0
"""UGPL: two networks of different design label the unlabelled scans for each other where they are certain."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..losses import (
    consistency_regularisation,
    cross_pseudo_supervision,
    entropy_filtered_supervision,
    kept_voxels,
    low_entropy,
    prototype_contrast,
    pseudo_label,
    reliable_voxels,
    sample_voxels,
    uncertainty_weighted_cross_entropy,
)
from ..networks import SubnetOutput


class UGPL(nn.Module):
    r"""Minimise :math:`L_s + L_u + \lambda_c(p) L_c`, with :math:`L_u = L_{cps} + L_{efs} + L_{une}` (equation 1).

    On labelled patches each network has its supervised loss and alpha times the squared error where only one of the
    two is sure of an object (equations 2 to 6). On unlabelled patches they train on each other's classes everywhere
    (7, 8) and where both have low entropy (9 to 11), on each other's sharpened probabilities, less where they differ
    (13 to 15), and draw the features of uncertain voxels to the mean feature of their class's reliable ones (16 to
    20). Both streams pass each network together. A weight of 0 leaves its term out.

    Reference: Lu et al., Enhancing dual network based semi-supervised medical image segmentation with
    uncertainty-guided pseudo-labeling (UGPL), Knowledge-Based Systems 2025, https://arxiv.org/abs/2509.13084.

    Differences from the paper: the prototypes are pushed apart (`prototype_term="pull"` is equation 20 to the letter);
    lambda_c rises, where the printed one falls from 5.46 to 0.1 though it is told to start small; the contrast takes
    the mean over a sample of each class's uncertain voxels, of features of length 1. `pseudo_supervision_weight` may
    rise; the paper has no such rise. The losses' own docstrings say the rest.

    Args:
        network: a `DualNetwork`; its forward pass, the mean of both networks, is what is deployed.
        loss: of logits and labels `(B, 1, D, H, W)`, equation 2's cross-entropy and Dice.
        pseudo_supervision_weight: maps progress to the weight of L_u.
        prototype_weight: maps progress to lambda_c.
        consistency_weight: alpha, of the regularisation of equation 6.
        cross_pseudo_weight: of L_cps inside L_u.
        entropy_filtered_weight: of L_efs inside L_u.
        uncertainty_weight: of L_une inside L_u.
        sure: lambda, the probability from which on a network is sure of an object, equation 5.
        consistency_rule: "xor" or "or", see `consistency_regularisation`.
        pseudo_label_threshold: None or the probability of `pseudo_label`, equation 7.
        entropy_percentile: gamma, the percentile up to which an entropy is low, equations 10 and 16.
        percentile_per_class: give each predicted class its own percentile.
        ignore_rule: "or" or "and", see `kept_voxels`.
        entropy_filtered_teacher: "other" or "own", see `entropy_filtered_supervision`.
        temperature: T_p, equation 13.
        prototype_term: "push", "off" or "pull", see `prototype_contrast`.
        prototype_margin: distance from which on prototypes are not pushed.
        sampled_fraction: share of a class's uncertain voxels that the contrast takes.
        sampled_limit: largest number of a class's uncertain voxels that it takes.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        pseudo_supervision_weight: Callable[[float], float],
        prototype_weight: Callable[[float], float],
        consistency_weight: float = 0.5,
        cross_pseudo_weight: float = 1.0,
        entropy_filtered_weight: float = 1.0,
        uncertainty_weight: float = 1.0,
        sure: float = 0.6,
        consistency_rule: str = "xor",
        pseudo_label_threshold: float | None = None,
        entropy_percentile: float = 70.0,
        percentile_per_class: bool = False,
        ignore_rule: str = "or",
        entropy_filtered_teacher: str = "other",
        temperature: float = 0.5,
        prototype_term: str = "push",
        prototype_margin: float = 1.0,
        sampled_fraction: float = 0.01,
        sampled_limit: int = 4096,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.pseudo_supervision_weight = pseudo_supervision_weight
        self.prototype_weight = prototype_weight
        self.consistency_weight = consistency_weight
        self.cross_pseudo_weight = cross_pseudo_weight
        self.entropy_filtered_weight = entropy_filtered_weight
        self.uncertainty_weight = uncertainty_weight
        self.sure = sure
        self.consistency_rule = consistency_rule
        self.pseudo_label_threshold = pseudo_label_threshold
        self.entropy_percentile = entropy_percentile
        self.percentile_per_class = percentile_per_class
        self.ignore_rule = ignore_rule
        self.entropy_filtered_teacher = entropy_filtered_teacher
        self.temperature = temperature
        self.prototype_term = prototype_term
        self.prototype_margin = prototype_margin
        self.sampled_fraction = sampled_fraction
        self.sampled_limit = sampled_limit

    def forward(
        self, labeled: dict[str, torch.Tensor], unlabeled: dict[str, torch.Tensor] | None, progress: float
    ) -> dict[str, torch.Tensor]:
        """Return the loss to minimise and its parts.

        Args:
            labeled: "image" `(B, C, D, H, W)` and "label" `(B, 1, D, H, W)`.
            unlabeled: "image" `(U, C, D, H, W)`, or None to train on the labels alone.
            progress: from 0 at the first iteration to 1 at the last.
        """
        label, count = labeled["label"], len(labeled["image"])
        images = labeled["image"] if unlabeled is None else torch.cat([labeled["image"], unlabeled["image"]])
        outputs = self.network.both(images)
        logits = [output.logits[:count].float() for output in outputs]
        terms = {  # name: its weight, and how to compute it if that is not 0
            "supervised_loss": (1.0, lambda: sum(self.loss(own, label) for own in logits)),  # equation 2
            "consistency_loss": (  # equation 6
                self.consistency_weight,
                lambda: consistency_regularisation(*logits, label, self.sure, self.consistency_rule),
            ),
        }
        shares = {}
        if unlabeled is not None:
            unlabeled_outputs = [SubnetOutput(*(part[count:].float() for part in output)) for output in outputs]
            more, shares = self._terms_of_unlabeled(unlabeled_outputs, progress)
            terms.update(more)
        parts = {name: compute() for name, (weight, compute) in terms.items() if weight}
        loss = sum(terms[name][0] * part for name, part in parts.items())  # equation 1
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}, **shares}

    def after_step(self) -> None:
        """Do nothing: there is no teacher to move."""

    def _terms_of_unlabeled(
        self, outputs: list[SubnetOutput], progress: float
    ) -> tuple[dict[str, tuple[float, Callable[[], torch.Tensor]]], dict[str, torch.Tensor]]:
        logits = [output.logits for output in outputs]
        low = [low_entropy(own, self.entropy_percentile, self.percentile_per_class) for own in logits]  # equation 9
        kept = kept_voxels(*low, self.ignore_rule)  # equation 10
        weight, prototype_weight = self.pseudo_supervision_weight(progress), self.prototype_weight(progress)
        terms = {
            "cross_pseudo_loss": (  # equation 8
                weight * self.cross_pseudo_weight,
                lambda: cross_pseudo_supervision(*logits, self.pseudo_label_threshold),
            ),
            "entropy_filtered_loss": (  # equation 11
                weight * self.entropy_filtered_weight,
                lambda: entropy_filtered_supervision(*logits, kept, self.entropy_filtered_teacher),
            ),
            "uncertainty_loss": (  # equation 14, in both directions
                weight * self.uncertainty_weight,
                lambda: sum(
                    uncertainty_weighted_cross_entropy(student, teacher, self.temperature)
                    for student, teacher in (logits, logits[::-1])
                ),
            ),
            "prototype_loss": (prototype_weight, lambda: self._prototype_loss(outputs, low)),  # equation 20
        }
        kept_of_class = _share_of_class(logits, kept)
        shares = {f"kept_of_class_{index}": share for index, share in enumerate(kept_of_class)}
        weights = {"pseudo_supervision_weight": weight, "prototype_weight": prototype_weight}
        return terms, {**shares, **{name: kept_of_class.new_tensor(value) for name, value in weights.items()}}

    def _prototype_loss(self, outputs: list[SubnetOutput], low: list[torch.Tensor]) -> torch.Tensor:
        reliable = reliable_voxels(*(output.logits for output in outputs), *low)  # equations 16 to 18
        loss = outputs[0].features.new_zeros(())
        for own, features in outputs:
            labels, num_classes = pseudo_label(own), own.shape[1]
            sample = sample_voxels(labels, ~reliable, num_classes, self.sampled_fraction, self.sampled_limit)
            loss = loss + prototype_contrast(
                features, labels, reliable, sample, self.prototype_term, self.prototype_margin
            )
        return loss


@torch.no_grad()
def _share_of_class(logits: list[torch.Tensor], kept: torch.Tensor) -> torch.Tensor:
    """Return which share of the voxels of each class, by the mean of all networks, is kept; 0 where there is none."""
    labels = pseudo_label(sum(own.softmax(1) for own in logits))
    members = torch.stack([labels == index for index in range(logits[0].shape[1])]).flatten(1)
    return (members & kept.flatten()).sum(1) / members.sum(1).clamp(min=1)
