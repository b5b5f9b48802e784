# SPDX-License-Identifier: Apache-2.0
"""The torso around the abdominal organs: wall, ribs, spine, muscles, lungs and heart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .layer import Layer
from .shapes import ellipsoid, tube, waves

AIR, LUNG, FAT, MUSCLE, BONE = (0.0, 0.03), (0.12, 0.3), (0.4, 0.75), (0.6, 0.85), (0.5, 0.9)


@dataclass(frozen=True)
class TorsoWall:
    """What surrounds the organs, in coordinates of the body: mm to the right, to the front and up from vertebra L1.

    Args:
        layers: from the back to the front, none of them labelled.
        cavity: distance to the inside of the wall, negative inside.
        diaphragm: height above the diaphragm, negative below.
        fat: intensity of the fat in the cavity.
        muscle: intensity of the muscles.
    """

    layers: list[Layer]
    cavity: np.ndarray
    diaphragm: np.ndarray
    fat: float
    muscle: float


def draw_wall(points: np.ndarray, rng: np.random.Generator) -> TorsoWall:
    """Draw the torso.

    Args:
        points: the voxels' coordinates in the body, (W, H, D, 3) in mm.
        rng: source of everything random.
    """
    x, y, z = np.moveaxis(points, -1, 0)
    fat, muscle, bone = (rng.uniform(*values) for values in (FAT, MUSCLE, BONE))
    skin = 130 * ((np.abs(x / 158) ** 2.5 + np.abs(y / 112) ** 2.5) ** 0.4 - 1)
    under_fat = skin + rng.uniform(7, 20)
    cavity = under_fat + rng.uniform(9, 13)
    heights = [(75, rng.uniform(62, 76)), (-75, rng.uniform(52, 66))]
    dome = 10 + sum(height * np.exp(-(((x - side) / 75) ** 2) - ((y - 8) / 72) ** 2) for side, height in heights)
    diaphragm = z - dome - 3 * waves(points, 120, rng, 3)
    # Ribs run around the wall and fall towards the front; below the costal arch there is none in front.
    rib = np.maximum(np.abs((z + 0.45 * y) % 24 - 12) - 4, np.abs(under_fat + 5) - 4)
    rib = np.maximum(rib, 0.7 * (y - 25 - z - 25))
    ends = np.array([0.0, 0.0, 150.0])  # beyond any scan
    spine = np.array([0.0, -62.0, 0.0])
    body = tube(points, spine - ends, spine + [0, rng.uniform(0, 20), 0], spine + ends, rng.uniform(18, 21), 100)
    disc = np.maximum(body - 0.5, np.abs((z + rng.uniform(0, 36)) % 36 - 18) - 4)
    layers = [
        Layer(skin, fat * rng.uniform(0.9, 1.1)),
        Layer(under_fat, muscle),
        Layer(rib, bone),
        Layer(cavity, fat),
    ]
    for side in (-1, 1):
        beside = np.array([36.0 * side, -84.0, 0.0])
        back = tube(points, beside - ends, beside, beside + ends, rng.uniform(20, 24), 100)
        layers.append(Layer(np.maximum(back, under_fat), muscle))
        psoas = tube(points, spine + [22 * side, 2, 10], spine + [28 * side, 8, -40], spine + [46 * side, 20, -140], 15)
        layers.append(Layer(psoas, muscle))
    heart = ellipsoid(points, np.array([-22.0, 30.0, 104.0]), np.array([52.0, 42.0, 34.0]), 0.05, rng, reach=1.4)
    lungs = np.maximum.reduce([-diaphragm, cavity + 1, 24 - np.abs(x), 4 - heart])
    arch = tube(points, spine - ends - [0, 36, 0], spine - [0, 36, 0], spine + ends - [0, 36, 0], 10, 100)
    layers += [
        Layer(lungs, rng.uniform(*LUNG)),
        Layer(np.maximum(heart, -diaphragm), rng.uniform(1.1, 1.5)),
        Layer(body, bone),
        Layer(disc, bone * rng.uniform(0.7, 1.4)),
        Layer(arch, bone),
        Layer(arch + 4, rng.uniform(0.3, 1.3)),
    ]
    return TorsoWall(layers, cavity, diaphragm, fat, muscle)
