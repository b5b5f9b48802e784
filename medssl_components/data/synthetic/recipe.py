# SPDX-License-Identifier: Apache-2.0
"""What all built-in data sets have in common: numbers of cases, the grid of a scan and what the scanner does to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

Range = tuple[float, float]


@dataclass(frozen=True)
class Recipe(ABC):
    """Numbers of a built-in data set, of which a subclass draws the cases.

    A pair is the range that a case draws from evenly. Lengths are in mm; the intensity of soft tissue is 1.

    Args:
        class_names: names of the labels, the background first.
        version: part of the folder's name; another one makes the scans anew.
        training: number of training cases.
        labeled: how many of them have a label on disk, the first ones.
        validation: number of validation cases.
        test: number of test cases.
        in_plane_spacing: spacing along the first two axes.
        through_plane_spacing: spacing along the third axis.
        tilt: standard deviation of the angle between the scan's and the body's axes, degrees.
        origin_shift: half width of the range of the volume's centre in world coordinates.
        brightness: intensity of the soft tissue as stored.
        texture: standard deviation of the tissue's texture.
        texture_length: wavelength of its coarse half.
        bias: standard deviation of the logarithm of the bias field.
        bias_length: wavelength of that field.
        noise: standard deviation of the noise in both channels of the receiver.
        blur: standard deviation of the point spread function.
    """

    class_names: tuple[str, ...] = ("background",)
    version: int = 1
    training: int = 40
    labeled: int = 4
    validation: int = 4
    test: int = 12
    in_plane_spacing: Range = (1.2, 1.6)
    through_plane_spacing: Range = (1.4, 2.0)
    tilt: float = 5.0
    origin_shift: float = 80.0
    brightness: Range = (250.0, 500.0)
    texture: float = 0.08
    texture_length: float = 25.0
    bias: Range = (0.05, 0.2)
    bias_length: float = 120.0
    noise: Range = (0.04, 0.13)
    blur: Range = (0.8, 1.8)

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw a case.

        Args:
            rng: source of everything random.

        Returns:
            image: (W, H, D), at least 0.
            label: (W, H, D), classes as in `class_names`.
            affine: (4, 4), from voxels to mm, right-anterior-superior.
        """
