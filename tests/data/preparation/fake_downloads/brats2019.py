# SPDX-License-Identifier: Apache-2.0
"""BraTS 2019: in one folder and in nested ones, compressed and not, with labels as integers and not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .volumes import write_nifti

SHAPE = (24, 22, 20)
AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
NAMES = ("BraTS19_CBICA_AAB_1", "BraTS19_2013_8_1", "BraTS19_TCIA02_370_1", "BraTS19_TMC_06643_1")
BRAIN = (slice(3, 20), slice(5, 19), slice(2, 17))
NO_BRAIN = (slice(3, 8), slice(5, 9), slice(2, 4))  # a corner of its box


def scan(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A brain off the centre with one hot voxel, and the three tumour values in three different places."""
    image = np.zeros(SHAPE, np.int16)
    image[BRAIN] = np.random.default_rng(number).integers(100, 200, image[BRAIN].shape)
    image[NO_BRAIN] = 0
    image[10, 10, 10] = 5000
    label = np.zeros(SHAPE, np.uint8)
    label[6:9, 7:9, 5] = 1
    label[6, 7:12, 5:9] = 2
    label[5, 6 + number % 12, 4 + number // 12] = 4
    return image, label


def download(source: Path, cases: Sequence[str] = NAMES) -> Path:
    """Write the cases; the first one lies in HGG and is not nested."""
    for number, name in enumerate(cases):
        folder = source / (source.name if number else "") / ("HGG", "HGG", "LGG", "LGG")[number % 4] / name
        suffix = ".nii" if number == 1 else ".nii.gz"
        image, label = scan(number)
        write_nifti(folder / f"{name}_flair{suffix}", image, AFFINE)
        write_nifti(folder / f"{name}_seg{suffix}", label.astype(np.float32 if number == 2 else np.uint8), AFFINE)
        for kind in ("t1", "t1ce", "t2"):
            write_nifti(folder / f"{name}_{kind}{suffix}", np.zeros(SHAPE, np.int16), AFFINE)
    (source / "name_mapping.csv").write_text("a,b")
    return source
