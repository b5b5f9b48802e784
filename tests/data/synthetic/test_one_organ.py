# SPDX-License-Identifier: Apache-2.0
"""Scans with one organ: the same at every call, different from case to case."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import label as components

from medssl_components.data.synthetic import RECIPES, synthetic_case
from medssl_components.data.synthetic.grid import body_points, draw_affine
from medssl_components.data.synthetic.one_organ import draw_structures


@pytest.fixture(scope="module")
def cases():
    return [synthetic_case(index) for index in range(8)]


def spacing(affine: np.ndarray) -> np.ndarray:
    return np.linalg.norm(affine[:3, :3], axis=0)


def contrast(image: np.ndarray, label: np.ndarray) -> float:
    return image[label == 1].mean() / np.median(image[label == 0])


def test_a_case_is_a_function_of_index_and_seed():
    first, again, other_seed = synthetic_case(3), synthetic_case(3), synthetic_case(3, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[2], other_seed[2])


def test_the_scans_stay_what_they_are(cases):
    """Published scores are of these voxels: whoever changes them gives the recipe another version."""
    image, label, affine = cases[0]
    content = np.rint(image).astype("<i2").tobytes() + label.tobytes() + affine.round(6).astype("<f8").tobytes()
    digest = hashlib.sha256(content).hexdigest()
    assert (RECIPES["one_organ"].version, digest[:16]) == (2, "fd0d344a7bad3f91")


def test_types_and_ranges(cases):
    for image, label, affine in cases:
        assert image.shape == label.shape
        assert (image.dtype, label.dtype, affine.shape) == (np.float32, np.uint8, (4, 4))
        assert 0 <= image.min() and 300 < image.max() < 2500
        assert set(np.unique(label)) == {0, 1}
        assert all(56 <= side <= 72 for side in image.shape[:2]) and 40 <= image.shape[2] <= 56


def test_cases_differ(cases):
    assert len({image.shape for image, _, _ in cases}) > 4
    assert np.ptp([spacing(affine)[0] for _, _, affine in cases]) > 0.1
    assert np.ptp([affine[0, 3] for _, _, affine in cases]) > 20
    assert np.ptp([contrast(image, label) for image, label, _ in cases]) > 0.3
    volumes = [label.sum() * spacing(affine).prod() for _, label, affine in cases]
    assert max(volumes) > 1.5 * min(volumes)
    assert len({nib.aff2axcodes(affine) for _, _, affine in cases}) > 1


def test_affines_are_spacings_times_orthonormal_directions(cases):
    for _, _, affine in cases:
        directions = affine[:3, :3] / spacing(affine)
        np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-12)
        in_plane, other, through_plane = spacing(affine)
        assert in_plane == pytest.approx(other)
        assert 1.2 <= in_plane <= 1.6 and 1.4 <= through_plane <= 2.0


def test_the_organ_is_one_piece_away_from_the_border(cases):
    for _, label, _ in cases:
        assert components(label)[1] == 1
        assert 1000 < label.sum() < 0.2 * label.size
        assert label[1:-1, 1:-1, 1:-1].sum() == label.sum()


def test_the_distractor_looks_like_the_organ_and_is_not_labelled():
    # Without bias and noise the two means show the contrast alone.
    recipe = replace(RECIPES["one_organ"], bias=(0.0, 0.0), noise=(0.0, 0.0))
    for index in range(4):
        image, label, _ = synthetic_case(index, recipe=recipe)
        rng = np.random.default_rng([0, index])
        shape = recipe._shape(rng)
        points = body_points(shape, draw_affine(shape, rng, recipe))
        distractor = draw_structures(points, rng, recipe).distractor_mask
        assert 0.2 < distractor.sum() / label.sum() < 3
        assert not (distractor & (label == 1)).any()
        organ_mean, tissue = image[label == 1].mean(), np.median(image)
        assert image[distractor].mean() == pytest.approx(organ_mean, rel=0.2)
        assert image[distractor].mean() > 1.15 * tissue
