# SPDX-License-Identifier: Apache-2.0
"""MONAI's DynUNet, the network of nnU-Net, with two decoders and two tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.blocks import UpSample
from monai.networks.nets import DynUNet
from monai.utils import ensure_tuple_rep
from torch import nn

from .dual_task import DualTaskNetwork


class DualTaskDynUNet(DualTaskNetwork):
    """MONAI's DynUNet with a second decoder that upsamples trilinearly, each with heads for classes and distances.

    J. Li, "Fully differentiable bidirectional dual-task synergistic learning" (DBiSL), section 4.12, where nnU-Net
    (Isensee et al., Nature Methods 2021) takes the V-Net's place. Its arguments have the V-Net's names where they mean
    the same.

    Differences from the paper: its nnU-Net has 48.36 million parameters and is not described further; this one has
    46.66 million with the defaults. No deep supervision.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the logits, background included; there is one distance fewer.
        base_channels: channels at full resolution; doubled at each lower one, up to ten times as many.
        strides: factor between each resolution and the next, an int or three ints for an anisotropic scan.
        kernel_size: of the convolutions, in voxels.
        dropout: probability of dropping a value after a convolution in training.
        norm: ``"instance"`` or ``"batch"``, with learned scale and shift.

    Raises:
        ValueError: for fewer than two strides, or another norm.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        base_channels: int = 32,
        strides: Sequence[int | Sequence[int]] = (2, 2, 2, 2, 2),
        kernel_size: int = 3,
        dropout: float = 0.0,
        norm: str = "instance",
    ) -> None:
        if len(strides) < 2:
            raise ValueError(f"strides has {len(strides)} entries: give two or more")
        if norm not in ("instance", "batch"):
            raise ValueError(f'norm "{norm}" is unknown: use one of instance, batch')
        factors = [ensure_tuple_rep(stride, 3) for stride in strides]
        settings = {
            "spatial_dims": 3,
            "in_channels": in_channels,
            "out_channels": num_classes,
            "kernel_size": [kernel_size] * (len(factors) + 1),
            "strides": [1, *factors],
            "upsample_kernel_size": factors,
            "filters": [base_channels * min(2**level, 10) for level in range(len(factors) + 1)],
            "norm_name": (norm, {"affine": True}),
            "dropout": dropout or None,
        }
        unet, twin = DynUNet(**settings), DynUNet(**settings)
        for block, factor in zip(twin.upsamples, reversed(factors), strict=True):
            channels = block.transp_conv.in_channels, block.transp_conv.out_channels
            block.transp_conv = UpSample(3, *channels, factor, mode="nontrainable", interp_mode="trilinear")
        divisor = [math.prod(axis) for axis in zip(*factors, strict=True)]
        decoders = [_Decoder(unet.upsamples), _Decoder(twin.upsamples)]
        super().__init__(_Encoder(unet), decoders, base_channels, num_classes, divisor)
        self.norm = norm

    def check_patch_size(self, patch_size: Sequence[int]) -> None:
        """Raise an error of one line if the network cannot take this patch.

        Args:
            patch_size: sides of the patch in voxels, one for each spatial axis.
        """
        super().check_patch_size(patch_size)
        if self.norm == "instance" and tuple(patch_size) == self.divisor:
            wider = [2 * side for side in patch_size[:1]] + list(patch_size[1:])
            raise ValueError(
                f"patch_size {list(patch_size)} leaves a single voxel to the coarsest map, which has no deviation to "
                f"normalise by; use for example {wider}"
            )


class _Encoder(nn.Module):
    def __init__(self, unet: DynUNet) -> None:
        super().__init__()
        self.stages = nn.ModuleList([unet.input_block, *unet.downsamples, unet.bottleneck])

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        features = [image]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features[1:]


class _Decoder(nn.Module):
    def __init__(self, upsamples: nn.ModuleList) -> None:
        super().__init__()
        self.upsamples = upsamples

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        decoded = features[-1]
        for step, block in enumerate(self.upsamples):
            decoded = block(decoded, features[-2 - step])
        return decoded
