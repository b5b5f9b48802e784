# SPDX-License-Identifier: Apache-2.0
"""Convolutions with their normalisation and activation, from which the networks are built."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.layers.utils import get_norm_layer
from torch import nn


def conv_unit(convolution: nn.Module, norm: str = "batch", norm_groups: int = 8, order: str = "norm_act") -> nn.Module:
    """Follow a 3-D convolution by a normalisation with learned scale and shift, and by ReLU.

    Args:
        convolution: a 3-D convolution or transposed convolution, or a sequence that ends with one.
        norm: ``"batch"``, ``"instance"`` or ``"group"``.
        norm_groups: number of groups of ``"group"``; must divide the number of channels.
        order: ``"norm_act"`` (normalisation, then ReLU) or ``"act_norm"`` (ReLU, then normalisation).

    Returns:
        The convolution and its two followers as one sequence.

    Raises:
        ValueError: for an unknown ``norm`` or ``order``, or for groups that do not divide the channels.
    """
    layers = list(convolution) if isinstance(convolution, nn.Sequential) else [convolution]
    channels = layers[-1].out_channels
    if norm == "group" and channels % norm_groups:
        raise ValueError(f"norm_groups {norm_groups} does not divide {channels} channels: choose a divisor of it")
    settings = {"batch": {}, "instance": {"affine": True}, "group": {"num_groups": norm_groups}}
    if norm not in settings:
        raise ValueError(f'norm "{norm}" is unknown: use one of {", ".join(settings)}')
    followers = [get_norm_layer((norm, settings[norm]), spatial_dims=3, channels=channels), nn.ReLU(inplace=True)]
    if order not in ("norm_act", "act_norm"):
        raise ValueError(f'order "{order}" is unknown: use one of norm_act, act_norm')
    return nn.Sequential(*layers, *(followers if order == "norm_act" else reversed(followers)))


def conv_block(
    in_channels: int,
    out_channels: int,
    num_convs: int,
    norm: str = "batch",
    norm_groups: int = 8,
    order: str = "norm_act",
) -> nn.Sequential:
    """Stack units of a 3x3x3 convolution that keep the size of the map.

    Args:
        in_channels: channels of the input map.
        out_channels: channels of each unit's output.
        num_convs: number of units.
        norm: see :func:`conv_unit`.
        norm_groups: see :func:`conv_unit`.
        order: see :func:`conv_unit`.
    """
    inputs = [in_channels] + [out_channels] * (num_convs - 1)
    convolutions = (nn.Conv3d(channels, out_channels, 3, padding=1) for channels in inputs)
    return nn.Sequential(*(conv_unit(convolution, norm, norm_groups, order) for convolution in convolutions))


def upsampling_unit(
    in_channels: int,
    out_channels: int,
    stride: Sequence[int],
    upsampling: str = "transposed",
    norm: str = "batch",
    norm_groups: int = 8,
    order: str = "norm_act",
) -> nn.Module:
    """Enlarge a map by a stride and change its number of channels.

    Args:
        in_channels: channels of the input map.
        out_channels: channels of the enlarged map.
        stride: factor along each of the three axes.
        upsampling: ``"transposed"`` (a transposed convolution, kernel = stride), ``"trilinear"`` (with the corners
            aligned) or ``"nearest"``, the last two followed by a 3x3x3 convolution.
        norm: see :func:`conv_unit`.
        norm_groups: see :func:`conv_unit`.
        order: see :func:`conv_unit`.

    Raises:
        ValueError: for an unknown ``upsampling``.
    """
    factor = tuple(stride)
    if upsampling == "transposed":
        return conv_unit(nn.ConvTranspose3d(in_channels, out_channels, factor, factor), norm, norm_groups, order)
    if upsampling not in ("trilinear", "nearest"):
        raise ValueError(f'upsampling "{upsampling}" is unknown: use one of transposed, trilinear, nearest')
    enlarge = nn.Upsample(
        scale_factor=tuple(float(side) for side in factor),
        mode=upsampling,
        align_corners=True if upsampling == "trilinear" else None,
    )
    convolution = nn.Conv3d(in_channels, out_channels, 3, padding=1)
    return conv_unit(nn.Sequential(enlarge, convolution), norm, norm_groups, order)


def initialise(network: nn.Module, initialisation: str = "kaiming") -> None:
    """Initialise the weights of all 3-D convolutions of a network in place; biases keep PyTorch's values.

    Args:
        network: the network, or a part of it.
        initialisation: ``"kaiming"`` (normal, fan in, for ReLU), ``"xavier"`` (normal, transposed convolutions keep
            PyTorch's values) or ``"default"``, which keeps PyTorch's values for all.

    Raises:
        ValueError: for an unknown ``initialisation``.
    """
    if initialisation not in ("kaiming", "xavier", "default"):
        raise ValueError(f'initialisation "{initialisation}" is unknown: use one of kaiming, xavier, default')
    for module in network.modules():
        if initialisation == "kaiming" and isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            nn.init.kaiming_normal_(module.weight)
        elif initialisation == "xavier" and isinstance(module, nn.Conv3d):
            nn.init.xavier_normal_(module.weight)
