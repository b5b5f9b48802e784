# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from medssl_components.data import DataError
from medssl_components.data.planning import voxels_in_memory


def test_what_is_left_is_shared_by_the_patches() -> None:
    assert voxels_in_memory(1.0, 4, bytes_per_voxel=1000, fixed_bytes=2e8) == pytest.approx(200_000)
    assert voxels_in_memory(1.0, 8, bytes_per_voxel=1000, fixed_bytes=2e8) == pytest.approx(100_000)


def test_too_little_is_an_error_with_what_is_enough() -> None:
    with pytest.raises(DataError, match="memory is 0.2 GB, too little for 4 patches of 32 x 32 x 32; give 0.26"):
        voxels_in_memory(0.2, 4)
    assert voxels_in_memory(0.26, 4) >= 32**3
