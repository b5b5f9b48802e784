# SPDX-License-Identifier: Apache-2.0
"""Networks: modules whose ``forward(image)`` gives one tensor of logits."""

from __future__ import annotations

from .dual_network import DualNetwork, SubnetOutput
from .dual_task import DualTaskNetwork, DualTaskOutput, unanimous
from .dual_task_dynunet import DualTaskDynUNet
from .dual_task_vnet import DualTaskVNet
from .mean_logits import mean_logits
from .patch_size import check_patch_size
from .resnet_vnet import ResNetEncoder, ResNetVNet
from .vnet import VNet, VNetDecoder, VNetEncoder

__all__ = [
    "DualNetwork",
    "DualTaskDynUNet",
    "DualTaskNetwork",
    "DualTaskOutput",
    "DualTaskVNet",
    "ResNetEncoder",
    "ResNetVNet",
    "SubnetOutput",
    "VNet",
    "VNetDecoder",
    "VNetEncoder",
    "check_patch_size",
    "mean_logits",
    "unanimous",
]
