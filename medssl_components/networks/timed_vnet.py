# SPDX-License-Identifier: Apache-2.0
"""The paths of a V-Net which can be told the step of a diffusion."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from .blocks import conv_block, conv_unit, upsampling_unit
from .vnet import stride_factors


def dropout_units(
    in_channels: int, out_channels: int, num_convs: int, unit_dropout: float, norm: str, norm_groups: int, order: str
) -> list[nn.Module]:
    """Build units of a 3x3x3 convolution that keep the size of the map, each followed by dropout of channels.

    Args:
        in_channels: channels of the input map.
        out_channels: channels of each unit's output.
        num_convs: number of units.
        unit_dropout: probability of dropping a channel in training, after each unit.
        norm: see :func:`~.blocks.conv_unit`.
        norm_groups: see :func:`~.blocks.conv_unit`.
        order: see :func:`~.blocks.conv_unit`.
    """
    block = conv_block(in_channels, out_channels, num_convs, norm, norm_groups, order)
    return [nn.Sequential(*unit, nn.Dropout3d(unit_dropout)) for unit in block]


class TimedLevel(nn.Module):
    """One resolution: a unit that changes the size of the map, and units that keep it.

    It takes a shift after each unit but the last, so as many as there are units that keep the size.

    Args:
        resize: the unit that changes the size.
        units: those that keep it.
    """

    def __init__(self, resize: nn.Module, units: Sequence[nn.Module]) -> None:
        super().__init__()
        self.resize = resize
        self.units = nn.ModuleList(units)
        self.num_shifts = len(units)

    def forward(self, features: torch.Tensor, shifts: list[torch.Tensor], skip: torch.Tensor | None) -> torch.Tensor:
        """Compute the map of this resolution.

        Args:
            features: the map of the resolution before.
            shifts: of the channels, ``num_shifts`` tensors (B, C, 1, 1, 1), or none without a diffusion.
            skip: a map to add to the resized one, or None.
        """
        features = self.resize(features)
        if skip is not None:
            features = features + skip
        for position, unit in enumerate(self.units):
            if len(shifts) > 0:
                features = features + shifts[position]
            features = unit(features)
        return features


class TimedVNetEncoder(nn.Module):
    """A V-Net's descending path behind its stem.

    ``divisor`` holds the total stride along each of the three axes, ``widths`` the channels of each shift.

    Args:
        base_channels: channels of the stem's map; doubled at each lower resolution.
        num_convs: number of 3x3x3 convolutions at each resolution, from the finest, which are the stem's, to the
            coarsest.
        strides: factor between each resolution and the next, an int or three ints for an anisotropic scan.
        dropout: probability of dropping a channel of the coarsest map in training.
        unit_dropout: probability of dropping a channel in training after each convolution that keeps the size.
        norm: see :func:`~.blocks.conv_unit`.
        norm_groups: see :func:`~.blocks.conv_unit`.
        order: see :func:`~.blocks.conv_unit`.

    Raises:
        ValueError: unless there is one stride fewer than entries of ``num_convs``.
    """

    def __init__(
        self,
        base_channels: int = 32,
        num_convs: Sequence[int] = (1, 2, 3, 3, 3),
        strides: Sequence[int | Sequence[int]] = (2, 2, 2, 2),
        dropout: float = 0.5,
        unit_dropout: float = 0.1,
        norm: str = "batch",
        norm_groups: int = 8,
        order: str = "act_norm",
    ) -> None:
        super().__init__()
        factors = stride_factors(strides, num_convs)
        self.divisor = tuple(math.prod(axis) for axis in zip(*factors, strict=True))
        self.widths: list[int] = []
        self.levels = nn.ModuleList()
        for level, factor in enumerate(factors):
            shallow, deep, count = base_channels * 2**level, base_channels * 2 ** (level + 1), num_convs[level + 1]
            reduce = conv_unit(nn.Conv3d(shallow, deep, factor, factor), norm, norm_groups, order)
            units = dropout_units(deep, deep, count, unit_dropout, norm, norm_groups, order)
            self.levels.append(TimedLevel(reduce, units))
            self.widths += [deep] * count
        self.dropout = nn.Dropout3d(dropout)

    def forward(self, stem: torch.Tensor, shifts: list[torch.Tensor]) -> list[torch.Tensor]:
        """Compute the feature maps from the finest, which is the stem's, to the coarsest.

        Args:
            stem: the stem's map, (B, base_channels, D, H, W).
            shifts: one for each of ``widths``, or none.
        """
        features = [stem]
        first = 0
        for level in self.levels:
            features.append(level(features[-1], shifts[first : first + level.num_shifts], None))
            first += level.num_shifts
        features[-1] = self.dropout(features[-1])
        return features


class TimedVNetDecoder(nn.Module):
    """A V-Net's ascending path, which ends with the logits; ``widths`` holds the channels of each shift.

    Args:
        num_classes: channels of the logits, background included.
        base_channels: channels of the finest map.
        num_convs: number of 3x3x3 convolutions at each resolution, as in the encoder; the coarsest has none here.
        strides: factor between each resolution and the next, as in the encoder.
        upsampling: ``"transposed"``, ``"trilinear"`` or ``"nearest"``; see :func:`~.blocks.upsampling_unit`.
        dropout: probability of dropping a channel of the finest map in training.
        unit_dropout: probability of dropping a channel in training after each convolution that keeps the size.
        norm: see :func:`~.blocks.conv_unit`.
        norm_groups: see :func:`~.blocks.conv_unit`.
        order: see :func:`~.blocks.conv_unit`.

    Raises:
        ValueError: unless there is one stride fewer than entries of ``num_convs``.
    """

    def __init__(
        self,
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
    ) -> None:
        super().__init__()
        self.widths: list[int] = []
        self.levels = nn.ModuleList()
        for level, factor in reversed(list(enumerate(stride_factors(strides, num_convs)))):
            shallow, deep, count = base_channels * 2**level, base_channels * 2 ** (level + 1), num_convs[level]
            enlarge = upsampling_unit(deep, shallow, factor, upsampling, norm, norm_groups, order)
            units = dropout_units(shallow, shallow, count, unit_dropout, norm, norm_groups, order)
            self.levels.append(TimedLevel(enlarge, units))
            self.widths += [shallow] * count
        self.dropout = nn.Dropout3d(dropout)
        self.head = nn.Conv3d(base_channels, num_classes, 1)

    def forward(self, features: list[torch.Tensor], shifts: list[torch.Tensor]) -> torch.Tensor:
        """Compute the logits (B, num_classes, D, H, W).

        Args:
            features: the encoder's maps, from the finest to the coarsest.
            shifts: one for each of ``widths``, or none.
        """
        decoded = features[-1]
        first = 0
        for step, level in enumerate(self.levels):
            decoded = level(decoded, shifts[first : first + level.num_shifts], features[-2 - step])
            first += level.num_shifts
        return self.head(self.dropout(decoded))
