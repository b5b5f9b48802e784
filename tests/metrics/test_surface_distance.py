# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time

import numpy as np
import pytest
from monai.metrics import compute_hausdorff_distance
from scipy.spatial.distance import cdist

from medssl_components.metrics import average_surface_distance, hausdorff_distance_95, surface_distances


def surface_points(mask, spacing):
    """Coordinates of the mask's voxels that have a face neighbour outside of the mask or of the image."""
    padded = np.pad(mask, 1)
    inner = np.ones_like(mask)
    for axis in range(mask.ndim):
        for shift in (-1, 1):
            inner &= np.roll(padded, shift, axis)[(slice(1, -1),) * mask.ndim]
    return np.argwhere(mask & ~inner) * np.asarray(spacing)


def brute_force(prediction, reference, spacing):
    """95HD and ASD by all pairs of surface voxels."""
    pairs = cdist(surface_points(prediction, spacing), surface_points(reference, spacing))
    forward, backward = pairs.min(axis=1), pairs.min(axis=0)
    return np.percentile(np.concatenate([forward, backward]), 95), forward.mean()


def random_masks(shape, seed):
    random = np.random.default_rng(seed)
    return random.random(shape) > 0.7, random.random(shape) > 0.8


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((9, 7), (1.0, 1.0)),
        ((9, 7), (0.5, 3.0)),
        ((8, 7, 6), (1.0, 1.0, 1.0)),
        ((8, 7, 6), (0.625, 0.625, 0.625)),
        ((8, 7, 6), (0.7, 0.9, 4.0)),
        ((5, 4, 3, 3), (1.0, 2.0, 3.0, 4.0)),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_all_pairs(shape, spacing, seed):
    prediction, reference = random_masks(shape, seed)
    hd95_voxel, asd_voxel = brute_force(prediction, reference, np.ones(len(shape)))
    hd95_mm, asd_mm = brute_force(prediction, reference, spacing)

    assert surface_distances(prediction, reference, spacing) == pytest.approx((hd95_voxel, hd95_mm, asd_voxel, asd_mm))
    assert hausdorff_distance_95(prediction, reference) == pytest.approx(hd95_voxel)
    assert hausdorff_distance_95(prediction, reference, spacing) == pytest.approx(hd95_mm)
    assert average_surface_distance(prediction, reference) == pytest.approx(asd_voxel)
    assert average_surface_distance(prediction, reference, spacing) == pytest.approx(asd_mm)


def test_solid_objects_agree_with_all_pairs():
    grid = np.indices((20, 18, 14))
    prediction = ((grid - np.reshape((8, 9, 6), (3, 1, 1, 1))) ** 2).sum(axis=0) < 30
    reference = ((grid - np.reshape((11, 8, 7), (3, 1, 1, 1))) ** 2).sum(axis=0) < 25
    spacing = (0.5, 0.5, 2.0)
    expected = (brute_force(prediction, reference, np.ones(3)), brute_force(prediction, reference, spacing))
    found = surface_distances(prediction, reference, spacing)
    assert (found.hd95_voxel, found.asd_voxel) == pytest.approx(expected[0])
    assert (found.hd95_mm, found.asd_mm) == pytest.approx(expected[1])


def test_single_voxels():
    prediction, reference = np.zeros((10, 5, 5), bool), np.zeros((10, 5, 5), bool)
    prediction[2, 2, 2] = reference[5, 2, 2] = True
    assert surface_distances(prediction, reference, (2.0, 1.0, 1.0)) == pytest.approx((3, 6, 3, 6))
    assert surface_distances(prediction, reference, 0.5) == pytest.approx((3, 1.5, 3, 1.5))


def test_shifted_cubes():
    # Two 3x3x3 cubes, one shifted by 1 along the first axis. Their surfaces are all voxels but the centre, 26 each. Of
    # the prediction's, the first slice of 9 is 1 away; the second, a ring of 8, lies on the reference's first face; the
    # ring of the third lies on the reference's ring, and its middle is the reference's centre, 1 away from a face.
    prediction, reference = np.zeros((7, 7, 7), bool), np.zeros((7, 7, 7), bool)
    prediction[1:4, 1:4, 1:4] = reference[2:5, 1:4, 1:4] = True
    assert average_surface_distance(prediction, reference) == pytest.approx(10 / 26)
    assert hausdorff_distance_95(prediction, reference) == pytest.approx(1)


def test_image_border_is_outside():
    # Both masks fill the image along the last two axes. Were what lies beyond the border inside, each surface would be
    # one slice, and these are 3 apart.
    prediction, reference = np.zeros((8, 3, 3), bool), np.zeros((8, 3, 3), bool)
    prediction[:3] = True
    reference[:6] = True
    assert average_surface_distance(prediction, reference) == pytest.approx(1 / 26)  # only (2, 1, 1) is not on both
    hd95_voxel, asd_voxel = brute_force(prediction, reference, (1, 1, 1))
    assert surface_distances(prediction, reference, 1.0) == pytest.approx(
        (hd95_voxel, hd95_voxel, asd_voxel, asd_voxel)
    )


def test_empty_margin_changes_nothing():
    prediction, reference = random_masks((7, 6, 5), 2)
    margin = ((3, 0), (1, 4), (2, 2))
    spacing = (1.0, 2.0, 0.5)
    expected = surface_distances(prediction, reference, spacing)
    assert surface_distances(np.pad(prediction, margin), np.pad(reference, margin), spacing) == expected


def test_asd_is_directed():
    reference = np.zeros((12, 12), bool)
    reference[1:11, 1:11] = True
    prediction = np.zeros_like(reference)
    prediction[1, 1:11] = True  # lies on one side of the reference
    assert average_surface_distance(prediction, reference) == 0
    assert average_surface_distance(reference, prediction) > 3


def test_hd95_pools_both_directions():
    # 1 prediction voxel at the end of a line of 41: the pooled sample is {0, 0, 1, ..., 40}, of 42 values, so its 95th
    # percentile is at position 0.95 * 41 = 38.95, hence 37.95. The percentiles of the directions are 0 and 38.
    reference = np.ones((41, 1, 1), bool)
    prediction = np.zeros_like(reference)
    prediction[0] = True
    assert hausdorff_distance_95(prediction, reference) == pytest.approx(37.95)
    monai = compute_hausdorff_distance(
        prediction[None, None].astype(float), reference[None, None].astype(float), True, percentile=95
    )
    assert monai.item() == pytest.approx(38)
    assert hausdorff_distance_95(reference, prediction) == pytest.approx(37.95)


def test_identical_masks_have_distance_zero():
    mask, _ = random_masks((6, 6, 6), 3)
    assert surface_distances(mask, mask, (1.0, 2.0, 3.0)) == (0, 0, 0, 0)


def test_inputs_are_not_changed():
    prediction, reference = random_masks((6, 6, 6), 4)
    copies = prediction.copy(), reference.copy()
    surface_distances(prediction, reference, 1.0)
    assert np.array_equal(prediction, copies[0]) and np.array_equal(reference, copies[1])


@pytest.mark.parametrize("metric", [average_surface_distance, hausdorff_distance_95, surface_distances])
def test_errors(metric):
    full, empty = np.ones((3, 3), bool), np.zeros((3, 3), bool)
    with pytest.raises(ValueError, match="prediction is an empty mask"):
        metric(empty, full, 1.0)
    with pytest.raises(ValueError, match="reference is an empty mask"):
        metric(full, empty, 1.0)
    with pytest.raises(ValueError, match=r"\(3, 3\) and reference \(3, 2\)"):
        metric(full, full[:, :2], 1.0)
    for spacing in ((1.0, 1.0, 1.0), 0.0, (1.0, -1.0), (1.0, float("nan"))):
        with pytest.raises(ValueError, match="spacing must be one positive number or 2"):
            metric(full, full, spacing)


def test_small_object_in_a_large_volume_is_fast():
    prediction, reference = np.zeros((180, 140, 88), bool), np.zeros((180, 140, 88), bool)
    prediction[60:100, 50:90, 30:60] = reference[63:103, 52:92, 31:61] = True
    start = time.process_time()
    surface_distances(prediction, reference, 0.625)
    assert time.process_time() - start < 0.5  # about a tenth of it; distance transforms of the whole volume take 0.6 s
