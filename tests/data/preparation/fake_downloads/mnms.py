# SPDX-License-Identifier: Apache-2.0
"""M&Ms: 4-D scans of six subjects, whose frames are those of the published splits, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .volumes import write_nifti

SHAPE = (20, 18, 6, 12)
AFFINE = np.array([[-1.25, 0, 0, 90], [0, 1.5, 0, -70], [0, 0, 9.0, 11], [0, 0, 0, 1]])
SHEARED = AFFINE + np.array([[0, 0.05, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
HEADER = ",External code,VendorName,Vendor,Centre,ED,ES,Age,Pathology,Sex,Height,Weight"
# The last one has no labels.
SUBJECTS = {
    "A0S9V9": ("Training/Labeled", "Siemens,A,1,0,9.0"),
    "A1E9Q1": ("Training/Labeled", "Siemens,A,1,0,9"),
    "A5D0G0": ("Validation", "Philips,B,2.0,0,10"),
    "D3K5Q2": ("Testing", "GE,C,4,11,0"),
    "A6B7Y4": ("Testing", "Canon,D,5,1,10"),
    "A2E3W4": ("Training/Unlabeled", "GE,C,4,0,0"),
}
NAMES = tuple(SUBJECTS)


def label(frame: int) -> np.ndarray:
    """Three structures at three places, the first at a height that tells the frame, in slices 1 to 4."""
    body = np.zeros(SHAPE[:3], np.uint8)
    body[7:9, 6 : 8 + frame % 3, 1:4] = 1
    body[9:12, 6:8, 1:5] = 2
    body[12, 10:12, 2 : 3 + frame % 2] = 3
    return body


def frames(code: str) -> list[int]:
    """Return the two frames that the table names for a subject."""
    return [int(float(text)) for text in SUBJECTS[code][1].split(",")[-2:]]


def write_subject(folder: Path, code: str, affine: np.ndarray = AFFINE) -> None:
    """Every voxel of an image is 100 t + x, so it tells its frame and its column."""
    image = np.zeros(SHAPE, np.int16) + np.arange(SHAPE[0], dtype=np.int16)[:, None, None, None]
    image += 100 * np.arange(SHAPE[3], dtype=np.int16)
    truth = np.zeros(SHAPE, np.uint8)
    if "Unlabeled" not in SUBJECTS[code][0]:
        for frame in frames(code):
            truth[..., frame] = label(frame)
    write_nifti(folder / f"{code}_sa.nii.gz", image, affine)
    write_nifti(folder / f"{code}_sa_gt.nii.gz", truth, affine)


def table(source: Path) -> Path:
    """Return where the table is."""
    return source / "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"


def download(source: Path, cases: Sequence[str] = NAMES) -> Path:
    """Write the subjects, one of them with axes that are not at right angles, and the table."""
    for code in cases:
        write_subject(source / SUBJECTS[code][0] / code, code, SHEARED if code == "A6B7Y4" else AFFINE)
    rows = [f"{number},{code},{SUBJECTS[code][1]},67,Other,M,," for number, code in enumerate(cases)]
    table(source).write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8-sig")
    return source
