# SPDX-License-Identifier: Apache-2.0
"""The V-Net of the semi-supervised segmentation literature, and its encoder and decoder for other networks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.utils import ensure_tuple_rep
from torch import nn

from .blocks import conv_block, conv_unit, initialise, upsampling_unit
from .patch_size import check_patch_size


class VNetEncoder(nn.Module):
    """The V-Net's descending path: one map for each resolution, channels doubled from each to the next.

    ``divisor`` holds the total stride along each of the three axes.

    Args:
        in_channels: channels of the image.
        base_channels: channels of the first map.
        num_convs: number of 3x3x3 convolutions at each resolution, from the finest to the coarsest.
        strides: factor between each resolution and the next, an int or three ints for an anisotropic scan; the
            convolution which reduces the map has this kernel too.
        dropout: probability of dropping a channel of the coarsest map in training.
        norm: ``"batch"``, ``"instance"`` or ``"group"``, with learned scale and shift.
        norm_groups: number of groups of ``"group"``.
        order: ``"norm_act"`` or ``"act_norm"``, the order of normalisation and ReLU after each convolution.

    Raises:
        ValueError: unless there is one stride fewer than entries of ``num_convs``.
    """

    def __init__(
        self,
        in_channels: int = 1,
        base_channels: int = 16,
        num_convs: Sequence[int] = (1, 2, 3, 3, 3),
        strides: Sequence[int | Sequence[int]] = (2, 2, 2, 2),
        dropout: float = 0.5,
        norm: str = "batch",
        norm_groups: int = 8,
        order: str = "norm_act",
    ) -> None:
        super().__init__()
        factors = stride_factors(strides, num_convs)
        self.divisor = tuple(math.prod(axis) for axis in zip(*factors, strict=True))
        self.stem = conv_block(in_channels, base_channels, num_convs[0], norm, norm_groups, order)
        self.stages = nn.ModuleList()
        for level, factor in enumerate(factors):
            shallow, deep = base_channels * 2**level, base_channels * 2 ** (level + 1)
            reduce = conv_unit(nn.Conv3d(shallow, deep, factor, factor), norm, norm_groups, order)
            block = conv_block(deep, deep, num_convs[level + 1], norm, norm_groups, order)
            self.stages.append(nn.Sequential(reduce, block))
        self.dropout = nn.Dropout3d(dropout)

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
        features[-1] = self.dropout(features[-1])
        return features


class VNetDecoder(nn.Module):
    """The V-Net's ascending path: enlarges the coarsest map step by step and adds the encoder's maps.

    Args:
        base_channels: channels of the finest map.
        num_convs: number of 3x3x3 convolutions at each resolution, from the finest to the coarsest, as in the encoder;
            the coarsest has none here.
        strides: factor between each resolution and the next, as in the encoder.
        upsampling: ``"transposed"``, ``"trilinear"`` or ``"nearest"``; see :func:`~.blocks.upsampling_unit`.
        dropout: probability of dropping a channel of the result in training.
        norm: ``"batch"``, ``"instance"`` or ``"group"``, with learned scale and shift.
        norm_groups: number of groups of ``"group"``.
        order: ``"norm_act"`` or ``"act_norm"``, the order of normalisation and ReLU after each convolution.

    Raises:
        ValueError: unless there is one stride fewer than entries of ``num_convs``.
    """

    def __init__(
        self,
        base_channels: int = 16,
        num_convs: Sequence[int] = (1, 2, 3, 3, 3),
        strides: Sequence[int | Sequence[int]] = (2, 2, 2, 2),
        upsampling: str = "transposed",
        dropout: float = 0.5,
        norm: str = "batch",
        norm_groups: int = 8,
        order: str = "norm_act",
    ) -> None:
        super().__init__()
        self.enlarge = nn.ModuleList()
        self.blocks = nn.ModuleList()
        for level, factor in reversed(list(enumerate(stride_factors(strides, num_convs)))):
            shallow, deep = base_channels * 2**level, base_channels * 2 ** (level + 1)
            self.enlarge.append(upsampling_unit(deep, shallow, factor, upsampling, norm, norm_groups, order))
            self.blocks.append(conv_block(shallow, shallow, num_convs[level], norm, norm_groups, order))
        self.dropout = nn.Dropout3d(dropout)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Compute the map from which a 1x1x1 convolution makes the logits.

        Args:
            features: the encoder's maps, from the finest to the coarsest.

        Returns:
            A map (B, base_channels, D, H, W) at the finest resolution.
        """
        decoded = features[-1]
        for step, (enlarge, block) in enumerate(zip(self.enlarge, self.blocks)):  # noqa: B905 (TorchScript)
            decoded = block(enlarge(decoded) + features[-2 - step])
        return self.dropout(decoded)


class VNet(nn.Module):
    """The V-Net with plain blocks of 3x3x3 convolutions and additive skips.

    Milletari et al., "V-Net: fully convolutional neural networks for volumetric medical image segmentation", 3DV 2016,
    https://arxiv.org/abs/1606.04797, in the form that Yu et al., "Uncertainty-aware self-ensembling model for
    semi-supervised 3D left atrium segmentation", MICCAI 2019, https://arxiv.org/abs/1907.07034, introduced to this
    field. With one input channel and two classes it has 9,448,866 parameters. ``divisor`` holds the total stride along
    each axis; ``encoder``, ``decoder`` and ``head`` are its three parts.

    Differences from Milletari et al.: 3x3x3 kernels, addition where they concatenate, no residual blocks, normalisation
    and ReLU after every convolution, dropout of whole channels after the coarsest and after the last block.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the logits, background included.
        base_channels: channels at full resolution; doubled at each lower one.
        num_convs: number of 3x3x3 convolutions at each resolution, from the finest to the coarsest.
        strides: factor between each resolution and the next, an int or three ints for an anisotropic scan.
        upsampling: ``"transposed"``, ``"trilinear"`` (with the corners aligned) or ``"nearest"``; the last two are
            followed by a 3x3x3 convolution.
        dropout: probability of dropping a channel in training, at both places.
        norm: ``"batch"``, ``"instance"`` or ``"group"``, with learned scale and shift.
        norm_groups: number of groups of ``"group"``.
        order: ``"norm_act"`` or ``"act_norm"``, the order of normalisation and ReLU after each convolution.
        initialisation: ``"kaiming"``, ``"xavier"`` or ``"default"``; see :func:`~.blocks.initialise`.

    Raises:
        ValueError: for an unknown word, groups that do not divide the channels, or the wrong number of strides.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        base_channels: int = 16,
        num_convs: Sequence[int] = (1, 2, 3, 3, 3),
        strides: Sequence[int | Sequence[int]] = (2, 2, 2, 2),
        upsampling: str = "transposed",
        dropout: float = 0.5,
        norm: str = "batch",
        norm_groups: int = 8,
        order: str = "norm_act",
        initialisation: str = "kaiming",
    ) -> None:
        super().__init__()
        self.encoder = VNetEncoder(in_channels, base_channels, num_convs, strides, dropout, norm, norm_groups, order)
        self.decoder = VNetDecoder(base_channels, num_convs, strides, upsampling, dropout, norm, norm_groups, order)
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


def stride_factors(strides: Sequence[int | Sequence[int]], num_convs: Sequence[int]) -> list[tuple[int, ...]]:
    """Write each stride as three ints.

    Args:
        strides: factor between each resolution and the next, an int or three ints.
        num_convs: one entry for each resolution.

    Raises:
        ValueError: unless there is one stride fewer than entries of ``num_convs``.
    """
    if len(strides) != len(num_convs) - 1:
        raise ValueError(f"strides has {len(strides)} entries: {len(num_convs)} resolutions need {len(num_convs) - 1}")
    return [ensure_tuple_rep(stride, 3) for stride in strides]
