# SPDX-License-Identifier: Apache-2.0
"""Where the voxels of a built-in scan lie."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from .recipe import Recipe


def draw_affine(shape: tuple[int, int, int], rng: np.random.Generator, recipe: Recipe) -> np.ndarray:
    """Draw the affine of a volume, (4, 4) from voxels to mm; its directions are orthonormal.

    Args:
        shape: voxels along each axis.
        rng: source of the numbers.
        recipe: ranges of spacing, tilt and origin.
    """
    in_plane, through_plane = rng.uniform(*recipe.in_plane_spacing), rng.uniform(*recipe.through_plane_spacing)
    # Half of the cases run to the left and to the back (LPS), as scanners write them, and a quarter from head to foot.
    flip = np.array([1, 1, 1]) if rng.random() < 0.5 else np.array([-1, -1, 1])
    flip[2] = -1 if rng.random() < 0.25 else 1
    tilt = Rotation.from_rotvec(rng.normal(0, recipe.tilt, size=3) / np.sqrt(3), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = tilt * (flip * [in_plane, in_plane, through_plane])
    middle = (np.array(shape) - 1) / 2
    affine[:3, 3] = rng.uniform(-recipe.origin_shift, recipe.origin_shift, size=3) - affine[:3, :3] @ middle
    return affine


def body_points(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """Return the voxels' world coordinates about the volume's middle, (W, H, D, 3) in mm.

    Args:
        shape: voxels along each axis.
        affine: (4, 4).
    """
    half = (np.array(shape) - 1) / 2
    indices = np.stack(np.meshgrid(*[np.arange(side) for side in shape], indexing="ij"), axis=-1) - half
    return indices @ affine[:3, :3].T
