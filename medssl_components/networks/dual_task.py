# SPDX-License-Identifier: Apache-2.0
"""Networks of one encoder and two decoders, each of which predicts classes and signed distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from .mean_logits import mean_logits
from .patch_size import check_patch_size


class DualTaskOutput(NamedTuple):
    """What a decoder predicts: `logits` of K classes `(B, K, ...)`, signed `distance` to K - 1 objects, in (-1, 1)."""

    logits: torch.Tensor
    distance: torch.Tensor

    def label_maps(self) -> list[torch.Tensor]:
        """Return the labels (B, 1, ...) that follow from the logits, and those that follow from the distances.

        By distance a voxel belongs to the object with the smallest one if that is negative, else to the background.
        """
        background_first = functional.pad(-self.distance, [0, 0] * (self.distance.ndim - 2) + [1, 0])
        # max gives the indices ten times as fast as argmax on a CPU
        return [scores.max(1, keepdim=True).indices for scores in (self.logits, background_first)]


def unanimous(label_maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return 1 where all label maps are the same, else 0, in float32.

    Args:
        label_maps: labels of one shape.
    """
    return torch.stack([other == label_maps[0] for other in label_maps[1:]]).all(dim=0).float()


class DualTaskNetwork(nn.Module):
    """Join an encoder and two decoders, and give each decoder a head for classes and one for signed distances.

    J. Li, "Fully differentiable bidirectional dual-task synergistic learning" (DBiSL), section 3.1. Subclasses make the
    parts. ``forward`` gives the mean of the two decoders' class probabilities, as logits; training takes ``dual_task``.

    Args:
        encoder: gives feature maps of an image.
        decoders: two modules, each of which gives a map (B, channels, D, H, W) of the encoder's feature maps.
        channels: of the decoders' maps.
        num_classes: background included.
        divisor: total stride of the encoder along each axis.
    """

    def __init__(
        self, encoder: nn.Module, decoders: Sequence[nn.Module], channels: int, num_classes: int, divisor: Sequence[int]
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.first_decoder, self.second_decoder = decoders
        self.first_head, self.second_head = (nn.Conv3d(channels, num_classes, 1) for _ in decoders)
        self.first_distance_head, self.second_distance_head = (
            nn.Conv3d(channels, num_classes - 1, 1) for _ in decoders
        )
        self.num_classes = num_classes
        self.divisor = tuple(divisor)

    def check_patch_size(self, patch_size: Sequence[int]) -> None:
        """Raise an error of one line that proposes the nearest sizes if the network cannot take this patch.

        Args:
            patch_size: sides of the patch in voxels, one for each spatial axis.
        """
        check_patch_size(patch_size, self.divisor)

    def dual_task(self, image: torch.Tensor) -> tuple[DualTaskOutput, DualTaskOutput]:
        """Compute both decoders' logits and signed distances of an image.

        Args:
            image: (B, in_channels, D, H, W), each side a multiple of ``divisor``.
        """
        first, second = self.features(image)
        return (
            DualTaskOutput(self.first_head(first), self.first_distance_head(first).tanh()),
            DualTaskOutput(self.second_head(second), self.second_distance_head(second).tanh()),
        )

    def forward_with_uncertainty(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute ``forward``'s logits, and (B, 1, D, H, W) with 0 where both decoders' both label maps agree, else 1.

        Args:
            image: (B, in_channels, D, H, W), each side a multiple of ``divisor``.
        """
        first, second = self.dual_task(image)
        disagreement = 1 - unanimous([*first.label_maps(), *second.label_maps()])
        return mean_logits(first.logits, second.logits), disagreement

    def features(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute both decoders' maps, from which the heads predict.

        Args:
            image: (B, in_channels, D, H, W), each side a multiple of ``divisor``.
        """
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            self.check_patch_size(image.shape[2:])
        encoded = self.encoder(image)
        return self.first_decoder(encoded), self.second_decoder(encoded)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute logits (B, num_classes, D, H, W) whose softmax is the mean of the two decoders'.

        Args:
            image: (B, in_channels, D, H, W), each side a multiple of ``divisor``.

        Raises:
            ValueError: when a side is not a multiple of ``divisor`` (not in TorchScript, where messages are lost).
        """
        first, second = self.features(image)
        return mean_logits(self.first_head(first), self.second_head(second))
