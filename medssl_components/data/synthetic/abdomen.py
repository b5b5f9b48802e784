# SPDX-License-Identifier: Apache-2.0
"""The organs of the upper abdomen, labelled ones and others that look like them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .layer import Layer
from .shapes import ellipsoid, tube, union, waves
from .torso_wall import TorsoWall


class Abdomen:
    """Draws organs into a torso, in its coordinates: mm to the right, to the front and up from vertebra L1.

    Each method returns layers from the back to the front. The intensities of soft organs overlap from case to case, and
    so do those of the vessels; what tells them apart is place and shape.

    Args:
        points: the voxels' coordinates, (W, H, D, 3).
        wall: the torso.
        jitter: standard deviation of each organ's place.
        classes: the number of each labelled organ.
        rng: source of everything random.
    """

    def __init__(
        self, points: np.ndarray, wall: TorsoWall, jitter: float, classes: dict[str, int], rng: np.random.Generator
    ) -> None:
        self.points, self.wall, self.jitter, self.classes, self.rng = points, wall, jitter, classes, rng

    def bowel(self) -> list[Layer]:
        """Draw loops below the liver and the stomach."""
        _, y, z = np.moveaxis(self.points, -1, 0)
        region = np.maximum.reduce([self.wall.cavity + 4, z + 18 - 0.3 * y, -12 - y])
        loops = [waves(self.points, 52, self.rng, 6) for _ in range(2)]
        return [Layer(np.maximum(region, 9 * (0.3 - loop)), self.rng.uniform(0.6, 1.4)) for loop in loops]

    def liver(self) -> list[Layer]:
        """Draw the liver, cut off below along a slope, and the gall bladder below it."""
        x, _, z = np.moveaxis(self.points, -1, 0)
        lower = 0.87 * (self._draw(-30, -8) - 0.55 * (x - 40) - z)
        right = np.maximum(self._ellipsoid((70, 2, 22), (80, 90, 82)), lower)
        left = self._ellipsoid((-8, 58, 36), (self._draw(52, 78), 34, 28), turn=(0, -0.3, 0.25))
        whole = union(right, np.maximum(left, lower - 14), 5)
        spine = tube(self.points, *np.array([[-4.0, -58, -150], [-4, -54, 0], [-4, -58, 150]]), 50)
        whole = np.maximum.reduce([whole, 6 - spine, self._inside(2)])
        bladder = self._ellipsoid((44, 52, -22), (13, 15, 26), turn=(0.5, 0, 0))
        return [
            Layer(whole, self._draw(1.05, 1.4), self.classes["liver"]),
            Layer(bladder, self._draw(0.4, 1.5)),
        ]

    def stomach_and_spleen(self) -> list[Layer]:
        """Draw the stomach with its content, which nobody labels, and the spleen behind it."""
        upper = self._ellipsoid((-58, 22, 34), (34, 36, 40))
        lower = self._ellipsoid((-28, 50, 0), (46, 22, 26), turn=(0, 0.5, 0))
        wall = np.maximum(union(upper, lower, 6), self._inside(3))
        spleen = np.maximum(self._ellipsoid((-104, -36, 30), (30, 46, 52), turn=(0.3, 0, 0.5)), self._inside(2))
        return [
            Layer(wall, self._draw(0.85, 1.15)),
            Layer(wall + 6, self._draw(0.35, 1.25)),
            Layer(spleen - 2.5, self.wall.fat),
            Layer(spleen, self._draw(1.05, 1.5), self.classes["spleen"]),
        ]

    def vessels(self) -> list[Layer]:
        """Draw the pancreas, the inferior vena cava and the aorta behind it."""
        start, middle, end = (self._place(place) for place in ((38, 14, -20), (2, 34, 4), (-72, -8, 22)))
        pancreas = tube(self.points, start, middle, end, self._draw(9, 12))
        blood = self._draw(1.3, 1.7)
        cava = tube(self.points, *self._along(20, -26, 5), self._draw(9, 12), 100)
        aorta = tube(self.points, *self._along(-11, -31, 4), self._draw(8.5, 12), 100)
        return [
            Layer(pancreas, self._draw(0.95, 1.35)),
            Layer(cava - 1.5, self.wall.fat, None),
            Layer(cava, blood * self._draw(0.85, 1.05)),
            Layer(aorta - 1.5, self.wall.fat),
            Layer(aorta, blood, self.classes["aorta"]),
        ]

    def oesophagus(self) -> list[Layer]:
        """Draw the oesophagus, which comes down in front of the aorta and bends left into the stomach."""
        start, middle, end = (self._place(place, 0.5) for place in ((2, -14, 130), (-2, -8, 62), (-36, 10, 46)))
        organ = tube(self.points, start, middle, end, self._draw(6.5, 8.5))
        return [
            Layer(organ - 2, self.wall.fat),
            Layer(organ, self._draw(0.85, 1.15), self.classes["oesophagus"]),
        ]

    def kidneys_and_adrenal_glands(self) -> list[Layer]:
        """Draw both kidneys in their fat, the left one higher, and on each an adrenal gland of two limbs."""
        value, layers = self._draw(1.15, 1.6), []
        inner, gland = value * self._draw(0.75, 0.95), self._draw(1.0, 1.45)
        for side, name in ((1, "right"), (-1, "left")):
            centre = self._place((58 * side, -44, -22 if side > 0 else -8))
            kidney = self._ellipsoid(centre, (27, 25, 53), turn=(-0.15, -0.22 * side, 0), turn_spread=0.08, jitter=0)
            sinus = self._ellipsoid(centre - [22 * side, -8, 0], (16, 11, 20), turn_spread=0.1, jitter=0)
            shell = np.maximum(kidney - self._draw(3, 7), self._inside(1))
            body = np.maximum.reduce([kidney, -sinus, self._inside(4)])
            apex = centre + [-26 * side, self._draw(12, 18), self._draw(46, 54) if side > 0 else self._draw(34, 42)]
            limbs = [apex + np.array([tip[0] * side, tip[1], tip[2]]) for tip in ((-1, -24, -3), (14, -21, -9))]
            bends = [(apex + limb) / 2 + self.rng.normal(0, 2, size=3) for limb in limbs]
            radius = self._draw(4.0, 4.8)
            organ = union(*(tube(self.points, apex, *way, radius) for way in zip(bends, limbs, strict=True)))
            layers += [
                Layer(shell, self.wall.fat),
                Layer(body, value, self.classes[f"{name}_kidney"]),
                Layer(np.maximum(body + 8, 2 - sinus), inner, None),
                Layer(organ - 3, self.wall.fat),
                Layer(organ, gland, self.classes[f"{name}_adrenal_gland"]),
            ]
        return layers

    def _draw(self, low: float, high: float) -> float:
        return self.rng.uniform(low, high)

    def _place(self, place: Sequence[float] | np.ndarray, share: float = 1.0) -> np.ndarray:
        return np.array(place, dtype=float) + self.rng.normal(0, share * self.jitter, size=3)

    def _along(self, x: float, y: float, spread: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return three points of a way along the body, longer than any scan."""
        x, y = self.rng.normal((x, y), 2)
        bend = self.rng.normal(0, spread, size=2)
        return np.array([x, y, -150]), np.array([x + bend[0], y + bend[1], 0]), np.array([x, y, 150])

    def _ellipsoid(
        self,
        centre: Sequence[float] | np.ndarray,
        radii: Sequence[float],
        turn: Sequence[float] = (0.0, 0.0, 0.0),
        turn_spread: float = 0.12,
        jitter: float = 1.0,
    ) -> np.ndarray:
        size = np.array(radii) * self.rng.uniform(0.88, 1.12, size=3)
        return ellipsoid(self.points, self._place(centre, jitter), size, 0.06, self.rng, turn, turn_spread, reach=1.5)

    def _inside(self, margin: float) -> np.ndarray:
        """Return the distance to what lies within wall and diaphragm."""
        return np.maximum(self.wall.cavity, self.wall.diaphragm) + margin
