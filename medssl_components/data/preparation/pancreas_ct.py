# SPDX-License-Identifier: Apache-2.0
"""Pancreas-CT of The Cancer Imaging Archive (TCIA): DICOM series with NIfTI labels."""

from __future__ import annotations

from functools import partial

import nibabel
import numpy as np

from .data_set import GIVEN_ROI, DataSet, Form, ImportedCase, RawCase, Recipe
from .find_series import find_series
from .label_place import check_place
from .read_case import TOLERANCE, check_shapes, map_labels, read_volume
from .read_series import read_series

SOFT_TISSUE = (-50.0, 200.0)  # HU
LITTLE = 0.5
RESAMPLE = {
    "_target_": "medssl_components.data.preparation.ResampleToSpacingd",
    "keys": ["image", "label"],
    "spacing": [1.0, 1.0, 1.0],
    "order": [3, 0],
}
WINDOW = {
    "_target_": "ScaleIntensityRanged",
    "keys": "image",
    "a_min": -125.0,
    "a_max": 275.0,
    "b_min": 0.0,
    "b_max": 1.0,
    "clip": True,
}


def read_ct(raw: RawCase) -> ImportedCase:
    """Read a DICOM series, or a NIfTI file that was made of one, and its label.

    Slice k of a label is slice k of the series by InstanceNumber, whatever the two headers say. The label of a NIfTI
    image is turned to the image's axes by the headers.

    Raises:
        DataError: if a file cannot be read, the shapes differ, or a flipped label would fit the image better.
    """
    path, source = raw.files["label"], raw.files["image"]
    values, header = read_volume(path)
    warnings = []
    if source.is_dir():
        image, affine = read_series(source)
        warnings += _odd_header(header.affine, affine, path.name)
    else:
        image, image_header = read_volume(source)
        affine = image_header.affine
        values = _turn(values, header.affine, affine)
    check_shapes(image, values, raw)
    label = map_labels(values, {0: 0, 1: 1}, path)
    share = check_place(image, label, path, *SOFT_TISSUE)
    if share is None:
        return ImportedCase(image, label, affine, tuple(warnings))
    if share < LITTLE:
        warnings.append(f"{path.name}: only {share:.0%} of its voxels lie on soft tissue; look at it before use")
    return ImportedCase(image, label, affine, tuple(warnings), {"label_on_soft_tissue": round(share, 4)})


def _turn(values: np.ndarray, affine: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the array with its axes permuted and flipped to point where those of another affine do."""
    here, there = (nibabel.io_orientation(one) for one in (affine, target))
    return nibabel.apply_orientation(values, nibabel.orientations.ornt_transform(here, there))


def _odd_header(affine: np.ndarray, target: np.ndarray, name: str) -> list[str]:
    """Say where a label's header differs from the grid of the series, which the label gets."""
    lines = []
    axes, usual = ("".join(nibabel.aff2axcodes(one)) for one in (affine, target))
    if axes != usual:
        lines.append(
            f"{name}: its header says that its axes are {axes}, those of the series are {usual}, which it has now"
        )
    sides, right = (np.linalg.norm(one[:3, :3], axis=0) for one in (affine, target))
    if np.abs(sides - right).max() > TOLERANCE:
        before, after = (" x ".join(f"{side:.4g}" for side in one) for one in (sides, right))
        lines.append(f"{name}: its header says {before} mm, the series {after} mm, which it has now")
    return lines


def _crop(axes: list[int]) -> dict[str, object]:
    return {
        "_target_": "medssl_components.data.preparation.CropAroundLabeld",
        "keys": ["image", "label"],
        "spatial_axes": axes,
        "min_size": [96] * len(axes),
        "margin": [25, 25],
    }


PANCREAS_CT = DataSet(
    name="pancreas_ct",
    title="Pancreas-CT, TCIA",
    reference="H. Roth et al.: Data from Pancreas-CT. The Cancer Imaging Archive, 2016, "
    "https://doi.org/10.7937/K9/TCIA.2016.tNB1kqBU",
    channel_names=("CT",),
    class_names=("background", "pancreas"),
    forms={
        "dicom": Form(
            patterns={
                "image": r"PANCREAS_(?P<case>\d{4})\.nii(\.gz)?",
                "label": r"label(?P<case>\d{4})\.nii(\.gz)?",
            },
            expected={
                "image": "{name}/STUDY/SERIES/*.dcm or {name}.nii.gz",
                "label": "label with the number of {name}, such as label0001.nii.gz",
            },
            read=read_ct,
            find=partial(find_series, prefix="PANCREAS_"),
            recipes={
                "mcnet": Recipe(
                    "As MC-Net: 1 mm voxels, the window -125 .. 275 HU, a crop in x and y around the pancreas with 25 "
                    "voxels on each side and 96 at least between them, z-score of the crop; all slices stay",
                    (RESAMPLE, WINDOW, _crop([0, 1]), {"_target_": "NormalizeIntensityd", "keys": "image"}),
                    (GIVEN_ROI,),
                ),
                "coranet": Recipe(
                    "As CoraNet: 1 mm voxels, the window -125 .. 275 HU scaled to 0 .. 1, a crop in x, y and z around "
                    "the pancreas with 25 voxels on each side and 96 at least between them",
                    (RESAMPLE, WINDOW, {"_target_": "ScaleIntensityd", "keys": "image"}, _crop([0, 1, 2])),
                    (
                        GIVEN_ROI,
                        "slices are 1 mm apart; the published code takes the voxel size in the plane for their "
                        "distance, which makes the volumes shorter along z",
                    ),
                ),
                "none": Recipe("The whole scans in Hounsfield units as published, the label on the scan's grid"),
            },
        )
    },
    splits=(
        "pancreas_mcnet",
        "pancreas_mcf_fold0",
        "pancreas_mcf_fold1",
        "pancreas_mcf_fold2",
        "pancreas_mcf_fold3",
        "pancreas_coranet80",
    ),
)
