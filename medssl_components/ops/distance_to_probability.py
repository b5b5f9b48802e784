# SPDX-License-Identifier: Apache-2.0
"""From signed distance maps to class probabilities."""

from __future__ import annotations

import torch
from torch.nn import functional


def distance_to_logits(distance: torch.Tensor, k: float = 100.0) -> torch.Tensor:
    r"""Return logits :math:`(0, -k R_1, \dots, -k R_C)` of the background and C objects, to compute losses from.

    Reference: J. Li, Fully differentiable bidirectional dual-task synergistic learning (DBiSL), equation 1, after Luo
    et al., Semi-supervised medical image segmentation through dual-task consistency (DTC), AAAI 2021,
    https://arxiv.org/abs/2009.04448.

    Differences from the paper: the minus, since distances are negative inside an object; more than one object.

    Args:
        distance: signed distance maps R `(B, C, ...)`, negative inside.
        k: steepness. DTC uses 1500, with which only voxels nearer to a border than a hundredth of the largest distance
            pass a gradient through a probability.
    """
    return functional.pad(-k * distance, [0, 0] * (distance.ndim - 2) + [1, 0])


def distance_to_probability(distance: torch.Tensor, k: float = 100.0) -> torch.Tensor:
    r"""Return class probabilities :math:`\sigma((0, -k R_1, \dots, -k R_C))`, background first.

    For one object that of the object is the sigmoid :math:`1 / (1 + e^{k R})`. See :func:`distance_to_logits`.

    Args:
        distance: signed distance maps R `(B, C, ...)`, negative inside.
        k: steepness.
    """
    return distance_to_logits(distance, k).softmax(dim=1)
