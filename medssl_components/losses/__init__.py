# SPDX-License-Identifier: Apache-2.0
"""Losses of the semi-supervised methods; what a loss takes, logits or probabilities, its arguments' names say."""

from .class_balance import balance_mask, balanced_loss, class_ratios
from .consistency_regularisation import consistency_regularisation
from .cross_pseudo_supervision import cross_pseudo_supervision, pseudo_label
from .difficulty_weights import DifficultyWeights, weighted_dice_cross_entropy
from .entropy_filtered_supervision import entropy_filtered_supervision, kept_voxels, low_entropy
from .masked_reconstruction import masked_reconstruction
from .prototype_contrast import VoxelSample, prototype_contrast, reliable_voxels, sample_voxels
from .soft_dice_distillation import soft_dice_distillation
from .uncertainty_weighted_cross_entropy import uncertainty_weighted_cross_entropy
