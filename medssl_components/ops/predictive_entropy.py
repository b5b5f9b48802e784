# SPDX-License-Identifier: Apache-2.0
"""How undecided a prediction is."""

from __future__ import annotations

import math

import torch


def predictive_entropy(probs: torch.Tensor, dim: int = 1) -> torch.Tensor:
    r"""Return the entropy of class probabilities, :math:`H = -\sum_k p_k \ln p_k / \ln K`, from 0 (sure) to 1.

    Args:
        probs: probabilities, K of them along `dim`, for example `(B, K, D, H, W)`.
        dim: the axis of the classes, which the result keeps with length 1.

    Raises:
        ValueError: for fewer than two classes.
    """
    if probs.shape[dim] < 2:
        raise ValueError(f"probs has the shape {tuple(probs.shape)}; it needs two classes or more along axis {dim}")
    return -torch.special.xlogy(probs, probs).sum(dim, keepdim=True) / math.log(probs.shape[dim])
