# SPDX-License-Identifier: Apache-2.0
"""Losses of the semi-supervised methods; what a loss takes, logits or probabilities, its arguments' names say."""

from .consistency_regularisation import consistency_regularisation
from .cross_pseudo_supervision import cross_pseudo_supervision, pseudo_label
from .entropy_filtered_supervision import entropy_filtered_supervision, kept_voxels, low_entropy
from .prototype_contrast import VoxelSample, prototype_contrast, reliable_voxels, sample_voxels
from .uncertainty_weighted_cross_entropy import uncertainty_weighted_cross_entropy
