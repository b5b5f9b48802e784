# SPDX-License-Identifier: Apache-2.0
"""Arithmetic that methods and losses share."""

from .convolutional_distance_transform import convolutional_distance_transform
from .distance_to_probability import distance_to_logits, distance_to_probability
from .euclidean_distance_transform import euclidean_distance_transform, soft_distance_transform
from .predictive_entropy import predictive_entropy
from .schedules import PolynomialDecay, SigmoidRampUp
from .signed_distance_map import SignedDistanceMap, signed_distance_map
from .update_ema import update_ema, warmed_up_decay
