# SPDX-License-Identifier: Apache-2.0
"""The way from structures to a scan: partial volumes, texture, blur, bias field and noise."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from .recipe import Recipe
from .shapes import waves


def paint(image: np.ndarray, layers: Iterable[tuple[np.ndarray, float]], softness: float = 0.4) -> None:
    """Paint structures into an image, from the back to the front.

    Args:
        image: changed in place.
        layers: distance to the surface (negative inside) and intensity of each.
        softness: width of a surface in mm.
    """
    for distance, value in layers:
        inside = expit(-distance / softness)
        image += inside * (value - image)


def acquire(
    image: np.ndarray, points: np.ndarray, spacing: np.ndarray, rng: np.random.Generator, recipe: Recipe
) -> np.ndarray:
    """Return the scan of painted structures, a magnitude with Rician noise.

    Args:
        image: (W, H, D); it is changed.
        points: the voxels' coordinates, (W, H, D, 3) in mm.
        spacing: (3,) in mm.
        rng: source of everything random.
        recipe: ranges of texture, blur, bias, noise and brightness.
    """
    grain = gaussian_filter(rng.normal(size=image.shape), 2 / spacing, mode="nearest")
    image *= 1 + recipe.texture * (grain / grain.std() + waves(points, recipe.texture_length, rng))
    image = gaussian_filter(image, rng.uniform(*recipe.blur) / spacing, mode="nearest")
    image *= np.exp(rng.uniform(*recipe.bias) * waves(points, recipe.bias_length, rng))
    noise = rng.uniform(*recipe.noise)
    real, imaginary = rng.normal(0, noise, size=(2, *image.shape))
    return rng.uniform(*recipe.brightness) * np.hypot(image + real, imaginary)
