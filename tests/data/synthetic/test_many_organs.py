# SPDX-License-Identifier: Apache-2.0
"""Scans with many organs: all there in every case, of very different size, and told apart by their place."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import label as components

from medssl_components.data import class_names
from medssl_components.data.synthetic import RECIPES, synthetic_case

RECIPE = RECIPES["many_organs"]
CLASSES = {name: number for number, name in enumerate(RECIPE.class_names)}
PAIRS = [("right_kidney", "left_kidney"), ("right_adrenal_gland", "left_adrenal_gland")]


@pytest.fixture(scope="module")
def cases():
    return [synthetic_case(index, recipe=RECIPE) for index in range(5)]


def share(label: np.ndarray, name: str) -> float:
    return (label == CLASSES[name]).mean()


def centre(label: np.ndarray, affine: np.ndarray, name: str) -> np.ndarray:
    """Return an organ's centre in mm to the right, to the front and up."""
    return nib.affines.apply_affine(affine, np.argwhere(label == CLASSES[name]).mean(axis=0))


def test_a_case_is_a_function_of_index_and_seed(cases):
    again, other_seed = synthetic_case(3, recipe=RECIPE), synthetic_case(3, seed=1, recipe=RECIPE)
    assert all(np.array_equal(a, b) for a, b in zip(cases[3], again, strict=True))
    assert not np.array_equal(cases[3][2], other_seed[2])


def test_types_and_ranges(cases):
    for image, label, affine in cases:
        assert image.shape == label.shape
        assert (image.dtype, label.dtype, affine.shape) == (np.float32, np.uint8, (4, 4))
        assert 0 <= image.min() and 300 < image.max() < 2500
        in_plane, other, through_plane = np.linalg.norm(affine[:3, :3], axis=0)
        assert in_plane == pytest.approx(other)
        assert 3.8 <= in_plane <= 4.3 and 3.8 <= through_plane <= 4.6


def test_cases_differ(cases):
    assert len({image.shape for image, _, _ in cases}) > 3
    assert len({nib.aff2axcodes(affine) for _, _, affine in cases}) > 1
    for name in RECIPE.class_names[1:]:
        shares = [share(label, name) for _, label, _ in cases]
        assert max(shares) > 1.1 * min(shares), name


def test_every_organ_is_there_in_one_piece(cases):
    assert class_names("builtin:many_organs", 9) == list(RECIPE.class_names)
    for _, label, _ in cases:
        for name, number in list(CLASSES.items())[1:]:
            assert components(label == number)[1] == 1, name


def test_sizes_lie_far_apart(cases):
    for _, label, _ in cases:
        assert 0.05 < share(label, "liver") < 0.15
        assert 0.0004 < share(label, "oesophagus") < 0.0017
        for name in PAIRS[1]:
            assert 30 <= (label == CLASSES[name]).sum() < 0.0005 * label.size, name


def test_organs_lie_where_they_belong(cases):
    for _, label, affine in cases:
        places = {name: centre(label, affine, name) for name in RECIPE.class_names[1:]}
        middle = places["aorta"][0]
        for right, left in PAIRS:
            assert places[left][0] < middle - 10 and places[right][0] > middle + 20
        assert places["spleen"][0] < places["left_kidney"][0] < places["right_kidney"][0]
        assert places["liver"][0] > middle + 30
        assert places["oesophagus"][2] > places["left_kidney"][2] + 30
        assert places["oesophagus"][1] > places["aorta"][1]
        for kidney, gland in zip(*PAIRS, strict=True):
            assert 25 < places[gland][2] - places[kidney][2] < 65


@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_looks_alike(pair):
    """Without bias and noise the intensities of the two sides are the same, so the side is known by place alone."""
    recipe = replace(RECIPE, bias=(0.0, 0.0), noise=(0.0, 0.0), texture=0.0, blur=(0.01, 0.01))
    image, label, _ = synthetic_case(0, recipe=recipe)
    right, left = (np.median(image[label == CLASSES[name]]) for name in pair)
    assert right == pytest.approx(left, rel=0.05)


def test_intensities_of_neighbours_overlap_from_case_to_case(cases):
    """In some cases the spleen is brighter than the liver, in some darker, and so on."""
    means = [[np.median(image[label == number]) for number in range(1, 5)] for image, label, _ in cases]
    orders = {tuple(np.argsort(row)) for row in means}
    assert len(orders) > 2


def test_something_unlabelled_looks_like_the_aorta():
    """The inferior vena cava: as bright, as round, on the other side of the spine."""
    recipe = replace(RECIPE, bias=(0.0, 0.0), noise=(0.0, 0.0), texture=0.0)
    for index in range(3):
        image, label, affine = synthetic_case(index, recipe=recipe)
        aorta = label == CLASSES["aorta"]
        voxels = np.argwhere(~aorta & (label == 0) & (image > 0.8 * np.median(image[aorta])))
        offset = nib.affines.apply_affine(affine, voxels) - centre(label, affine, "aorta")
        beside = (np.abs(offset[:, 0] - 31) < 12) & (np.abs(offset[:, 1] - 5) < 14)
        assert beside.sum() > 0.3 * aorta.sum()
