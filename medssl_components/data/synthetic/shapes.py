# SPDX-License-Identifier: Apache-2.0
"""Smooth random fields and signed distances (mm, about, negative inside) of which built-in scans are composed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import label
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation


def waves(points: np.ndarray, wavelength: float, rng: np.random.Generator, count: int = 8) -> np.ndarray:
    """Return a smooth random field of variance one, a sum of plane waves: (..., 3) to (...).

    Args:
        points: where, in mm.
        wavelength: of all waves, in mm.
        rng: source of directions and phases.
        count: number of waves.
    """
    directions = rng.normal(size=(count, 3))
    directions *= 2 * np.pi / (wavelength * np.linalg.norm(directions, axis=1, keepdims=True))
    phases = rng.uniform(0, 2 * np.pi, size=count)
    return np.sqrt(2 / count) * np.cos(points @ directions.T + phases).sum(axis=-1)


def ellipsoid(
    points: np.ndarray,
    centre: np.ndarray,
    radii: np.ndarray,
    bumps: float,
    rng: np.random.Generator,
    turn: Sequence[float] = (0.0, 0.0, 0.0),
    turn_spread: float = 0.25,
    reach: float = np.inf,
) -> np.ndarray:
    """Return the distance to a turned ellipsoid whose radius varies smoothly over the directions.

    Args:
        points: of the voxels of a volume, (W, H, D, 3).
        centre: (3,).
        radii: semi-axes, (3,).
        bumps: standard deviation of the radius over the directions, as a fraction.
        rng: source of turn and bumps.
        turn: mean rotation vector, radians.
        turn_spread: standard deviation of its components.
        reach: the distance is infinite farther from the centre than so many times the longest semi-axis.
    """
    rotation = Rotation.from_rotvec(turn + rng.normal(0, turn_spread, size=3)).as_matrix()
    distance = np.full(points.shape[:-1], np.inf)
    block = _block(points, centre - reach * np.max(radii), centre + reach * np.max(radii))
    local = (points[block] - centre) @ rotation / radii
    norm = np.linalg.norm(local, axis=-1) + 1e-6
    distance[block] = (norm / np.exp(bumps * waves(local / norm[..., None], 2.5, rng)) - 1) * np.mean(radii)
    return distance


def tube(
    points: np.ndarray, start: np.ndarray, middle: np.ndarray, end: np.ndarray, radius: float, steps: int = 40
) -> np.ndarray:
    """Return the distance to a tube about the quadratic Bezier curve of three points, infinite beyond three radii.

    Args:
        points: of the voxels of a volume, (W, H, D, 3).
        start: first point of the curve, (3,).
        middle: the control point, (3,).
        end: last point of the curve, (3,).
        radius: of the tube.
        steps: number of points of the curve to which the distance is taken.
    """
    t = np.linspace(0, 1, steps)[:, None]
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
    distance = np.full(points.shape[:-1], np.inf)
    block = _block(points, curve.min(axis=0) - 3 * radius, curve.max(axis=0) + 3 * radius)
    distance[block] = cKDTree(curve).query(points[block], distance_upper_bound=3 * radius)[0] - radius
    return distance


def union(first: np.ndarray, second: np.ndarray, width: float = 1.5) -> np.ndarray:
    """Return the distance to either of two structures, with a rounded edge where they meet.

    Args:
        first: distance to one structure.
        second: distance to the other.
        width: of the rounding, in mm.
    """
    return -width * np.logaddexp(-first / width, -second / width)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected part of a mask that is not empty.

    Args:
        mask: bool, of any shape.
    """
    components, _ = label(mask)
    return components == np.argmax(np.bincount(components.ravel())[1:]) + 1


def _block(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[slice, ...]:
    """Return the smallest block of a volume that has all points of a box."""
    inside = np.logical_and.reduce([(points[..., i] >= low[i]) & (points[..., i] <= high[i]) for i in range(3)])
    block = []
    for axis in range(inside.ndim):
        others = tuple(other for other in range(inside.ndim) if other != axis)
        indices = np.flatnonzero(inside.any(axis=others))
        block.append(slice(indices[0], indices[-1] + 1) if len(indices) else slice(0))
    return tuple(block)
