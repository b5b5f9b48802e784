# SPDX-License-Identifier: Apache-2.0
"""Values that change over training, as functions of its progress from 0 (first iteration) to 1 (last)."""

from __future__ import annotations

import math


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


class SigmoidRampUp:
    r"""Rise to a value and stay there, as :math:`v(p) = v_{max} \exp(-s (1 - \min(p / l, 1))^2)`.

    Reference: Laine and Aila, Temporal ensembling for semi-supervised learning, ICLR 2017,
    https://arxiv.org/abs/1610.02242, section 3.1; called a sigmoid ramp-up in this literature's code.

    Args:
        max_value: value :math:`v_{max}` at the end.
        length: share l of the training that the rise takes, the paper's number of iterations over its total; 0 starts
            with the full value.
        steepness: s; the value at the start is :math:`v_{max} e^{-s}`.

    Raises:
        ValueError: for a length below 0.
    """

    def __init__(self, max_value: float, length: float = 1.0, steepness: float = 5.0) -> None:
        if length < 0:
            raise ValueError(f"length is {length}; give a share of the training, 0 or more")
        self.max_value = max_value
        self.length = length
        self.steepness = steepness

    def __call__(self, progress: float) -> float:
        """Return the value at a progress in [0, 1]."""
        left = 1.0 - min(progress / self.length, 1.0) if self.length else 0.0
        return self.max_value * math.exp(-self.steepness * left**2)
