# SPDX-License-Identifier: Apache-2.0
"""The left atrium as NRRD files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .volumes import corner, write_nrrd

SHAPE = (40, 36, 12)


def la_names(number: int) -> list[str]:
    """Make up names of as many characters as those of the challenge have."""
    return [f"{index:02d}ABCDEFGHIJKLMNOPQR" for index in range(1, number + 1)]


def la_label(number: int) -> np.ndarray:
    """Draw a body and one voxel whose place tells the cases 0 to 71 apart."""
    label = corner(SHAPE)
    label[0, number // 12, number % 12] = 1
    return label


def la_case(folder: Path, number: int, **options: object) -> Path:
    """Write one case as the challenge has it; every case has a body and a brightness of its own."""
    label = la_label(number) * 255
    image = np.random.default_rng(number).integers(0, 200, SHAPE) + np.arange(SHAPE[0])[:, None, None]
    write_nrrd(folder / "lgemri.nrrd", image, **options)
    write_nrrd(folder / "laendo.nrrd", label, **options)
    write_nrrd(folder / "lawall.nrrd", 255 - label)
    return folder


def download(source: Path, cases: Sequence[str]) -> Path:
    """Write the cases, the second one compressed, and what is beside them."""
    for number, name in enumerate(cases, start=1):
        la_case(source / "Training Set" / name, number, encoding="gzip" if number == 2 else "raw")
    (source / "Training Set" / cases[0] / "desktop.ini").write_text("[ViewState]")
    (source / "Unet.py").write_text("pass")
    return source
