# SPDX-License-Identifier: Apache-2.0
"""DTLP-Net: a student learns from mixed and masked images what two different teachers say of the whole ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..losses import (
    DifficultyWeights,
    masked_reconstruction,
    soft_dice_distillation,
    weighted_dice_cross_entropy,
)
from ..networks import DiffusionVNet, PathOutput, untracked_statistics
from ..ops import (
    cutmix,
    mask_blocks,
    pool_features,
    propagate_labels,
    sample_block_mask,
    sample_cutmix,
)
from .diverse_teachers import DiverseTeachers, Teaching

BRANCHES = ("diffusion", "labeled")


class DTLP(nn.Module):
    r"""Minimise :math:`L_{deno} + L_{diff} + L_{mix} + \alpha L_{mic} + \beta L_{kd} + \gamma L_{rec} + \eta L_{corr}`.

    From labels learn the diffusion decoder, which removes noise from label maps (equation 2), and the labelled decoder,
    with a weight for each class (3 to 6). Two teachers label the unlabelled images, see `DiverseTeachers`. The decoder
    that is deployed learns these pseudo-labels on images with boxes of other images (12, 13) and on images with hidden
    blocks (14, 15), reconstructs the average's logits from images with hidden blocks (16), and distils the soft
    predictions of the other decoders (17). Logits that voxels of similar features pass on to each other are compared
    with labels and pseudo-labels (18 to 21). Before each step the deployed decoder is drawn a little towards the mean
    of the other two. A weight of 0 leaves its term out.

    Reference: W. Li et al., Boosting generic semi-supervised medical image segmentation via diverse teaching and label
    propagation (DTLP-Net), https://arxiv.org/abs/2508.08549, equation 22.

    Differences from the paper: all terms of unlabelled images rise with `unsupervised_weight`, where the paper has full
    weights from the first step. In a step without unlabelled images, of which the paper has none, the deployed decoder
    learns from the labelled ones, as nothing else would teach it. Passes of noisy label maps leave batch norm's running
    statistics alone, which are then those of images. The network's average is `published`, where the paper deploys the
    network itself.

    Args:
        network: a `DiffusionVNet`; its forward pass, the decoder theta, is what is deployed.
        loss: of logits and labels `(B, 1, D, H, W)`, Dice and cross-entropy.
        teachers: the two teachers, with the diffusion.
        difficulty: the classes' weights in L_diff.
        unsupervised_weight: maps progress to the factor of all terms of unlabelled images.
        mix_weight: of L_mix.
        masked_weight: of L_mic, alpha.
        distillation_weight: of L_kd, beta.
        reconstruction_weight: of L_rec, gamma.
        propagation_weight: of L_corr, eta.
        unlabeled_weight: of the deployed decoder's loss on whole unlabelled images (11), 0 in the paper.
        labeled_weight: of the deployed decoder's loss on labelled images, 0 in the paper; without unlabelled images 0
            stands for 1.
        pull: share of the deployed decoder's weights that the mean of the other two replaces before each step.
        labeled_share: see `sample_cutmix`.
        concentration: see `sample_cutmix`.
        mask_ratio: r, the share of blocks that are hidden.
        blocks: number of blocks along each axis.
        propagation_branch: "diffusion" or "labeled", whose logits of labelled images are passed on in L_corr^l.
        propagation_scale: see `correlation_map`.
        propagation_sum: see `correlation_map`.
        propagation_voxels: features are pooled to a map of at most so many voxels first.
        detach_logits: see `propagate_labels`.

    Raises:
        ValueError: for an unknown branch.
    """

    def __init__(
        self,
        network: DiffusionVNet,
        loss: nn.Module,
        teachers: DiverseTeachers,
        difficulty: DifficultyWeights,
        unsupervised_weight: Callable[[float], float],
        mix_weight: float = 1.0,
        masked_weight: float = 2.0,
        distillation_weight: float = 0.1,
        reconstruction_weight: float = 0.2,
        propagation_weight: float = 1.2,
        unlabeled_weight: float = 0.0,
        labeled_weight: float = 0.0,
        pull: float = 0.01,
        labeled_share: float = 0.5,
        concentration: int = 4,
        mask_ratio: float = 0.7,
        blocks: int = 16,
        propagation_branch: str = "diffusion",
        propagation_scale: str = "inside",
        propagation_sum: str = "source",
        propagation_voxels: int = 4096,
        detach_logits: bool = False,
    ) -> None:
        super().__init__()
        if propagation_branch not in BRANCHES:
            raise ValueError(f'propagation_branch "{propagation_branch}" is unknown: use one of {", ".join(BRANCHES)}')
        self.network = network
        self.loss = loss
        self.teachers = teachers
        self.difficulty = difficulty
        self.unsupervised_weight = unsupervised_weight
        self.mix_weight = mix_weight
        self.masked_weight = masked_weight
        self.distillation_weight = distillation_weight
        self.reconstruction_weight = reconstruction_weight
        self.propagation_weight = propagation_weight
        self.unlabeled_weight = unlabeled_weight
        self.labeled_weight = labeled_weight
        self.pull = pull
        self.labeled_share = labeled_share
        self.concentration = concentration
        self.mask_ratio = mask_ratio
        self.blocks = blocks
        self.propagation_branch = propagation_branch
        self.propagation_scale = propagation_scale
        self.propagation_sum = propagation_sum
        self.propagation_voxels = propagation_voxels
        self.detach_logits = detach_logits

    def forward(
        self, labeled: dict[str, torch.Tensor], unlabeled: dict[str, torch.Tensor] | None, progress: float
    ) -> dict[str, torch.Tensor]:
        """Draw the deployed decoder towards the others, and return the loss to minimise and its parts.

        Args:
            labeled: "image" `(B, C, D, H, W)` and "label" `(B, 1, D, H, W)`.
            unlabeled: "image" `(U, C, D, H, W)`, or None to train on the labels alone.
            progress: from 0 at the first iteration to 1 at the last.
        """
        if self.pull:
            self._pull()
        terms = self._terms_of_labeled(labeled["image"], labeled["label"])
        logged = {}
        if unlabeled is None:
            self.teachers.start(self.network)
            terms["labeled_loss"] = (self.labeled_weight or 1.0, terms["labeled_loss"][1])
        else:
            weight = self.unsupervised_weight(progress)
            teaching = self.teachers(self.network, labeled["image"], unlabeled["image"])
            of_unlabeled = self._terms_of_unlabeled(labeled, unlabeled["image"], teaching)
            terms.update({name: (weight * own, compute) for name, (own, compute) in of_unlabeled.items()})
            logged["unsupervised_weight"] = torch.full((), weight, device=labeled["image"].device)
        parts = {name: compute() for name, (weight, compute) in terms.items() if weight}
        loss = sum(terms[name][0] * part for name, part in parts.items())  # equation 22
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}, **logged}

    def after_step(self) -> None:
        """Move the second teacher towards the student."""
        self.teachers.update(self.network)

    @property
    def published(self) -> nn.Module:
        """The network to deploy: the second teacher's, in which the last steps are averaged."""
        return self.teachers.average.average

    def _terms_of_labeled(
        self, image: torch.Tensor, label: torch.Tensor
    ) -> dict[str, tuple[float, Callable[[], torch.Tensor]]]:
        diffusion = self.teachers.diffusion
        times = diffusion.draw_times(len(image), device=image.device)
        shape = (len(image), self.network.num_classes, *image.shape[2:])
        noisy = diffusion.add_noise(label, torch.randn(shape, device=image.device), times)  # equation 1
        with untracked_statistics(self.network):
            denoised = self.network.diffusion_path(image, noisy, times)
        self.difficulty.update(denoised.logits, label)
        direct = self.network.labeled_path(image)
        passed_on = denoised if self.propagation_branch == "diffusion" else direct
        return {
            "denoising_loss": (1.0, lambda: self.loss(denoised.logits.float(), label)),  # equation 2
            "difficulty_loss": (  # equation 3
                1.0,
                lambda: weighted_dice_cross_entropy(direct.logits, label, self.difficulty()),
            ),
            "propagation_loss": (  # equation 21, labelled
                self.propagation_weight,
                lambda: self.loss(self._propagate(passed_on), label),
            ),
            "labeled_loss": (self.labeled_weight, lambda: self.loss(self.network(image).float(), label)),
        }

    def _terms_of_unlabeled(
        self, labeled: dict[str, torch.Tensor], image: torch.Tensor, teaching: Teaching
    ) -> dict[str, tuple[float, Callable[[], torch.Tensor]]]:
        pseudo_label = teaching.probs.max(1, keepdim=True).indices
        terms: dict[str, tuple[float, Callable[[], torch.Tensor]]] = {}
        if self.unlabeled_weight or self.distillation_weight or self.propagation_weight:
            whole = self.network.unlabeled_path(image)
            terms["unlabeled_loss"] = (  # equation 11
                self.unlabeled_weight,
                lambda: self.loss(whole.logits.float(), pseudo_label),
            )
            terms["distillation_loss"] = (  # equation 17
                self.distillation_weight,
                lambda: soft_dice_distillation(whole.logits, teaching.soft),
            )
            terms["unlabeled_propagation_loss"] = (  # equation 20
                self.propagation_weight,
                lambda: self.loss(self._propagate(whole), pseudo_label),
            )
        if self.mix_weight:
            counts = len(labeled["image"]), len(image)
            boxes = sample_cutmix(image.shape[2:], *counts, self.labeled_share, self.concentration, device=image.device)
            mixed = self.network(cutmix(labeled["image"], image, boxes)).float()  # equation 12
            mixed_label = cutmix(labeled["label"].long(), pseudo_label, boxes)
            terms["mix_loss"] = (self.mix_weight, lambda: self.loss(mixed, mixed_label))  # equation 13
        if self.masked_weight or self.reconstruction_weight:
            images = torch.cat([labeled["image"], image])
            visible = sample_block_mask(
                len(images), images.shape[2:], self.mask_ratio, self.blocks, device=image.device
            )  # equation 14
            masked = self.network(mask_blocks(images, visible)).float()
            terms["masked_loss"] = (  # equation 15
                self.masked_weight,
                lambda: self.loss(masked[-len(image) :], pseudo_label),
            )
            terms["reconstruction_loss"] = (  # equation 16
                self.reconstruction_weight,
                lambda: masked_reconstruction(masked, teaching.logits),
            )
        return terms

    def _propagate(self, output: PathOutput) -> torch.Tensor:
        source, target = self.network.project(pool_features(output.features, self.propagation_voxels))
        return propagate_labels(  # equations 18 and 19
            output.logits, source, target, self.propagation_scale, self.propagation_sum, self.detach_logits
        )

    @torch.no_grad()
    def _pull(self) -> None:
        network = self.network
        decoders = network.deployed.decoder, network.diffusion_decoder, network.labeled_decoder
        for deployed, *others in zip(*(decoder.parameters() for decoder in decoders), strict=True):
            deployed.lerp_(sum(others) / len(others), self.pull)
