# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest

from medssl_components.ops import PolynomialDecay, SigmoidRampUp


def test_falls_from_start_to_zero():
    schedule = PolynomialDecay(start=0.01, power=0.9)
    values = [schedule(step / 10) for step in range(11)]
    assert values[0] == 0.01
    assert values[-1] == 0.0
    assert all(late < early for early, late in zip(values, values[1:], strict=False))


def test_hand_computed():
    assert PolynomialDecay(start=2.0, power=2.0)(0.5) == pytest.approx(0.5)
    assert PolynomialDecay(start=2.0, power=0.0)(0.7) == 2.0


def test_ramp_rises_and_stays():
    ramp = SigmoidRampUp(max_value=0.1, length=0.4)
    assert ramp(0.0) == pytest.approx(0.1 * math.exp(-5))
    assert ramp(0.2) == pytest.approx(0.1 * math.exp(-5 * 0.25))
    assert ramp(0.4) == ramp(1.0) == 0.1
    assert SigmoidRampUp(2.0, length=0.0)(0.0) == 2.0


def test_negative_length_is_an_error():
    with pytest.raises(ValueError, match="length is -1"):
        SigmoidRampUp(1.0, length=-1)
