# SPDX-License-Identifier: Apache-2.0
"""Arithmetic that methods and losses share."""

from .block_mask import mask_blocks, sample_block_mask
from .convolutional_distance_transform import convolutional_distance_transform
from .cutmix import CutMixBoxes, cutmix, sample_cutmix
from .ddim import DenoisedLabel, LabelDiffusion
from .distance_to_probability import distance_to_logits, distance_to_probability
from .entropy_ensemble import entropy_ensemble
from .euclidean_distance_transform import euclidean_distance_transform, soft_distance_transform
from .gumbel_softmax_map import gumbel_softmax_map, sample_gumbel
from .label_propagation import correlation_map, pool_features, propagate_labels
from .predictive_entropy import predictive_entropy
from .schedules import PolynomialDecay, SigmoidRampUp
from .signed_distance_map import SignedDistanceMap, signed_distance_map
from .update_ema import check_ema_settings, update_ema, warmed_up_decay
