# SPDX-License-Identifier: Apache-2.0
"""Arithmetic that methods and losses share."""

from .schedules import PolynomialDecay
