# SPDX-License-Identifier: Apache-2.0
"""What a network that removes noise learns from the number of the diffusion step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


def sinusoidal_features(step: torch.Tensor, channels: int = 128, longest_period: float = 10000.0) -> torch.Tensor:
    r"""Write steps as :math:`(\sin(t \omega_j), \cos(t \omega_j))`, :math:`\omega_j = P^{-j / (n - 1)}`, j = 0..n-1.

    Reference: Ho et al., Denoising diffusion probabilistic models, NeurIPS 2020, https://arxiv.org/abs/2006.11239. Its
    frequencies end at 1 / P; those of MONAI's diffusion networks, :math:`P^{-j / n}`, do not.

    Args:
        step: numbers of steps, (B,), not rescaled.
        channels: 2 n, an even number from 4 on.
        longest_period: P, the last period over 2 pi.

    Returns:
        Features (B, channels) in fp32, n sines before n cosines.
    """
    count = channels // 2
    exponents = torch.arange(count, dtype=torch.float32, device=step.device) / (count - 1)
    angles = step.float()[:, None] * torch.exp(-math.log(longest_period) * exponents)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class TimeEmbedding(nn.Module):
    """Maps the number of a diffusion step to one shift of the channels for each place where a network takes it in.

    Sinusoidal features pass two linear layers with SiLU between them and after them; a linear layer for each place
    follows. All places' layers are held as one.

    Args:
        widths: channels of the map at each place.
        channels: of the sinusoidal features, an even number from 4 on.
        hidden_channels: of the two linear layers.
        longest_period: see :func:`sinusoidal_features`.

    Raises:
        ValueError: for an odd number of channels or fewer than 4.
    """

    def __init__(
        self,
        widths: Sequence[int],
        channels: int = 128,
        hidden_channels: int = 512,
        longest_period: float = 10000.0,
    ) -> None:
        super().__init__()
        if channels < 4 or channels % 2:
            raise ValueError(f"time channels are {channels}: give an even number, 4 or more")
        self.widths = list(widths)
        self.channels = channels
        self.longest_period = float(longest_period)
        self.hidden = nn.Sequential(
            nn.Linear(channels, hidden_channels), nn.SiLU(), nn.Linear(hidden_channels, hidden_channels)
        )
        self.shifts = nn.Linear(hidden_channels, sum(self.widths))

    def forward(self, step: torch.Tensor) -> list[torch.Tensor]:
        """Compute the shifts of a batch.

        Args:
            step: number of each volume's step, (B,).

        Returns:
            One tensor (B, width, 1, 1, 1) for each place.
        """
        embedding = self.hidden(sinusoidal_features(step, self.channels, self.longest_period))
        shifts = self.shifts(functional.silu(embedding))
        return [part[:, :, None, None, None] for part in shifts.split(self.widths, dim=1)]
