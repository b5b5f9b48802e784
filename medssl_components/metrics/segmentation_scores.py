# SPDX-License-Identifier: Apache-2.0
"""All scores of one segmented case, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .surface_distance import SurfaceDistances, surface_distances


class ClassScores(NamedTuple):
    """Scores of one class of one case; a score that is not defined is NaN.

    ``empty_prediction`` says that the reference has voxels of the class and the prediction has none, ``absent`` that
    the reference has none.
    """

    dice: float
    jaccard: float
    hd95_voxel: float
    hd95_mm: float
    asd_voxel: float
    asd_mm: float
    empty_prediction: bool
    absent: bool


def segmentation_scores(
    prediction: np.ndarray,
    label: np.ndarray,
    num_classes: int,
    spacing: Sequence[float] | float,
    empty_distance: float = 0.0,
) -> dict[int, ClassScores]:
    r"""Dice, Jaccard, 95th percentile Hausdorff distance and average surface distance of each foreground class.

    .. math::
        \mathrm{Dice} = \frac{2 |P \cap R|}{|P| + |R|}, \qquad \mathrm{Jaccard} = \frac{|P \cap R|}{|P \cup R|}

    for the voxels :math:`P` and :math:`R` of a class in the prediction and in the reference; the distances are those of
    :func:`~medssl_components.metrics.surface_distances`. Where a class is missing:

    ============  ==============  ===============  ===================
    reference     prediction      Dice, Jaccard    distances
    ============  ==============  ===============  ===================
    has voxels    empty           0                ``empty_distance``
    absent        has voxels      0                NaN
    absent        empty           NaN              NaN
    ============  ==============  ===============  ===================

    Without a reference surface there is no distance, and any number put in its place would reward or punish a false
    positive by an arbitrary amount: it counts in the overlap scores alone. A class that neither has is not scored.

    Args:
        prediction: class indices on the grid of the label, any dimension.
        label: class indices of the reference, 0 is the background.
        num_classes: number of classes with the background.
        spacing: edge lengths of a voxel in mm, one for each axis or one for all.
        empty_distance: all four distances of an empty prediction. The default 0.0 is what the published tables of this
            literature hold; it flatters the mean distances, since the worst prediction gets the best distance, so read
            them beside the number of empty predictions. ``float("nan")`` leaves such cases out of the distances.

    Returns:
        The scores by class index, from 1 to ``num_classes - 1``.

    Raises:
        ValueError: If the shapes differ, a map has other values than the class indices, or the spacing does not fit.
    """
    prediction = _class_indices(prediction, num_classes, "prediction")
    label = _class_indices(label, num_classes, "label")
    if prediction.shape != label.shape:
        raise ValueError(f"prediction {prediction.shape} and label {label.shape} must be on one grid: resample first.")
    return {
        index: _class_scores(prediction == index, label == index, spacing, empty_distance)
        for index in range(1, num_classes)
    }


def _class_scores(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float] | float, empty_distance: float
) -> ClassScores:
    num_prediction, num_reference = int(prediction.sum()), int(reference.sum())
    intersection = int((prediction & reference).sum())
    total = num_prediction + num_reference
    dice = 2 * intersection / total if total else np.nan
    jaccard = intersection / (total - intersection) if total else np.nan
    if num_prediction and num_reference:
        distances = surface_distances(prediction, reference, spacing)
    else:
        distances = SurfaceDistances(*[empty_distance if num_reference else np.nan] * len(SurfaceDistances._fields))
    return ClassScores(
        dice,
        jaccard,
        *distances,
        empty_prediction=num_reference > 0 and num_prediction == 0,
        absent=num_reference == 0,
    )


def _class_indices(values: np.ndarray, num_classes: int, name: str) -> np.ndarray:
    values = np.asarray(values)
    if values.size and not (values.min() >= 0 and values.max() < num_classes):  # written so that NaN fails, too
        raise ValueError(
            f"{name} has values from {values.min()} to {values.max()}, but {num_classes} classes allow 0 to"
            f" {num_classes - 1}: map its values to class indices first."
        )
    indices = values.astype(np.int32)
    if values.dtype.kind == "f" and not np.array_equal(indices, values):
        raise ValueError(f"{name} has values that are no class indices: take an argmax, or resample it by nearest.")
    return indices
