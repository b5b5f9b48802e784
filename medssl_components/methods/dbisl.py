# SPDX-License-Identifier: Apache-2.0
"""DBiSL: classes and signed distances, predicted by two decoders, supervise each other in both directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.networks import one_hot
from torch import nn
from torch.nn import functional

from ..networks import DualTaskOutput, unanimous
from ..ops import distance_to_logits, distance_to_probability


class DBiSL(nn.Module):
    r"""Minimise :math:`\lambda (L_{sup} + L_{con}) + \beta(p) L_{pse}` (equation 15).

    Each decoder w of two predicts classes Y_w and signed distances R_w. T_s2r makes distances of classes and T_r2s
    classes of distances, both with gradients. L_sup compares all four with the label (equations 6 to 8), L_con compares
    the decoders and the tasks with each other (9 to 11), and L_pse trains both decoders on their mean prediction where
    all four label maps agree (12 to 14). L_con and L_pse take labelled and unlabelled patches alike, which pass through
    the network together. A weight of 0 leaves its term out.

    Reference: J. Li, Fully differentiable bidirectional dual-task synergistic learning for semi-supervised 3D medical
    image segmentation.

    Differences from the paper: pseudo-labels are hard (the paper averages probabilities; `hard_pseudo_labels=False`),
    and their loss is the mean over the voxels of agreement. A patch in which a predicted class is empty or full has no
    distances to compare and is left out of the terms with T_s2r. The paper gives no k, no weights inside L_sup and
    L_con, and no schedule for beta.

    Args:
        network: a `DualTaskNetwork`; its forward pass, the mean of both decoders, is what is deployed.
        loss: L_seg, of logits and labels `(B, 1, D, H, W)`.
        signed_distance_map: T_s2r, see `SignedDistanceMap`.
        pseudo_label_weight: maps progress to beta.
        consistency_weight: maps progress to the lambda of L_con.
        supervised_weight: the lambda of L_sup.
        k: steepness of T_r2s, see `distance_to_probability`.
        distance_weight: of the regression of distances in equation 6.
        s2r_supervised_weight: of T_s2r of the classes against the label's distances, equation 7.
        r2s_supervised_weight: of T_r2s of the distances against the label, equation 7.
        segmentation_consistency_weight: of the decoders' agreement on classes, equation 9.
        distance_consistency_weight: of the decoders' agreement on distances, equation 9.
        s2r_consistency_weight: of T_s2r of the classes against the distances, equation 10.
        r2s_consistency_weight: of T_r2s of the distances against the classes, equation 10.
        hard_pseudo_labels: take the class with the largest mean probability instead of the probabilities.
        pseudo_labels_on_labeled: train on pseudo-labels of labelled patches too.
        distances_vote: the distances' label maps must agree too, not only those of the classes.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        signed_distance_map: Callable[[torch.Tensor], torch.Tensor],
        pseudo_label_weight: Callable[[float], float],
        consistency_weight: Callable[[float], float],
        supervised_weight: float = 0.5,
        k: float = 100.0,
        distance_weight: float = 1.0,
        s2r_supervised_weight: float = 1.0,
        r2s_supervised_weight: float = 1.0,
        segmentation_consistency_weight: float = 1.0,
        distance_consistency_weight: float = 1.0,
        s2r_consistency_weight: float = 1.0,
        r2s_consistency_weight: float = 1.0,
        hard_pseudo_labels: bool = True,
        pseudo_labels_on_labeled: bool = True,
        distances_vote: bool = True,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.signed_distance_map = signed_distance_map
        self.pseudo_label_weight = pseudo_label_weight
        self.consistency_weight = consistency_weight
        self.supervised_weight = supervised_weight
        self.k = k
        self.distance_weight = distance_weight
        self.s2r_supervised_weight = s2r_supervised_weight
        self.r2s_supervised_weight = r2s_supervised_weight
        self.segmentation_consistency_weight = segmentation_consistency_weight
        self.distance_consistency_weight = distance_consistency_weight
        self.s2r_consistency_weight = s2r_consistency_weight
        self.r2s_consistency_weight = r2s_consistency_weight
        self.hard_pseudo_labels = hard_pseudo_labels
        self.pseudo_labels_on_labeled = pseudo_labels_on_labeled
        self.distances_vote = distances_vote

    def forward(
        self, labeled: dict[str, torch.Tensor], unlabeled: dict[str, torch.Tensor] | None, progress: float
    ) -> dict[str, torch.Tensor]:
        """Return the loss to minimise and its parts.

        Args:
            labeled: "image" `(B, C, D, H, W)` and "label" `(B, 1, D, H, W)`, which K - 1 further channels may follow:
                distances that were made beforehand, see `SignedDistanceMapd`; else they are made here, of the patch.
            unlabeled: "image" `(U, C, D, H, W)`, or None to train on the labelled patches alone.
            progress: from 0 at the first iteration to 1 at the last.
        """
        count = len(labeled["image"])
        images = labeled["image"] if unlabeled is None else torch.cat([labeled["image"], unlabeled["image"]])
        outputs = [DualTaskOutput(*(part.float() for part in output)) for output in self.network.dual_task(images)]
        logits = [output.logits for output in outputs]
        distances = [output.distance for output in outputs]
        probs = [decoder.softmax(1)[:, 1:] for decoder in logits]
        label, true_distance = self._label_and_distance(labeled["label"])
        s2r = self._transform(probs)
        first = 0 if self.pseudo_labels_on_labeled else count
        agreement = self._agreement(outputs)[first:]

        lambda_sup, lambda_con = self.supervised_weight, self.consistency_weight(progress)
        beta = self.pseudo_label_weight(progress)
        terms = {  # name: its weight, and how to compute it if that is not 0
            "segmentation_loss": (  # equation 6
                lambda_sup,
                lambda: sum(self.loss(y[:count], label) for y in logits),
            ),
            "distance_loss": (  # equation 6
                lambda_sup * self.distance_weight,
                lambda: sum(functional.mse_loss(r[:count], true_distance) for r in distances),
            ),
            "s2r_supervised_loss": (  # equation 7
                lambda_sup * self.s2r_supervised_weight,
                lambda: sum(_mse_of_maps(t[:count], true_distance) for t in s2r),
            ),
            "r2s_supervised_loss": (  # equation 7
                lambda_sup * self.r2s_supervised_weight,
                lambda: sum(self.loss(distance_to_logits(r[:count], self.k), label) for r in distances),
            ),
            "segmentation_consistency_loss": (  # equation 9
                lambda_con * self.segmentation_consistency_weight,
                lambda: functional.mse_loss(*probs),
            ),
            "distance_consistency_loss": (  # equation 9
                lambda_con * self.distance_consistency_weight,
                lambda: functional.mse_loss(*distances),
            ),
            "s2r_consistency_loss": (  # equation 10
                lambda_con * self.s2r_consistency_weight,
                lambda: sum(_mse_of_maps(t, r) for t, r in zip(s2r, distances, strict=True)),
            ),
            "r2s_consistency_loss": (  # equation 10
                lambda_con * self.r2s_consistency_weight,
                lambda: sum(
                    functional.mse_loss(distance_to_probability(r, self.k)[:, 1:], p)
                    for r, p in zip(distances, probs, strict=True)
                ),
            ),
            "pseudo_label_loss": (  # equation 14
                beta,
                lambda: self._pseudo_label_loss([y[first:] for y in logits], agreement),
            ),
        }
        parts = {name: compute() for name, (weight, compute) in terms.items() if weight}
        loss = sum((terms[name][0] * part for name, part in parts.items()), images.new_zeros(()))  # equation 15
        logged = {name: part.detach() for name, part in parts.items()}
        return {
            "loss": loss,
            **logged,
            "agreement": agreement.sum() / max(1, agreement.numel()),
            "pseudo_label_weight": loss.new_tensor(beta),
        }

    def after_step(self) -> None:
        """Do nothing: there is no teacher to move."""

    @torch.no_grad()
    def _label_and_distance(self, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        label, distance = label[:, :1], label[:, 1:]
        if distance.shape[1]:
            return label, distance
        if not (self.distance_weight or self.s2r_supervised_weight):
            return label, None
        return label, self.signed_distance_map(one_hot(label, self.network.num_classes)[:, 1:])

    def _transform(self, probs: list[torch.Tensor]) -> Sequence[torch.Tensor]:
        if not (self.s2r_supervised_weight or self.s2r_consistency_weight):
            return []
        return self.signed_distance_map(torch.cat(probs)).chunk(2)  # equation 5, of both decoders at once

    @torch.no_grad()
    def _agreement(self, outputs: list[DualTaskOutput]) -> torch.Tensor:
        maps = [output.label_maps() for output in outputs]
        return unanimous([label for both in maps for label in (both if self.distances_vote else both[:1])])  # eq. 13

    def _pseudo_label_loss(self, logits: list[torch.Tensor], agreement: torch.Tensor) -> torch.Tensor:
        mean = sum(y.detach().softmax(1) for y in logits) / len(logits)  # equation 12
        target = mean.max(1).indices if self.hard_pseudo_labels else mean
        cross_entropy = sum(functional.cross_entropy(y, target, reduction="none") for y in logits)[:, None]
        return (cross_entropy * agreement).sum() / agreement.sum().clamp(min=1)


def _mse_of_maps(transformed: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Average the squared difference over the maps of masks that are neither empty nor full; else a map is constant."""
    axes = list(range(2, transformed.ndim))
    counts = (transformed.detach().amin(axes) < transformed.detach().amax(axes)).float()
    return ((transformed - target).square().mean(axes) * counts).sum() / counts.sum().clamp(min=1)
