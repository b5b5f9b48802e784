# SPDX-License-Identifier: Apache-2.0
"""Values that change over training, as functions of its progress from 0 (first iteration) to 1 (last)."""

from __future__ import annotations


class PolynomialDecay:
    r"""Fall from a start value to 0, as :math:`v(p) = v_0 (1 - p)^{power}`.

    Reference: the "poly" policy of Chen et al., DeepLab, https://arxiv.org/abs/1606.00915, section 4.1.

    Args:
        start: value :math:`v_0` at progress 0.
        power: 0.9 in the literature; 0 keeps the value constant, 1 falls linearly.
    """

    def __init__(self, start: float, power: float = 0.9) -> None:
        self.start = start
        self.power = power

    def __call__(self, progress: float) -> float:
        """Return the value at a progress in [0, 1]."""
        return self.start * (1.0 - progress) ** self.power
