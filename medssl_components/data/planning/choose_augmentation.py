# SPDX-License-Identifier: Apache-2.0
"""How patches are changed at random."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

SIDES = ({"left", "right"}, {"l", "r"})


class Augmentation(NamedTuple):
    """The block of `transforms` and in words what it does and `why`."""

    transforms: dict[str, Any]
    why: str


def choose_augmentation(
    class_names: Sequence[str], spacing: Sequence[float], patch_size: Sequence[int], tolerance: float = 0.01
) -> Augmentation:
    """Choose flips and rotations by 90 degrees, the augmentation of the literature that the bundles come from.

    One object: all symmetries of the square about the z axis, where the patch is a square there, else flips along x and
    y, as for the left atrium and BraTS. Several objects, whose places tell them apart: a flip along x, from left to
    right; none if two classes differ in the side alone, as a left kidney becomes a right one.

    nnU-Net has more: rotations, scaling, noise, blur, contrast, gamma, low resolution, and flips along all axes
    whatever the classes. With the overlay's `augmentation` any transforms of MONAI can take the place of these.

    Args:
        class_names: names of the classes, the background first.
        spacing: voxel size in mm.
        patch_size: sides of the patch in voxels.
        tolerance: relative difference of two voxel sides that counts as none.
    """
    pair = _mirrored(class_names)
    if pair:
        return Augmentation(_compose([]), f"none: a flip would make {pair[0]} out of {pair[1]}")
    if len(class_names) > 2:
        return Augmentation(_compose([_flip(0)]), "a flip along x, as the objects' places tell them apart")
    if patch_size[0] == patch_size[1] and np.isclose(spacing[0], spacing[1], rtol=tolerance):
        rotation = {"prob": 0.75, "max_k": 3, "spatial_axes": [0, 1], "allow_missing_keys": True}
        rotation = {"_target_": "RandRotate90d", "keys": ["image", "label"], **rotation}
        return Augmentation(_compose([rotation, _flip(0)]), "flips and rotations by 90 degrees about z: one object")
    return Augmentation(_compose([_flip(0), _flip(1)]), "flips along x and y: one object, and no square patch")


def _mirrored(names: Sequence[str]) -> tuple[str, str] | None:
    words = {name: re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name) for name in names}
    words = {name: [word.lower() for word in found] for name, found in words.items()}
    for name, own in words.items():
        for other, theirs in words.items():
            differing = [{a, b} for a, b in zip(own, theirs, strict=False) if a != b]
            if len(own) == len(theirs) and len(differing) == 1 and differing[0] in SIDES:
                return name, other
    return None


def _compose(transforms: list[dict[str, Any]]) -> dict[str, Any]:
    return {"_target_": "Compose", "transforms": transforms}


def _flip(axis: int) -> dict[str, Any]:
    flip = {"_target_": "RandFlipd", "keys": ["image", "label"], "prob": 0.5, "spatial_axis": axis}
    return {**flip, "allow_missing_keys": True}
