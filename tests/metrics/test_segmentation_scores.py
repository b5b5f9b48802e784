# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_iou
from monai.networks.utils import one_hot

from medssl_components.metrics import segmentation_scores, surface_distances

DISTANCES = ("hd95_voxel", "hd95_mm", "asd_voxel", "asd_mm")
NAN = float("nan")


def distances(scores):
    return [getattr(scores, name) for name in DISTANCES]


@pytest.mark.parametrize("shape", [(12, 10), (9, 8, 7)])
def test_overlap_agrees_with_monai(shape):
    random = np.random.default_rng(0)
    prediction, label = random.integers(0, 4, shape), random.integers(0, 4, shape)
    scores = segmentation_scores(prediction, label, 4, 1.0)
    maps = [one_hot(torch.as_tensor(array)[None, None], 4) for array in (prediction, label)]
    assert list(scores) == [1, 2, 3]
    dice, jaccard = compute_dice(*maps, include_background=False), compute_iou(*maps, include_background=False)
    assert [class_scores.dice for class_scores in scores.values()] == pytest.approx(dice[0].tolist())
    assert [class_scores.jaccard for class_scores in scores.values()] == pytest.approx(jaccard[0].tolist())


def test_by_hand():
    prediction, label = np.zeros((4, 6), int), np.zeros((4, 6), int)
    prediction[0, :3] = 1  # 3 voxels, 2 of them right
    label[0, 1:5] = 1  # 4 voxels
    scores = segmentation_scores(prediction, label, 2, (1.0, 2.0))[1]
    assert scores.dice == pytest.approx(4 / 7)
    assert scores.jaccard == pytest.approx(2 / 5)
    # to the reference: 1, 0, 0; to the prediction: 0, 0, 1, 2; the 95th percentile of the seven is at position 5.7
    assert scores.asd_voxel == pytest.approx(1 / 3)
    assert scores.asd_mm == pytest.approx(2 / 3)
    assert scores.hd95_voxel == pytest.approx(1.7)
    assert scores.hd95_mm == pytest.approx(3.4)
    assert scores.empty_prediction is False and scores.absent is False


def test_each_class_has_its_own_distances():
    random = np.random.default_rng(1)
    prediction, label = random.integers(0, 3, (8, 7, 6)), random.integers(0, 3, (8, 7, 6))
    spacing = (0.5, 1.0, 2.0)
    scores = segmentation_scores(prediction, label, 3, spacing)
    for index in (1, 2):
        assert distances(scores[index]) == list(surface_distances(prediction == index, label == index, spacing))


@pytest.mark.parametrize("empty_distance", [0.0, 50.0, NAN])
def test_empty_prediction(empty_distance):
    label = np.ones((3, 3, 3), int)
    scores = segmentation_scores(np.zeros_like(label), label, 2, 1.0, empty_distance)[1]
    assert (scores.dice, scores.jaccard) == (0, 0)
    assert distances(scores) == pytest.approx([empty_distance] * 4, nan_ok=True)
    assert scores.empty_prediction is True and scores.absent is False


def test_empty_prediction_has_distance_zero_by_default():
    label = np.ones((3, 3, 3), int)
    assert distances(segmentation_scores(np.zeros_like(label), label, 2, 1.0)[1]) == [0, 0, 0, 0]


def test_false_positive_of_an_absent_class():
    prediction = np.ones((3, 3, 3), int)
    scores = segmentation_scores(prediction, np.zeros_like(prediction), 2, 1.0, empty_distance=50.0)[1]
    assert (scores.dice, scores.jaccard) == (0, 0)
    assert np.isnan(distances(scores)).all()
    assert scores.empty_prediction is False and scores.absent is True


def test_class_that_neither_has_is_not_scored():
    nothing = np.zeros((3, 3, 3), int)
    scores = segmentation_scores(nothing, nothing, 2, 1.0, empty_distance=50.0)[1]
    assert np.isnan([scores.dice, scores.jaccard, *distances(scores)]).all()
    assert scores.empty_prediction is False and scores.absent is True


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_types_of_maps(dtype):
    label = np.zeros((4, 4), dtype)
    label[1:3, 1:3] = 1
    assert segmentation_scores(label, label, 2, 1.0)[1].dice == 1


def test_errors():
    label = np.zeros((3, 3))
    with pytest.raises(ValueError, match="must be on one grid"):
        segmentation_scores(label, label[:2], 2, 1.0)
    for value in (2, -1, 255, NAN):
        wrong = np.full((3, 3), value)
        with pytest.raises(ValueError, match="label has values from .* 2 classes allow 0 to 1"):
            segmentation_scores(label, wrong, 2, 1.0)
    with pytest.raises(ValueError, match="prediction has values that are no class indices"):
        segmentation_scores(np.full((3, 3), 0.5), label, 2, 1.0)
