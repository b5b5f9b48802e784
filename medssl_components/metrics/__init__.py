# SPDX-License-Identifier: Apache-2.0
"""Metrics of segmentations, as the tables of the semi-supervised literature define them."""

from __future__ import annotations

from .segmentation_scores import ClassScores, segmentation_scores
from .surface_distance import (
    SurfaceDistances,
    average_surface_distance,
    hausdorff_distance_95,
    surface_distances,
)

__all__ = [
    "ClassScores",
    "SurfaceDistances",
    "average_surface_distance",
    "hausdorff_distance_95",
    "segmentation_scores",
    "surface_distances",
]
