# SPDX-License-Identifier: Apache-2.0
"""Passes of a network that is being trained which must not leave a trace in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd


@contextmanager
def untracked_statistics(network: nn.Module, dropout: bool = True) -> Iterator[None]:
    """Let batch norm use the statistics of the batch for a while, without a change of its running ones.

    A network that sees volumes of a kind that it does not see when it is deployed, such as noisy label maps or masked
    images, would otherwise mix their statistics into those that it is deployed with.

    Args:
        network: in training mode; in evaluation mode nothing changes.
        dropout: whether dropout stays on.
    """
    changed = []
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats:
            changed.append((module, "track_running_stats"))
        elif isinstance(module, _DropoutNd) and module.training and not dropout:
            changed.append((module, "training"))
    try:
        for module, name in changed:
            setattr(module, name, False)
        yield
    finally:
        for module, name in changed:
            setattr(module, name, True)
