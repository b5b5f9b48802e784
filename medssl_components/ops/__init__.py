# SPDX-License-Identifier: Apache-2.0
"""Arithmetic that methods and losses share."""

from .predictive_entropy import predictive_entropy
from .schedules import PolynomialDecay, SigmoidRampUp
from .update_ema import update_ema, warmed_up_decay
