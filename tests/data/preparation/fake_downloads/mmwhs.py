# SPDX-License-Identifier: Apache-2.0
"""MM-WHS 2017: CT with straight and MR with turned and oblique axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .volumes import write_nifti

SHAPE = (26, 24, 22)
CT = np.array([[-0.4, 0, 0, 90], [0, -0.5, 0, 70], [0, 0, 0.6, -11], [0, 0, 0, 1]])
# A little oblique; the columns point, roughly, to P, S and R.
MR = np.array([[0.02, 0.01, 1.1, -60], [-0.9, 0.03, 0.02, 80], [0.03, 1.3, -0.01, -30], [0, 0, 0, 1]])
NAMES = ("ct_train_1001", "ct_train_1003", "mr_train_1002", "mr_train_1007", "mr_train_1010")
STRAY = ((3, 10, 10), (9, 14, 10), (9, 22, 10), (9, 7, 3))
KEPT = ((4, 10, 10), (9, 13, 10), (9, 23, 10), (9, 7, 4))
VALUES = (205, 420, 500, 820, 550, 600, 850)


def heart(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Plates of all seven values along a diagonal, axes L, P, S; image values from below zero, the largest once."""
    label = np.zeros(SHAPE, np.int16)
    for number, value in enumerate(VALUES):
        label[6 + number, 6 + number % 3 : 9, 7 + number // 2 : 11] = value
    if name == "mr_train_1010":
        label[9, 7, 12] = 421
    if name == "mr_train_1002":
        label[tuple(np.transpose(STRAY + KEPT))] = 500
    image = np.random.default_rng(int(name[-4:])).integers(-200, 900, SHAPE).astype(np.int16)
    image[3, 5, 7] = 2000
    return image, label


def affine(name: str) -> np.ndarray:
    """Return the affine of a case's files."""
    return CT if name.startswith("ct") else MR


def stored(array: np.ndarray, name: str) -> np.ndarray:
    """The array as its file has it: a CT as it is, an MR with the axes P, S, R."""
    return array if name.startswith("ct") else array.transpose(1, 2, 0)[:, :, ::-1]


def download(source: Path, cases: Sequence[str] = NAMES) -> Path:
    """Write the cases, CT in two folders, and a scan of the challenge's test."""
    for name in cases:
        folder = source / {"ct_train_1001": "ct_train1", "ct_train_1003": "ct_train2"}.get(name, f"{name[:2]}_train")
        for kind, array in zip(("image", "label"), heart(name), strict=True):
            write_nifti(folder / f"{name}_{kind}.nii.gz", stored(array, name), affine(name))
    write_nifti(source / "ct_test" / "ct_test_2001_image.nii.gz", np.zeros(SHAPE, np.int16), CT)
    return source
