# SPDX-License-Identifier: Apache-2.0
"""The V-Net with two decoders and two tasks."""

from __future__ import annotations

from collections.abc import Sequence

from .blocks import initialise
from .dual_task import DualTaskNetwork
from .vnet import VNetDecoder, VNetEncoder


class DualTaskVNet(DualTaskNetwork):
    """A V-Net with two decoders that differ in their upsampling, each with heads for classes and signed distances.

    J. Li, "Fully differentiable bidirectional dual-task synergistic learning" (DBiSL), section 3.1; the two
    decoders are those of Wu et al., "Semi-supervised left atrium segmentation with mutual consistency training"
    (MC-Net), MICCAI 2021, https://arxiv.org/abs/2103.02911. With one input channel and two classes it has
    12,347,750 parameters.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the logits, background included; there is one distance fewer.
        base_channels: channels at full resolution; doubled at each lower one.
        num_convs: number of 3x3x3 convolutions at each resolution, from the finest to the coarsest.
        strides: factor between each resolution and the next, an int or three ints for an anisotropic scan.
        upsampling: of the two decoders, see :class:`~.vnet.VNetDecoder`.
        dropout: probability of dropping a channel in training, of the coarsest map and of each decoder's last.
        norm: ``"batch"``, ``"instance"`` or ``"group"``, with learned scale and shift.
        norm_groups: number of groups of ``"group"``.
        order: ``"norm_act"`` or ``"act_norm"``, the order of normalisation and ReLU after each convolution.
        initialisation: ``"kaiming"``, ``"xavier"`` or ``"default"``; see :func:`~.blocks.initialise`.

    Raises:
        ValueError: for an unknown word, groups that do not divide the channels, or the wrong number of strides or of
            upsamplings.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        base_channels: int = 16,
        num_convs: Sequence[int] = (1, 2, 3, 3, 3),
        strides: Sequence[int | Sequence[int]] = (2, 2, 2, 2),
        upsampling: Sequence[str] = ("transposed", "trilinear"),
        dropout: float = 0.5,
        norm: str = "batch",
        norm_groups: int = 8,
        order: str = "norm_act",
        initialisation: str = "kaiming",
    ) -> None:
        if len(upsampling) != 2:
            raise ValueError(f"upsampling has {len(upsampling)} entries: give one for each of the two decoders")
        encoder = VNetEncoder(in_channels, base_channels, num_convs, strides, dropout, norm, norm_groups, order)
        decoders = [
            VNetDecoder(base_channels, num_convs, strides, word, dropout, norm, norm_groups, order)
            for word in upsampling
        ]
        super().__init__(encoder, decoders, base_channels, num_classes, encoder.divisor)
        initialise(self, initialisation)
