# SPDX-License-Identifier: Apache-2.0
"""The mean of two predictions, as logits."""

from __future__ import annotations

import math

import torch


def mean_logits(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    r"""Return logits whose softmax is the mean of two softmax, :math:`\ln (\sigma(a) + \sigma(b)) - \ln 2`, in float32.

    Args:
        first: logits `(B, K, ...)`.
        second: logits of the same shape.
    """
    return torch.logaddexp(first.float().log_softmax(1), second.float().log_softmax(1)) - math.log(2)
