# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest

from medssl_components.data.planning import choose_grid, choose_patch, usual_spacing

FINE = np.array([[0.7, 0.7, z] for z in (1.5, 5, 5, 5, 5, 5, 5, 5, 5, 6, 7)])


def test_the_median_of_each_axis() -> None:
    spacing, why = usual_spacing(np.array([[1, 2, 1], [1, 1, 3], [2, 1, 1.5]]), np.full((3, 3), 50))
    np.testing.assert_allclose(spacing, [1, 1, 1.5])
    assert why == "the median"


def test_a_coarse_axis_with_few_voxels_gets_the_tenth_percentile() -> None:
    """Sorted values of 11 cases: the 10th percentile is the second of them."""
    spacing, why = usual_spacing(np.concatenate([FINE[:1] + [0, 0, 1], FINE[1:]]), np.tile([512, 512, 40], (11, 1)))
    np.testing.assert_allclose(spacing, [0.7, 0.7, 5])
    spacing, why = usual_spacing(np.concatenate([FINE[:1], FINE[:1], FINE[2:]]), np.tile([512, 512, 40], (11, 1)))
    np.testing.assert_allclose(spacing, [0.7, 0.7, 1.5])
    assert "the coarse axis z the 10th percentile" in why


def test_nothing_is_finer_there_than_on_the_other_axes() -> None:
    spacings = np.array([[0.7, 0.9, 0.3]] * 3 + [[0.7, 0.9, 5.0]] * 4)
    np.testing.assert_allclose(usual_spacing(spacings, np.tile([512, 512, 40], (7, 1)))[0], [0.7, 0.9, 0.9])


@pytest.mark.parametrize(("shape", "spacing"), [((512, 512, 171), 5.0), ((512, 512, 40), 2.0)])
def test_both_voxels_and_shape_have_to_be_anisotropic(shape: tuple, spacing: float) -> None:
    spacings = np.array([[0.7, 0.7, 1.0]] * 2 + [[0.7, 0.7, spacing]] * 9)
    assert usual_spacing(spacings, np.tile(shape, (11, 1)))[0][2] == spacing


def fit(voxels: float):
    return lambda shape, spacing: choose_patch(shape, spacing, (16, 16, 16), voxels)


def test_voxels_stay_where_a_patch_has_the_object(make_case, make_fingerprint) -> None:
    """An object of 20 mm, 24 with the margin, and a patch of 32 voxels of 1 mm."""
    grid = choose_grid(make_fingerprint(make_case()), fit(32**3))
    assert grid.spacing == (1.0, 1.0, 1.0) and grid.patch_size == (32, 32, 32)
    assert grid.why == "the median of the scans"


def test_they_grow_until_it_has(make_case, make_fingerprint) -> None:
    """40 mm, 48 with the margin: 32 voxels of 48 / 32 = 1.5 mm, so five steps of the eighth root of two, 1.54."""
    case = make_case(boxes={1: (40, 40, 40)}, voxels={0: 1, 1: 30_000})
    grid = choose_grid(make_fingerprint(case), fit(32**3))
    assert grid.spacing == (1.54, 1.54, 1.54) and grid.patch_size == (32, 32, 32)
    assert "1 x 1 x 1 mm, and coarser voxels bring more of the class organ into a patch" in grid.why
    # The scan is no larger than the object's box and its margin: 48 of 100 mm, but 42 of 42.
    grid = choose_grid(make_fingerprint(make_case(shape=(42,) * 3, boxes=case.class_boxes)), fit(32**3))
    assert grid.spacing[0] == pytest.approx(2 ** (4 / 8), abs=0.005)


def test_twice_the_usual_size_is_the_limit(make_case, make_fingerprint) -> None:
    case = make_case(shape=(500,) * 3, boxes={1: (200, 200, 200)}, voxels={0: 1, 1: 10**6})
    grid = choose_grid(make_fingerprint(case), fit(32**3))
    assert grid.spacing == (2.0, 2.0, 2.0) and grid.why.endswith("as far as detail allows")


def test_the_smallest_class_keeps_a_hundred_voxels(make_case, make_fingerprint) -> None:
    boxes, names = {1: (200, 200, 200), 2: (5, 5, 5)}, ("background", "liver", "tumour")
    voxels = {0: 10**6, 1: 10**6, 2: 300}  # 300 / 1.0905^(3 k) >= 100 for k up to 4
    case = make_case(shape=(500,) * 3, boxes=boxes, voxels=voxels)
    grid = choose_grid(make_fingerprint(case, class_names=names), fit(32**3))
    assert grid.spacing[0] == pytest.approx(2 ** (4 / 8), abs=0.005)
    assert voxels[2] / math.prod(grid.spacing) >= 100


def test_coarse_axes_wait_for_the_others(make_case, make_fingerprint) -> None:
    case = make_case(
        spacing=(0.8, 0.8, 2.5), shape=(500, 500, 200), boxes={1: (300,) * 3}, voxels={0: 1, 1: 10**7}, labelled=True
    )
    grid = choose_grid(make_fingerprint(case), fit(64**3))
    assert grid.spacing == (1.6, 1.6, 2.5)  # twice the usual size, before z has grown


def test_the_left_atrium_on_a_cpu_and_with_more_memory(make_case, make_fingerprint) -> None:
    """The numbers of the published crops, as in la_cpu.json, and at full resolution as in la.json."""
    case = make_case(
        spacing=(0.625,) * 3, shape=(192, 142, 88), boxes={1: (102.5, 58.1, 36.25)}, voxels={0: 10**6, 1: 200_000}
    )
    grid = choose_grid(make_fingerprint(case), fit(220_000))
    assert grid.spacing == (1.25, 1.25, 1.25) and grid.patch_size == (64, 64, 48)
    grid = choose_grid(make_fingerprint(case), fit(1.97e6))
    assert grid.spacing == (0.625, 0.625, 0.625) and grid.patch_size == (160, 144, 80)
