# SPDX-License-Identifier: Apache-2.0
"""Scans that look like an upper abdomen with eight organs of very different size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .abdomen import Abdomen
from .grid import body_points, draw_affine
from .layer import Layer
from .recipe import Range, Recipe
from .scanner import acquire, paint
from .shapes import largest_component, waves
from .torso_wall import AIR, draw_wall


@dataclass(frozen=True)
class ManyOrgansRecipe(Recipe):
    """Numbers of the scans that look like an upper abdomen in a coarse MR scan, besides those of `Recipe`.

    The left and the right organ of a pair look alike. An adrenal gland has about 0.03 % of the voxels, the liver 10 %.

    Args:
        sizes: ranges of the voxels along the three axes.
        body_size: range of the factor of the body along each axis.
        body_shift: half width of the range of the body's place along its axis.
        bend: standard deviation of the smooth deformation of the body.
        jitter: standard deviation of each organ's place.
        softness: width of a surface.
    """

    class_names: tuple[str, ...] = (
        "background",
        "liver",
        "spleen",
        "right_kidney",
        "left_kidney",
        "aorta",
        "oesophagus",
        "right_adrenal_gland",
        "left_adrenal_gland",
    )
    in_plane_spacing: Range = (3.8, 4.3)
    through_plane_spacing: Range = (3.8, 4.6)
    texture: float = 0.05
    texture_length: float = 60.0
    bias: Range = (0.05, 0.2)
    bias_length: float = 380.0
    noise: Range = (0.03, 0.09)
    blur: Range = (1.2, 2.2)
    sizes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] = ((74, 82), (52, 60), (42, 50))
    body_size: Range = (0.92, 1.06)
    body_shift: float = 8.0
    bend: float = 3.0
    jitter: float = 3.0
    softness: float = 1.0

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw a case; see `Recipe.draw`."""
        width, height, depth = (int(rng.integers(*sides, endpoint=True)) for sides in self.sizes)
        affine = draw_affine((width, height, depth), rng, self)
        points = body_points((width, height, depth), affine)
        layers = self._layers(points, rng)
        image = np.full(points.shape[:3], rng.uniform(*AIR))
        paint(image, [(layer.distance, layer.value) for layer in layers], self.softness)
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        return acquire(image, points, spacing, rng, self), self._label(layers), affine

    def _layers(self, points: np.ndarray, rng: np.random.Generator) -> list[Layer]:
        """Draw all structures in coordinates of the body."""
        bent = points + self.bend * np.stack([waves(points, 200, rng, 3) for _ in range(3)], axis=-1)
        bent = bent / rng.uniform(*self.body_size, size=3) + [0, 0, rng.uniform(-self.body_shift, self.body_shift)]
        wall = draw_wall(bent, rng)
        classes = {name: number for number, name in enumerate(self.class_names)}
        abdomen = Abdomen(bent, wall, self.jitter, classes, rng)
        return [
            *wall.layers,
            *abdomen.bowel(),
            *abdomen.stomach_and_spleen(),
            *abdomen.liver(),
            *abdomen.vessels(),
            *abdomen.oesophagus(),
            *abdomen.kidneys_and_adrenal_glands(),
        ]

    def _label(self, layers: list[Layer]) -> np.ndarray:
        """Return the class of each voxel; of each organ its largest part that nothing covers."""
        label = np.zeros(layers[0].distance.shape, dtype=np.uint8)
        for layer in layers:
            if layer.label is not None:
                label[layer.distance < 0] = layer.label
        for number in range(1, len(self.class_names)):
            organ = label == number
            label[organ & ~largest_component(organ)] = 0
        return label
