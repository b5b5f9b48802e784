# SPDX-License-Identifier: Apache-2.0
"""Scans that look like a left atrium beside a ventricle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .grid import body_points, draw_affine
from .recipe import Range, Recipe
from .scanner import acquire, paint
from .shapes import ellipsoid, largest_component, tube, union, waves


@dataclass(frozen=True)
class OneOrganRecipe(Recipe):
    """Numbers of the scans that look like a left atrium beside a ventricle in an MR scan, besides those of `Recipe`.

    Args:
        in_plane_size: voxels along the first two axes.
        through_plane_size: voxels along the third axis.
        organ_radii: ranges of the semi-axes of the organ, right-left, front-back and foot-head.
        organ_offset: half width of the range of the organ's centre about the middle of the volume.
        bumps: standard deviation of the organ's radius over the directions, as a fraction.
        veins: least and largest number of tubes that are attached to the organ.
        vein_radius: radius of the tubes.
        vein_length: length of the tubes beyond the organ's mean radius.
        distractor_scale: radius of the distractor over the mean radius of the organ.
        usual_side: probability that the distractor lies on its usual side.
        gap: distance between the surfaces of organ and distractor; below 0 the organ cuts into it.
        wall: thickness of the dark wall of the distractor; that of the organ has a third of it.
        contrast: intensity of the organ.
        distractor_contrast: intensity of the distractor over that of the organ.
    """

    class_names: tuple[str, ...] = ("background", "atrium")
    version: int = 2
    in_plane_size: tuple[int, int] = (56, 72)
    through_plane_size: tuple[int, int] = (40, 56)
    organ_radii: tuple[Range, Range, Range] = ((13.0, 21.0), (9.0, 16.0), (10.0, 18.0))
    organ_offset: float = 7.0
    bumps: float = 0.12
    veins: tuple[int, int] = (1, 3)
    vein_radius: Range = (3.2, 5.5)
    vein_length: Range = (6.0, 16.0)
    distractor_scale: Range = (0.7, 1.1)
    usual_side: float = 0.6
    gap: Range = (-1.0, 4.0)
    wall: Range = (2.5, 6.0)
    contrast: Range = (1.6, 2.4)
    distractor_contrast: Range = (0.9, 1.1)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw a case; see `Recipe.draw`."""
        shape = self._shape(rng)
        affine = draw_affine(shape, rng, self)
        points = body_points(shape, affine)
        structures = draw_structures(points, rng, self)
        image = _image(structures, points, np.linalg.norm(affine[:3, :3], axis=0), rng, self)
        return image, structures.label, affine

    def _shape(self, rng: np.random.Generator) -> tuple[int, int, int]:
        width, height = rng.integers(*self.in_plane_size, size=2, endpoint=True)
        depth = rng.integers(*self.through_plane_size, endpoint=True)
        return int(width), int(height), int(depth)


@dataclass(frozen=True)
class Structures:
    """Signed distances to the structures' surfaces (mm, about, negative inside), all of the volume's shape."""

    organ: np.ndarray
    distractor: np.ndarray
    vessel: np.ndarray
    spine: np.ndarray
    lungs: np.ndarray
    wall: float

    @property
    def label(self) -> np.ndarray:
        """The organ's voxels: its largest connected component."""
        return largest_component(self.organ < 0)

    @property
    def distractor_mask(self) -> np.ndarray:
        """The distractor's voxels, none of them the organ's."""
        return (self.distractor < 0) & ~self.label


def draw_structures(points: np.ndarray, rng: np.random.Generator, recipe: OneOrganRecipe) -> Structures:
    """Draw the structures of one case.

    Args:
        points: the voxels' coordinates, (W, H, D, 3) in mm.
        rng: source of everything random.
        recipe: ranges of the structures.
    """
    extent = np.abs(points[-1, -1, -1])
    centre = rng.uniform(-recipe.organ_offset, recipe.organ_offset, size=3)
    radii = np.array([rng.uniform(*radius) for radius in recipe.organ_radii])
    organ = ellipsoid(points, centre, radii, recipe.bumps, rng)
    for side in rng.permutation([-1, 1, rng.choice([-1, 1])])[: rng.integers(*recipe.veins, endpoint=True)]:
        # Veins leave the organ sideways and backwards and end inside the volume.
        direction = np.array([side, -0.6, 0.0]) + rng.normal(0, 0.4, size=3)
        direction /= np.linalg.norm(direction)
        radius = rng.uniform(*recipe.vein_radius)
        end = centre + direction * (radii + rng.uniform(*recipe.vein_length))
        limit = extent - radius - 4
        middle = (centre + end) / 2 + rng.normal(0, 3, size=3)
        vein = tube(points, centre, middle, np.clip(end, -limit, limit), radius)
        organ = union(organ, vein)  # rounded: the tube widens where it opens
    usual = np.array([0.7, 0.7, -0.3]) + rng.normal(0, 0.15, size=3)
    towards = usual if rng.random() < recipe.usual_side else rng.normal(size=3)
    towards /= np.linalg.norm(towards)
    other_radii = np.mean(radii) * rng.uniform(*recipe.distractor_scale) * rng.uniform(0.85, 1.15, size=3)
    reach = 1 / np.linalg.norm(towards / radii) + 1 / np.linalg.norm(towards / other_radii) + rng.uniform(*recipe.gap)
    wall = rng.uniform(*recipe.wall)
    distractor = ellipsoid(points, centre + reach * towards, other_radii, recipe.bumps / 2, rng)
    # The descending vessel and the spine run along the body behind the organ.
    axis = np.array([0.0, 0.0, 2 * extent[2]])
    beside = centre + [rng.uniform(8, 16), -radii[1] - rng.uniform(9, 14), 0]
    vessel = tube(points, beside - axis, beside + rng.normal(0, 4, size=3), beside + axis, rng.uniform(4, 7))
    back = np.array([rng.uniform(-5, 5), beside[1] - rng.uniform(12, 18), 0])
    spine = tube(points, back - axis, back, back + axis, rng.uniform(9, 12))
    spread = rng.uniform(27, 36)
    lungs = spread - np.abs(points[..., 0]) + 0.15 * points[..., 1] + 4 * waves(points, 60, rng)
    return Structures(organ, distractor, vessel, spine, lungs, wall)


def _image(
    structures: Structures, points: np.ndarray, spacing: np.ndarray, rng: np.random.Generator, recipe: OneOrganRecipe
) -> np.ndarray:
    """Draw the scan of the structures."""
    contrast = rng.uniform(*recipe.contrast)
    other = contrast * rng.uniform(*recipe.distractor_contrast)
    layers = [
        (structures.lungs, rng.uniform(0.15, 0.4)),
        (structures.spine + 2, rng.uniform(0.9, 1.5)),
        (structures.vessel, contrast * rng.uniform(0.8, 1.2)),
        (structures.distractor - structures.wall, rng.uniform(0.6, 0.95)),
        (structures.distractor, other),
        (structures.organ - structures.wall / 3, rng.uniform(0.6, 0.95)),
        (structures.organ, contrast),
    ]
    image = np.ones(structures.organ.shape)
    paint(image, layers)
    return acquire(image, points, spacing, rng, recipe)
