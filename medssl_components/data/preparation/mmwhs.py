# SPDX-License-Identifier: Apache-2.0
"""MM-WHS 2017: the whole heart in CT and MR, from one modality to the other."""

from __future__ import annotations

from functools import partial

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from .data_set import GIVEN_ROI, DataSet, Form, ImportedCase, RawCase, Recipe
from .read_case import read_case

STRAY = 421
STRAY_CLASS = 5
LEFT_ATRIUM = 2
VALUES = {0: 0, 205: 1, 420: LEFT_ATRIUM, 500: 3, 820: 4, 550: 0, 600: 0, 850: 0, STRAY: STRAY_CLASS}
AXES = ("L", "P", "S")
DIRTY = "mr_train_1002"
DIRTY_FACES = np.s_[0:4, :, :], np.s_[:, -10:-1, :], np.s_[:, :, 0:4]
CASE = r"(?P<case>(ct|mr)_train_\d{4})"


def read_nifti(raw: RawCase, stray: int = LEFT_ATRIUM) -> ImportedCase:
    """Read `_image` and `_label`, with four structures as classes, and turn them to the axes L, P, S.

    The axes are permuted and flipped, never resampled. The label value 421, a slip for 420, is the class `stray`.
    The label of mr_train_1002 is cleared where it has stray voxels: in the planes of its grid that the published code
    clears, which are the first four along x and z, and the last ten but one along y.

    Raises:
        DataError: if a file cannot be read, or the label does not fit the image or has another value.
    """
    case = read_case(raw, VALUES)
    image, label, affine = turn(case.image, case.label, case.affine)
    warnings = list(case.warnings)
    if count := int((label == STRAY_CLASS).sum()):
        meaning = "the left atrium, 420" if stray == LEFT_ATRIUM else "background, as the published code does"
        warnings.append(f"{count} voxel(s) of its label have the value {STRAY}; taken as {meaning}")
        label[label == STRAY_CLASS] = stray
    if raw.name == DIRTY:
        before = int((label > 0).sum())
        for face in DIRTY_FACES:
            label[face] = 0
        warnings.append(f"{before - int((label > 0).sum())} stray voxel(s) of its label were cleared near three faces")
    modality = raw.name[:2]
    return ImportedCase(image, label, affine, tuple(warnings), {"modality": modality.upper()}, modality)


def turn(image: np.ndarray, label: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return image, label and affine with the axes that come closest to left, posterior and superior, in this order."""
    change = ornt_transform(io_orientation(affine), axcodes2ornt(AXES))
    turned = (np.ascontiguousarray(nibabel.apply_orientation(one, change)) for one in (image, label))
    return *turned, affine @ inv_ornt_aff(change, image.shape)


AD = (
    {
        "_target_": "medssl_components.data.preparation.CropToBoxd",
        "keys": ["image", "label"],
        "source_key": "label",
        "lower": 4,
        "upper": 3,
    },
    {"_target_": "ClipIntensityPercentilesd", "keys": "image", "lower": None, "upper": 98},
    {"_target_": "ThresholdIntensityd", "keys": "image", "threshold": 0.0, "above": True, "cval": 0.0},
    {"_target_": "NormalizeIntensityd", "keys": "image"},
    {
        "_target_": "medssl_components.data.preparation.ZoomToSized",
        "keys": ["image", "label"],
        "spatial_size": [144, 144, 144],
        "order": [0, 0],
    },
)
NOTES = (
    GIVEN_ROI,
    "the crop of unlabelled cases is made with their ground truth too",
    "every volume has 144 x 144 x 144 voxels, whatever their size; distances in voxels are those of this grid",
)

MMWHS = DataSet(
    name="mmwhs",
    title="MM-WHS 2017, whole heart in CT and MR",
    reference="X. Zhuang et al.: Evaluation of algorithms for multi-modality whole heart segmentation: an open-access "
    "grand challenge. Medical Image Analysis 58, 2019",
    channel_names=("CT or MR",),
    class_names=("background", "myocardium", "left_atrium", "left_ventricle", "ascending_aorta"),
    forms={
        "nifti": Form(
            patterns={"image": rf"{CASE}_image\.nii(\.gz)?", "label": rf"{CASE}_label\.nii(\.gz)?"},
            expected={"image": "{name}_image.nii.gz", "label": "{name}_label.nii.gz"},
            read=read_nifti,
            recipes={
                "ad": Recipe(
                    "As A&D, with label value 421 repaired: the box of the four classes with 4 voxels below and 3 "
                    "above, clipped to 0 and the 98th percentile of the crop, z-score of the crop, zoomed to "
                    "144 x 144 x 144",
                    AD,
                    NOTES,
                ),
                "ad_as_published": Recipe(
                    "As A&D, with label value 421 as background; else as the recipe ad",
                    AD,
                    NOTES,
                    partial(read_nifti, stray=0),
                ),
                "none": Recipe("The whole volumes, turned to the axes L, P, S, with the four classes"),
            },
        )
    },
    splits=("mmwhs_ad_mr2ct", "mmwhs_ad_ct2mr"),
    one_folder=True,
)
