# SPDX-License-Identifier: Apache-2.0
"""Statistics of batch normalisation when several processes train one method."""

from __future__ import annotations

import logging

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..data import flag

logger = logging.getLogger(__name__)


@torch.no_grad()
def average_statistics(method: nn.Module) -> None:
    """Give all processes the mean of their running statistics, those of teachers included.

    Each process normalises by its own batch, so that after a step each has running statistics of its own. Their mean is
    what all batches together say of the mean; the variance leaves out how the processes' means differ. Layers of
    `SyncBatchNorm` have the statistics of all batches by themselves. Does nothing with one process.

    Args:
        method: of the same layers in all processes.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    layers = [layer for layer in method.modules() if isinstance(layer, _BatchNorm)]
    layers = [layer for layer in layers if layer.running_mean is not None and not isinstance(layer, nn.SyncBatchNorm)]
    statistics = [value for layer in layers for value in (layer.running_mean, layer.running_var)]
    if not statistics:
        return
    joined = torch.cat(statistics)  # one transfer instead of one for each layer
    dist.all_reduce(joined)
    joined /= dist.get_world_size()
    for mine, mean in zip(statistics, joined.split([len(value) for value in statistics]), strict=True):
        mine.copy_(mean)


def sync_batchnorm(method: nn.Module, wanted: bool | str, device: str | torch.device) -> nn.Module:
    """Let batch normalisation take the statistics of all processes' batches, if that is wanted.

    Parameters, buffers and names stay what they are, so optimisers and checkpoints do too. PyTorch has such layers for
    GPUs alone; on a CPU the method stays as it is, with a warning.

    Args:
        method: whose layers are replaced, in place.
        wanted: true or false.
        device: where the method is trained.
    """
    if not flag(wanted, "sync_batchnorm"):
        return method
    if torch.device(device).type != "cuda":
        logger.warning("sync_batchnorm needs GPUs; each process normalises by the statistics of its own batch")
        return method
    return nn.SyncBatchNorm.convert_sync_batchnorm(method)
