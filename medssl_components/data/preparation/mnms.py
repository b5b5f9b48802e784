# SPDX-License-Identifier: Apache-2.0
"""M&Ms: cardiac cine MRI of four vendors, to be segmented at a vendor that no label was seen of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from ..errors import DataError, reason
from ..header import read_header
from .data_set import GIVEN_ROI, DataSet, Form, ImportedCase, RawCase, Recipe
from .mnms_table import FRAME, find_frames, read_table
from .read_case import TOLERANCE, map_labels

CLASSES = ("background", "left_ventricle", "myocardium", "right_ventricle")
SUBJECT = r"(?P<case>[A-Z0-9]{6})"


def read_frame(raw: RawCase) -> ImportedCase:
    """Read one labelled frame of `_sa` and `_sa_gt`; phase, vendor and centre are in the table.

    The two files belong together by their voxels, as the published code has it, whatever their headers say.

    Raises:
        DataError: if a file cannot be read, the shapes differ, or the frame is not there.
    """
    code, _, number = raw.name.rpartition(FRAME)
    frame, subject = int(number), read_table(raw.files["table"])[code]
    path = raw.files["label"]
    shapes = [_shape(file) for file in (raw.files["image"], path)]
    if shapes[0] != shapes[1]:
        raise DataError(f"{path}: has the shape {shapes[1]}, but its image has {shapes[0]}; copy both again")
    if frame >= shapes[0][3]:
        raise DataError(f"{raw.files['image']}: has {shapes[0][3]} frames, but the table names {frame}; copy it again")
    image, label = _read(raw.files["image"], np.s_[..., frame]), _read(path, np.s_[...])
    values = map_labels(label[..., frame], {value: value for value in range(len(CLASSES))}, path)
    affine = read_header(raw.files["image"]).affine
    warnings = _odd_frames(label, set(subject.phases.values()), path.name)
    warnings += _odd_grid(affine, read_header(path).affine, path.name)
    if np.count_nonzero(values.any(axis=(0, 1))) == 1:
        warnings.append("its label has one slice only")
    phase = next(phase for phase, number in subject.phases.items() if number == frame)
    details = {"subject": code, "phase": phase, "frame": frame, "vendor": subject.vendor, "centre": subject.centre}
    return ImportedCase(image, values, affine, tuple(warnings), details, subject.vendor)


def _shape(path: Path) -> tuple[int, ...]:
    header = read_header(path)
    if header.channels < 2:
        raise DataError(f"{path}: has the shape {header.shape}; a 4-D file with the frames last is expected")
    return (*header.shape, header.channels)


def _read(path: Path, part: Any) -> np.ndarray:
    """Return a part of the voxels, (X, Y, Z, T), scaled as the header says."""
    try:
        array = np.asarray(nibabel.load(path).dataobj[part])
    except Exception as error:  # of the operating system, nibabel or zlib
        raise DataError(f"{path}: cannot be read, it may be truncated ({reason(error)}); copy it again") from error
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{path}: {int((~np.isfinite(array)).sum())} voxel(s) are not finite; copy it again")
    return array


def _odd_frames(label: np.ndarray, named: set[int], name: str) -> list[str]:
    found = set(np.flatnonzero(label.any(axis=(0, 1, 2))).tolist())
    if found == named:
        return []
    there, wanted = (", ".join(map(str, sorted(frames))) or "none" for frames in (found, named))
    return [f"{name}: its labels are in the frames {there}, the table names {wanted}, which are taken"]


def _odd_grid(affine: np.ndarray, label_affine: np.ndarray, name: str) -> list[str]:
    lines = []
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    skew = np.abs(axes.T @ axes - np.eye(3)).max()
    if skew > TOLERANCE:
        lines.append(
            f"its axes are {np.degrees(np.arcsin(min(skew, 1.0))):.2g} degrees from right angles; they stay so"
        )
    difference = np.abs(label_affine - affine).max()
    if difference > TOLERANCE:
        lines.append(f"{name}: its grid is {difference:.3g} mm from the image's, whose grid it now has")
    return lines


MNMS = DataSet(
    name="mnms",
    title="M&Ms, multi-centre, multi-vendor and multi-disease cardiac MRI",
    reference="V. M. Campello et al.: Multi-centre, multi-vendor and multi-disease cardiac segmentation: the M&Ms "
    "challenge. IEEE Transactions on Medical Imaging 40, 2021, https://doi.org/10.1109/TMI.2021.3090082",
    channel_names=("cine MRI",),
    class_names=CLASSES,
    forms={
        "nifti": Form(
            patterns={"image": rf"{SUBJECT}_sa\.nii(\.gz)?", "label": rf"{SUBJECT}_sa_gt\.nii(\.gz)?"},
            expected={
                "image": "frame {name} of SUBJECT/SUBJECT_sa.nii.gz",
                "label": "frame {name} of SUBJECT/SUBJECT_sa_gt.nii.gz",
            },
            read=read_frame,
            find=find_frames,
            recipes={
                "ad": Recipe(
                    "As A&D: from the first to the last but one labelled slice, the middle two thirds of each slice, "
                    "zoomed to 144 x 144 x 32 voxels; intensities are scaled when training loads them",
                    (
                        {
                            "_target_": "medssl_components.data.preparation.CropShortAxisd",
                            "keys": ["image", "label"],
                            "fraction": 3,
                        },
                        {
                            "_target_": "medssl_components.data.preparation.ZoomToSized",
                            "keys": ["image", "label"],
                            "spatial_size": [144, 144, 32],
                            "order": [0, 0],
                        },
                        {
                            "_target_": "medssl_components.data.preparation.KeepStoredAxesd",
                            "keys": ["image", "label"],
                        },
                    ),
                    (
                        GIVEN_ROI,
                        "the axes are those of the stored slices and no longer directions of the body, which differ "
                        "from case to case",
                        "every volume has 144 x 144 x 32 voxels, whatever their size; distances in voxels are those of "
                        "this grid",
                    ),
                ),
                "none": Recipe("The whole labelled frames as published"),
            },
        )
    },
    splits=tuple(f"mnms_ad_to{vendor}_{share}p" for vendor in "ABCD" for share in (2, 5)),
    one_folder=True,
)
