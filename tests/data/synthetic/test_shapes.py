# SPDX-License-Identifier: Apache-2.0
"""Distances of simple structures, where they are known."""

from __future__ import annotations

import numpy as np
import pytest

from medssl_components.data.synthetic.shapes import ellipsoid, largest_component, tube, union, waves


def grid(*shape: int) -> np.ndarray:
    axes = [np.arange(side, dtype=float) - (side - 1) / 2 for side in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def test_waves_have_variance_one():
    values = [waves(grid(4, 4, 4), 9.0, np.random.default_rng(seed)) for seed in range(200)]
    assert np.mean(values) == pytest.approx(0, abs=0.05) and np.var(values) == pytest.approx(1, rel=0.1)


def test_a_straight_tube_is_a_cylinder_up_to_three_radii():
    points = grid(21, 25, 9)
    along = np.array([0.0, 0.0, 10.0])
    distance = tube(points, -along, np.zeros(3), along, 2.5, steps=200)
    expected = np.linalg.norm(points[..., :2], axis=-1) - 2.5
    near = expected < 4.9
    np.testing.assert_allclose(distance[near], expected[near], atol=0.06)  # of 200 points of the curve
    assert np.isinf(distance[expected > 5.2]).all()


@pytest.mark.parametrize("place", [(0, 0, 0), (-9, 10, 3), (50, 0, 0)])
def test_a_sphere_is_known_within_its_reach(place):
    points = grid(21, 25, 9)
    centre = np.array(place, dtype=float)
    distance = ellipsoid(points, centre, np.full(3, 4.0), 0.0, np.random.default_rng(0), reach=1.5)
    expected = np.linalg.norm(points - centre, axis=-1) - 4
    near = expected < 2
    np.testing.assert_allclose(distance[near], expected[near], atol=1e-4)
    assert np.isinf(distance[(np.abs(points - centre) > 7).any(axis=-1)]).all()


def test_a_reach_changes_nothing_else():
    first, second = (
        ellipsoid(grid(15, 15, 15), np.zeros(3), np.array([3.0, 4, 2]), 0.1, np.random.default_rng(0), reach=reach)
        for reach in (np.inf, 1.2)
    )
    known = np.isfinite(second)
    assert 0 < known.sum() < known.size
    np.testing.assert_array_equal(first[known], second[known])


def test_an_ellipsoid_is_turned_about_its_mean():
    flat = np.array([6.0, 2.0, 2.0])
    distance = ellipsoid(grid(15, 15, 5), np.zeros(3), flat, 0.0, np.random.default_rng(0), (0, 0, np.pi / 2), 0.0)
    assert distance[7, 12, 2] < 0 < distance[12, 7, 2]


def test_a_union_is_the_nearer_of_two_and_rounded_where_they_meet():
    assert union(np.array(-8.0), np.array(20.0)) == pytest.approx(-8)
    assert union(np.array(np.inf), np.array(np.inf)) == np.inf
    assert union(np.array(1.0), np.array(1.0), 2.0) == pytest.approx(1 - 2 * np.log(2))


def test_the_largest_component():
    mask = np.zeros((3, 8, 3), dtype=bool)
    mask[:, 0], mask[1, 4:7, 1] = True, True
    largest = largest_component(mask)
    assert largest[:, 0].all() and largest.sum() == 9
