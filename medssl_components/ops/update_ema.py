# SPDX-License-Identifier: Apache-2.0
"""The exponential moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import nn

BUFFER_RULES = ("keep", "copy", "average")


@torch.no_grad()
def update_ema(teacher: nn.Module, student: nn.Module, decay: float, buffers: str = "keep") -> None:
    r"""Move a teacher's weights towards its student's, :math:`\theta' \leftarrow d \, \theta' + (1 - d) \, \theta`.

    Reference: Tarvainen and Valpola, Mean teachers are better role models, NeurIPS 2017,
    https://arxiv.org/abs/1703.01780, section 2.

    Args:
        teacher: its parameters are changed in place.
        student: a module of the same structure.
        decay: d, in [0, 1].
        buffers: what happens to buffers such as BatchNorm's running statistics. "keep": the teacher's own stay, which
            it gathers itself if it runs in training mode, as in the literature. "copy": the student's are taken over.
            "average": floating-point ones move like weights, others are taken over.

    Raises:
        ValueError: for a decay outside [0, 1] or another word for `buffers`.
    """
    check_ema_settings(decay, buffers)
    for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
        mine.lerp_(theirs, 1 - decay)
    if buffers == "keep":
        return
    for mine, theirs in zip(teacher.buffers(), student.buffers(), strict=True):
        if buffers == "average" and mine.is_floating_point():
            mine.lerp_(theirs, 1 - decay)
        else:
            mine.copy_(theirs)


def check_ema_settings(decay: float, buffers: str) -> None:
    """Refuse settings that `update_ema` cannot use, so that a training hears of them before its first step.

    Args:
        decay: as in `update_ema`.
        buffers: as in `update_ema`.

    Raises:
        ValueError: for a decay outside [0, 1] or another word for `buffers`.
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"decay is {decay}; give a value from 0 to 1")
    if buffers not in BUFFER_RULES:
        raise ValueError(f"buffers is {buffers!r}; give one of {', '.join(BUFFER_RULES)}")


def warmed_up_decay(decay: float, step: int) -> float:
    r"""Return :math:`\min(d, 1 - 1 / (t + 1))`: the mean of all weights so far until the window of d is full.

    Args:
        decay: d.
        step: number of updates t, this one included, from 1.
    """
    return min(decay, 1 - 1 / (step + 1))
