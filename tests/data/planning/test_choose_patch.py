# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest

from medssl_components.data.planning import choose_patch

STRIDE = (16, 16, 16)


@pytest.mark.parametrize(
    ("shape", "spacing", "voxels", "patch"),
    [
        ((35, 50, 36), (1, 1, 1), 1e9, (32, 48, 32)),  # the hippocampus: the scan is the limit
        ((96, 71.25, 44), (1.25,) * 3, 220_000, (64, 64, 48)),  # la_cpu.json
        ((96, 71.25, 44), (1.25,) * 3, 1e9, (96, 64, 48)),
        ((40, 40, 40), (1, 1, 1), 1e9, (32, 32, 32)),  # as near to 48: down
        ((300, 300, 300), (1, 1, 1), 96 * 80 * 80, (96, 80, 80)),
        ((300, 300, 300), (1, 1, 1), 96 * 80 * 80 - 1, (80, 80, 80)),
        ((512, 512, 120), (0.75, 0.75, 3), 128 * 128 * 32, (128, 128, 32)),  # a cube in mm: 96 x 96 x 96
        ((256, 216, 10), (1.5, 1.5, 10), 128 * 128 * 16, (128, 128, 16)),  # thinner than two steps
        ((300, 300, 300), (1, 1, 1), 1, (32, 32, 32)),  # the smallest, if it fits or not
    ],
)
def test_patches(shape: tuple, spacing: tuple, voxels: float, patch: tuple) -> None:
    assert choose_patch(shape, spacing, STRIDE, voxels) == patch


def test_more_memory_gives_no_smaller_side_and_the_strides_divide_all() -> None:
    before = (0, 0, 0)
    for voxels in range(40_000, 2_000_000, 20_000):
        patch = choose_patch((200, 170, 60), (0.7, 0.8, 2.2), (16, 16, 4), voxels)
        assert math.prod(patch) <= voxels
        assert all(side % step == 0 for side, step in zip(patch, (16, 16, 4), strict=True))
        assert all(side >= earlier for side, earlier in zip(patch, before, strict=True))
        before = patch
    assert before == (192, 160, 60)
