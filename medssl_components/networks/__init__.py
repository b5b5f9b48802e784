# SPDX-License-Identifier: Apache-2.0
"""Networks: modules whose ``forward(image)`` gives one tensor of logits."""

from __future__ import annotations

from .channel_attention import ChannelAttention, attend_channels
from .decoupled_vnet import DecoupledOutput, DecoupledVNet
from .diffusion_vnet import DiffusionVNet, ImagePath, PathOutput
from .dual_network import DualNetwork, SubnetOutput
from .dual_task import DualTaskNetwork, DualTaskOutput, unanimous
from .dual_task_dynunet import DualTaskDynUNet
from .dual_task_vnet import DualTaskVNet
from .knowledge_complementarity import KnowledgeComplementarity
from .mean_logits import mean_logits
from .patch_size import check_patch_size
from .resnet_vnet import ResNetEncoder, ResNetVNet
from .untracked_statistics import untracked_statistics
from .vnet import VNet, VNetDecoder, VNetEncoder

__all__ = [
    "ChannelAttention",
    "DecoupledOutput",
    "DecoupledVNet",
    "DiffusionVNet",
    "DualNetwork",
    "DualTaskDynUNet",
    "DualTaskNetwork",
    "DualTaskOutput",
    "DualTaskVNet",
    "ImagePath",
    "KnowledgeComplementarity",
    "PathOutput",
    "ResNetEncoder",
    "ResNetVNet",
    "SubnetOutput",
    "VNet",
    "VNetDecoder",
    "VNetEncoder",
    "attend_channels",
    "check_patch_size",
    "mean_logits",
    "unanimous",
    "untracked_statistics",
]
