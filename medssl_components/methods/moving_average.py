# SPDX-License-Identifier: Apache-2.0
"""A teacher: the moving average of a network's weights over the steps."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..ops import check_ema_settings, update_ema, warmed_up_decay


class MovingAverage(nn.Module):
    """A copy of a network whose weights follow the network's; no gradient reaches it.

    The copy is made of the weights that the network has at the first `start`, and not of those that it was built with,
    so that weights which were loaded in between reach the copy too. Copy and number of steps are in the `state_dict`.

    Args:
        network: what to copy.
        decay: share of the old weights that an update keeps; the copy starts as the mean of all weights so far, see
            `warmed_up_decay`.
        buffers: see `update_ema`.

    Raises:
        ValueError: for a decay outside [0, 1] or an unknown rule for buffers.
    """

    def __init__(self, network: nn.Module, decay: float = 0.99, buffers: str = "keep") -> None:
        super().__init__()
        check_ema_settings(decay, buffers)
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay
        self.buffers_rule = buffers
        self.register_buffer("initialised", torch.tensor(False))
        self.register_buffer("steps", torch.tensor(0))
        self._count: int | None = None  # `steps` as a number, so that a step on a GPU need not wait for it
        self.register_load_state_dict_post_hook(lambda module, keys: setattr(module, "_count", None))

    def start(self, network: nn.Module) -> int:
        """Take the network's weights over if that has not been done yet, and return the number of updates so far.

        Args:
            network: whose weights are averaged.
        """
        if self._count is None:
            if not self.initialised:
                self.average.load_state_dict(network.state_dict())
                self.initialised.fill_(True)
            self._count = int(self.steps)
        return self._count

    def update(self, network: nn.Module) -> None:
        """Move the weights towards the network's.

        Args:
            network: after the optimiser's step.
        """
        self._count = self.start(network) + 1
        self.steps.fill_(self._count)
        update_ema(self.average, network, warmed_up_decay(self.decay, self._count), self.buffers_rule)

    @torch.no_grad()
    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return what the copy says of the inputs, without a gradient."""
        return self.average(*inputs)
