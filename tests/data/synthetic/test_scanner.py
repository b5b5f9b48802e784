# SPDX-License-Identifier: Apache-2.0
"""What the scanner does to painted structures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medssl_components.data.synthetic import OneOrganRecipe
from medssl_components.data.synthetic.grid import body_points
from medssl_components.data.synthetic.scanner import acquire, paint

PERFECT = replace(
    OneOrganRecipe(), texture=0.0, bias=(0.0, 0.0), noise=(0.0, 0.0), blur=(0.01, 0.01), brightness=(100.0, 100.0)
)


def scan(image: np.ndarray, **changes: object) -> np.ndarray:
    points = body_points(image.shape, np.eye(4))
    return acquire(image.copy(), points, np.ones(3), np.random.default_rng(0), replace(PERFECT, **changes))


def test_later_structures_cover_earlier_ones_and_surfaces_are_half_way():
    image = np.ones(4)
    first, second = np.array([-9.0, -9, 9, 0]), np.array([9.0, -9, 9, np.inf])
    paint(image, [(first, 3.0), (second, 0.5)])
    np.testing.assert_allclose(image, [3, 0.5, 1, 2])


def test_softness_is_the_width_of_a_surface():
    values = []
    for softness in (0.4, 2.0):
        image = np.zeros(1)
        paint(image, [(np.array([-1.0]), 1.0)], softness)
        values.append(image.item())
    assert values == pytest.approx([1 / (1 + np.exp(-2.5)), 1 / (1 + np.exp(-0.5))])


def test_a_perfect_scanner_only_scales():
    image = np.random.default_rng(1).uniform(0, 2, size=(6, 7, 5))
    np.testing.assert_allclose(scan(image), 100 * image)


@pytest.mark.parametrize(
    "changes", [{"texture": 0.1}, {"bias": (0.2, 0.2)}, {"noise": (0.1, 0.1)}, {"brightness": (90.0, 95.0)}]
)
def test_each_effect_changes_a_flat_image(changes):
    assert np.abs(scan(np.ones((6, 7, 5)), **changes) - 100).max() > 1


def test_noise_in_air_has_the_mean_of_a_rayleigh_distribution():
    noisy = scan(np.zeros((30, 30, 30)), noise=(0.1, 0.1))
    assert noisy.mean() == pytest.approx(10 * np.sqrt(np.pi / 2), rel=0.02)
