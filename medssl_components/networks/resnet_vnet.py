# SPDX-License-Identifier: Apache-2.0
"""A residual network with the V-Net's decoder, and its encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.nets.resnet import ResNetBlock
from monai.utils import ensure_tuple_rep
from torch import nn

from .blocks import conv_unit, initialise
from .patch_size import check_patch_size
from .vnet import VNetDecoder


class ResNetEncoder(nn.Module):
    """ResNet34's layers in 3-D, from full resolution on: one map for each resolution, channels doubled each time.

    ``divisor`` holds the total stride along each of the three axes.

    Args:
        in_channels: channels of the image.
        base_channels: channels of the first map.
        num_blocks: number of residual blocks at each resolution below the first.
        strides: factor between each resolution and the next, an int or three ints for an anisotropic scan.
        norm: ``"batch"``, ``"instance"`` or ``"group"``, with learned scale and shift.
        norm_groups: number of groups of ``"group"``.

    Raises:
        ValueError: unless there are as many strides as entries of ``num_blocks``.
    """

    def __init__(
        self,
        in_channels: int = 1,
        base_channels: int = 16,
        num_blocks: Sequence[int] = (3, 4, 6, 3),
        strides: Sequence[int | Sequence[int]] = (2, 2, 2, 2),
        norm: str = "batch",
        norm_groups: int = 8,
    ) -> None:
        super().__init__()
        if len(strides) != len(num_blocks):
            raise ValueError(f"strides has {len(strides)} entries, num_blocks {len(num_blocks)}: give as many of each")
        factors = [ensure_tuple_rep(stride, 3) for stride in strides]
        self.divisor = tuple(math.prod(axis) for axis in zip(*factors, strict=True))
        stem = nn.Conv3d(in_channels, base_channels, 7, padding=3, bias=False)
        self.stem = conv_unit(stem, norm, norm_groups)
        settings = {"batch": {}, "instance": {"affine": True}, "group": {"num_groups": norm_groups}}[norm]
        self.stages = nn.ModuleList()
        for level, (factor, count) in enumerate(zip(factors, num_blocks, strict=True)):
            shallow, deep = base_channels * 2**level, base_channels * 2 ** (level + 1)
            projection = conv_unit(nn.Conv3d(shallow, deep, 1, factor, bias=False), norm, norm_groups)[:-1]  # no ReLU
            blocks = [ResNetBlock(shallow, deep, stride=factor, downsample=projection, norm=(norm, settings))]
            blocks += [ResNetBlock(deep, deep, norm=(norm, settings)) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Compute the feature maps of an image.

        Args:
            image: (B, in_channels, D, H, W), each side a multiple of ``divisor``.

        Returns:
            Feature maps from the finest, (B, base_channels, D, H, W), to the coarsest.
        """
        features = [self.stem(image)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features


class ResNetVNet(nn.Module):
    """A 3-D ResNet34 as encoder of a V-Net: subnet A of the dual network.

    Lu et al., "Enhancing dual network based semi-supervised medical image segmentation with uncertainty-guided
    pseudo-labeling" (UGPL), Knowledge-Based Systems 2025, https://arxiv.org/abs/2509.13084, figure 2; the encoder after
    He et al., "Deep residual learning for image recognition", CVPR 2016, https://arxiv.org/abs/1512.03385. With one
    input channel and two classes it has 17,930,354 parameters. ``divisor`` holds the total stride along each axis;
    ``encoder``, ``decoder`` and ``head`` are its three parts.

    Differences from He et al.: the first convolution keeps the resolution and no pooling follows; each of the four
    stages halves it, with a quarter to a half of the channels.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the logits, background included.
        base_channels: channels at full resolution; doubled at each lower one.
        num_blocks: number of the encoder's residual blocks at each resolution below the first.
        num_convs: number of the decoder's 3x3x3 convolutions at each resolution but the coarsest, from the finest.
        strides: factor between each resolution and the next, an int or three ints for an anisotropic scan.
        upsampling: ``"transposed"``, ``"trilinear"`` or ``"nearest"``; see :func:`~.blocks.upsampling_unit`.
        dropout: probability of dropping a channel of the last map in training.
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
        num_convs: Sequence[int] = (1, 2, 3, 3),
        strides: Sequence[int | Sequence[int]] = (2, 2, 2, 2),
        upsampling: str = "transposed",
        dropout: float = 0.5,
        norm: str = "batch",
        norm_groups: int = 8,
        initialisation: str = "kaiming",
    ) -> None:
        super().__init__()
        if len(num_convs) != len(num_blocks):
            raise ValueError(
                f"num_convs has {len(num_convs)} entries, num_blocks {len(num_blocks)}: give as many of each"
            )
        self.encoder = ResNetEncoder(in_channels, base_channels, num_blocks, strides, norm, norm_groups)
        self.decoder = VNetDecoder(base_channels, (*num_convs, 0), strides, upsampling, dropout, norm, norm_groups)
        self.head = nn.Conv3d(base_channels, num_classes, 1)
        self.divisor = self.encoder.divisor
        initialise(self, initialisation)

    def check_patch_size(self, patch_size: Sequence[int]) -> None:
        """Raise an error of one line that proposes the nearest sizes if the network cannot take this patch.

        Args:
            patch_size: sides of the patch in voxels, one for each spatial axis.
        """
        check_patch_size(patch_size, self.divisor)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the map (B, base_channels, D, H, W) from which ``head`` makes the logits.

        Args:
            image: (B, in_channels, D, H, W), each side a multiple of ``divisor``.
        """
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            self.check_patch_size(image.shape[2:])
        return self.decoder(self.encoder(image))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the logits (B, num_classes, D, H, W) of an image.

        Args:
            image: (B, in_channels, D, H, W), each side a multiple of ``divisor``.

        Raises:
            ValueError: when a side is not a multiple of ``divisor`` (not in TorchScript, where messages are lost).
        """
        return self.head(self.features(image))
