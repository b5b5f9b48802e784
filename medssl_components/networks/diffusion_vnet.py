# SPDX-License-Identifier: Apache-2.0
"""The V-Net with three decoders, one of which removes noise from label maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from .blocks import initialise
from .patch_size import check_patch_size
from .time_embedding import TimeEmbedding
from .timed_vnet import TimedVNetDecoder, TimedVNetEncoder, dropout_units


class PathOutput(NamedTuple):
    """What one path predicts: `logits` (B, K, D, H, W), and the encoder's `features` (B, C, ...) for propagation."""

    logits: torch.Tensor
    features: torch.Tensor


class ImagePath(nn.Module):
    """An image's way through a stem, an encoder and a decoder; a copy of it is a teacher.

    Args:
        stem: maps the image to the finest map.
        encoder: a :class:`~.timed_vnet.TimedVNetEncoder`.
        decoder: a :class:`~.timed_vnet.TimedVNetDecoder`.
    """

    def __init__(self, stem: nn.Module, encoder: TimedVNetEncoder, decoder: TimedVNetDecoder) -> None:
        super().__init__()
        self.stem = stem
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the logits (B, num_classes, D, H, W) of an image.

        Args:
            image: (B, in_channels, D, H, W), each side a multiple of the encoder's ``divisor``.
        """
        return self.decoder(self.encoder(self.stem(image), []), [])


class DiffusionVNet(nn.Module):
    """A V-Net with one encoder, a stem for images and one for images with a noisy label map, and three decoders.

    W. Li et al., "Boosting generic semi-supervised medical image segmentation via diverse teaching and label
    propagation" (DTLP-Net), https://arxiv.org/abs/2508.08549, section III, on the network of Wang and Li, "Towards
    generic semi-supervised framework for volumetric medical image segmentation" (A&D), NeurIPS 2023,
    https://arxiv.org/abs/2310.11320. With one input channel, 14 classes and 32 base channels it has 56,934,410
    parameters.

    ``deployed`` holds the path of the unlabelled decoder theta, image stem and encoder included; ``diffusion_decoder``
    (xi) and ``labeled_decoder`` (psi) are the other two. The three decoders' parameters are the same in number, order
    and shape: what the step of a diffusion teaches lies in ``time_embedding`` alone. ``num_classes`` is the number of
    classes, ``divisor`` the total stride along each axis.

    Differences from A&D: layers that no gradient reaches are left out (time layers of the image stem, and behind the
    last convolution of each resolution), 1,100,256 parameters. The paper does not say where its label propagation takes
    features from; here ``feature_level`` does.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the logits and of the noisy label map, background included.
        base_channels: channels at full resolution; doubled at each lower one.
        num_convs: number of 3x3x3 convolutions at each resolution, from the finest to the coarsest.
        strides: factor between each resolution and the next, an int or three ints for an anisotropic scan.
        upsampling: ``"transposed"``, ``"trilinear"`` or ``"nearest"``; see :func:`~.blocks.upsampling_unit`.
        dropout: probability of dropping a channel in training, of the coarsest map and of each decoder's last.
        unit_dropout: probability of dropping a channel in training after each convolution that keeps the size.
        norm: ``"batch"``, ``"instance"`` or ``"group"``, with learned scale and shift.
        norm_groups: number of groups of ``"group"``.
        order: ``"norm_act"`` or ``"act_norm"``, the order of normalisation and ReLU after each convolution.
        initialisation: ``"kaiming"``, ``"xavier"`` or ``"default"``; see :func:`~.blocks.initialise`.
        time_channels: of the sinusoidal features of a step, an even number from 4 on.
        time_hidden_channels: of the linear layers behind them.
        projection_channels: D, channels of the features whose correlation propagates labels.
        feature_level: which of the encoder's maps these are made of, as an index from the finest: -1 the coarsest.

    Raises:
        ValueError: for an unknown word, groups that do not divide the channels, the wrong number of strides, odd time
            channels, or a level that the encoder does not have.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        base_channels: int = 32,
        num_convs: Sequence[int] = (1, 2, 3, 3, 3),
        strides: Sequence[int | Sequence[int]] = (2, 2, 2, 2),
        upsampling: str = "transposed",
        dropout: float = 0.5,
        unit_dropout: float = 0.1,
        norm: str = "batch",
        norm_groups: int = 8,
        order: str = "act_norm",
        initialisation: str = "default",
        time_channels: int = 128,
        time_hidden_channels: int = 512,
        projection_channels: int = 128,
        feature_level: int = -1,
    ) -> None:
        super().__init__()
        levels = len(num_convs)
        if not -levels <= feature_level < levels:
            raise ValueError(f"feature_level is {feature_level}: give one from {-levels} to {levels - 1}")
        layers = {"unit_dropout": unit_dropout, "norm": norm, "norm_groups": norm_groups, "order": order}

        def stem(channels: int) -> nn.Sequential:
            return nn.Sequential(*dropout_units(channels, base_channels, num_convs[0], **layers))

        def decoder() -> TimedVNetDecoder:
            return TimedVNetDecoder(num_classes, base_channels, num_convs, strides, upsampling, dropout, **layers)

        encoder = TimedVNetEncoder(base_channels, num_convs, strides, dropout, **layers)
        self.deployed = ImagePath(stem(in_channels), encoder, decoder())
        self.labeled_decoder = decoder()
        self.diffusion_stem = stem(in_channels + num_classes)
        self.diffusion_decoder = decoder()
        widths = encoder.widths + self.diffusion_decoder.widths
        self.time_embedding = TimeEmbedding(widths, time_channels, time_hidden_channels)
        channels = base_channels * 2 ** (feature_level % levels)
        # a bias here would add the same to all sources of a voxel, which the softmax over them takes away
        self.source_projection = nn.Conv3d(channels, projection_channels, 1, bias=False)
        self.target_projection = nn.Conv3d(channels, projection_channels, 1)
        self.num_classes = num_classes
        self.feature_level = feature_level
        self.divisor = encoder.divisor
        initialise(self, initialisation)

    def check_patch_size(self, patch_size: Sequence[int]) -> None:
        """Raise an error of one line that proposes the nearest sizes if the network cannot take this patch.

        Args:
            patch_size: sides of the patch in voxels, one for each spatial axis.
        """
        check_patch_size(patch_size, self.divisor)

    def unlabeled_path(self, image: torch.Tensor) -> PathOutput:
        """Compute the logits and features of the decoder theta, which is deployed.

        Args:
            image: (B, in_channels, D, H, W), each side a multiple of ``divisor``.
        """
        return self._decode(self.deployed.decoder, image, self.deployed.stem, [])

    def labeled_path(self, image: torch.Tensor) -> PathOutput:
        """Compute the logits and features of the decoder psi, which learns from labels with difficulty weights.

        Args:
            image: (B, in_channels, D, H, W), each side a multiple of ``divisor``.
        """
        return self._decode(self.labeled_decoder, image, self.deployed.stem, [])

    def diffusion_path(self, image: torch.Tensor, noisy_label: torch.Tensor, step: torch.Tensor) -> PathOutput:
        """Compute the logits and features of the decoder xi, which tells the label map before the noise.

        Args:
            image: (B, in_channels, D, H, W), each side a multiple of ``divisor``.
            noisy_label: one channel for each class, (B, num_classes, D, H, W).
            step: number of each volume's diffusion step, (B,).
        """
        shifts = self.time_embedding(step)
        return self._decode(
            self.diffusion_decoder, torch.cat([image, noisy_label.to(image)], dim=1), self.diffusion_stem, shifts
        )

    def project(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the features e_1 of sources and e_2 of targets of a label propagation, (B, D, ...) each.

        Args:
            features: of a :class:`PathOutput`.
        """
        return self.source_projection(features), self.target_projection(features)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the logits (B, num_classes, D, H, W) of the decoder theta.

        Args:
            image: (B, in_channels, D, H, W), each side a multiple of ``divisor``.

        Raises:
            ValueError: when a side is not a multiple of ``divisor`` (not in TorchScript, where messages are lost).
        """
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            self.check_patch_size(image.shape[2:])
        return self.deployed(image)

    def _decode(
        self, decoder: TimedVNetDecoder, volume: torch.Tensor, stem: nn.Module, shifts: list[torch.Tensor]
    ) -> PathOutput:
        self.check_patch_size(volume.shape[2:])
        split = len(self.deployed.encoder.widths)
        features = self.deployed.encoder(stem(volume), shifts[:split])
        return PathOutput(decoder(features, shifts[split:]), features[self.feature_level])
