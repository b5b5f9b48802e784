# SPDX-License-Identifier: Apache-2.0
"""Two networks of different design that see the same image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from .mean_logits import mean_logits
from .patch_size import check_patch_size
from .resnet_vnet import ResNetVNet
from .vnet import VNet


class SubnetOutput(NamedTuple):
    """What one of the two predicts: `logits` (B, K, ...), and the `features` (B, C, ...) that they are made of."""

    logits: torch.Tensor
    features: torch.Tensor


class DualNetwork(nn.Module):
    """A V-Net with a residual encoder (subnet A) beside a plain V-Net (subnet B).

    Lu et al., "Enhancing dual network based semi-supervised medical image segmentation with uncertainty-guided
    pseudo-labeling" (UGPL), Knowledge-Based Systems 2025, https://arxiv.org/abs/2509.13084, section 3. ``forward``
    gives the mean of the two's class probabilities, as logits; training takes ``both``. With one input channel and two
    classes it has 27,379,220 parameters. ``divisor`` holds the total stride along each axis; ``resnet_vnet`` and
    ``vnet`` are its two parts.

    Differences from the paper: it prints 27.30 million parameters and does not list the layers.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the logits, background included.
        base_channels: channels at full resolution; doubled at each lower one.
        num_blocks: number of residual blocks of A's encoder at each resolution below the first.
        num_convs: number of B's 3x3x3 convolutions at each resolution, from the finest to the coarsest; A's decoder has
            as many as B's.
        strides: factor between each resolution and the next, an int or three ints for an anisotropic scan.
        upsampling: ``"transposed"``, ``"trilinear"`` or ``"nearest"``; see :func:`~.blocks.upsampling_unit`.
        dropout: probability of dropping a channel in training, of each subnet's last map and of B's coarsest.
        norm: ``"batch"``, ``"instance"`` or ``"group"``, with learned scale and shift.
        norm_groups: number of groups of ``"group"``.
        initialisation: ``"kaiming"``, ``"xavier"`` or ``"default"``; see :func:`~.blocks.initialise`.

    Raises:
        ValueError: for an unknown word, groups that do not divide the channels, or numbers of blocks, convolutions and
            strides that do not fit together.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        base_channels: int = 16,
        num_blocks: Sequence[int] = (3, 4, 6, 3),
        num_convs: Sequence[int] = (1, 2, 3, 3, 3),
        strides: Sequence[int | Sequence[int]] = (2, 2, 2, 2),
        upsampling: str = "transposed",
        dropout: float = 0.5,
        norm: str = "batch",
        norm_groups: int = 8,
        initialisation: str = "kaiming",
    ) -> None:
        super().__init__()
        if len(num_blocks) != len(num_convs) - 1:
            raise ValueError(
                f"num_blocks has {len(num_blocks)} entries, num_convs {len(num_convs)}: num_convs needs one more"
            )
        size = {"in_channels": in_channels, "num_classes": num_classes, "base_channels": base_channels}
        layers = {"upsampling": upsampling, "dropout": dropout, "norm": norm, "norm_groups": norm_groups}
        shared = {**size, **layers, "strides": strides, "initialisation": initialisation}
        self.vnet = VNet(num_convs=num_convs, **shared)
        self.resnet_vnet = ResNetVNet(num_blocks=num_blocks, num_convs=num_convs[:-1], **shared)
        self.num_classes = num_classes
        self.divisor = self.vnet.divisor

    def check_patch_size(self, patch_size: Sequence[int]) -> None:
        """Raise an error of one line that proposes the nearest sizes if the network cannot take this patch.

        Args:
            patch_size: sides of the patch in voxels, one for each spatial axis.
        """
        check_patch_size(patch_size, self.divisor)

    def both(self, image: torch.Tensor) -> tuple[SubnetOutput, SubnetOutput]:
        """Compute the logits and features of A, the residual one, and of B.

        Args:
            image: (B, in_channels, D, H, W), each side a multiple of ``divisor``.
        """
        first, second = self.resnet_vnet.features(image), self.vnet.features(image)
        return (
            SubnetOutput(self.resnet_vnet.head(first), first),
            SubnetOutput(self.vnet.head(second), second),
        )

    def forward_with_uncertainty(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Compute ``forward``'s logits, and how much the two disagree, (B, 1, D, H, W), from 0 (not) to 1.

        The disagreement is the Jensen-Shannon divergence, the mean of both predictions' Kullback-Leibler divergences
        from their mean m, divided by its largest value, :math:`(D_{KL}(p_A \| m) + D_{KL}(p_B \| m)) / (2 \ln 2)`. The
        paper's own :math:`D_{KL}(p_B \| p_A)` (equation 15) has no upper bound and is another one when A and B swap.

        Args:
            image: (B, in_channels, D, H, W), each side a multiple of ``divisor``.
        """
        predictions = self.resnet_vnet(image), self.vnet(image)
        mean = mean_logits(*predictions)  # these are log-probabilities
        divergence = torch.zeros_like(mean[:, :1])
        for logits in predictions:
            log_probs = logits.float().log_softmax(1)
            divergence = divergence + (log_probs.exp() * (log_probs - mean)).sum(1, keepdim=True) / 2
        return mean, (divergence / math.log(2)).clamp(0, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute logits (B, num_classes, D, H, W) whose softmax is the mean of the two subnets'.

        Args:
            image: (B, in_channels, D, H, W), each side a multiple of ``divisor``.

        Raises:
            ValueError: when a side is not a multiple of ``divisor`` (not in TorchScript, where messages are lost).
        """
        return mean_logits(self.resnet_vnet(image), self.vnet(image))
