# SPDX-License-Identifier: Apache-2.0
"""Left atrium: the 2018 Atrial Segmentation Challenge, as NRRD files or as the cropped h5 files of UA-MT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import DataError, reason
from ..header import read_header
from .data_set import GIVEN_ROI, DataSet, Form, ImportedCase, RawCase, Recipe
from .read_case import check_shapes, map_labels, read_case

SPACING = 0.625
HEADER_SPACINGS = (1.0, SPACING)
CAVITY = 255


def read_nrrd(raw: RawCase) -> ImportedCase:
    """Read `lgemri.nrrd` and `laendo.nrrd`; voxels are 0.625 mm, whatever the header says, which is 1 as a rule."""
    case = read_case(raw, {0: 0, CAVITY: 1}, check_grid=False)
    spacing = read_header(raw.files["image"]).spacing
    warnings = ()
    if not any(np.allclose(spacing, known, atol=1e-3) for known in HEADER_SPACINGS):
        text = " x ".join(f"{side:g}" for side in spacing)
        warnings = (f"its header says {text} mm, where 1 mm is usual; it was taken to be {SPACING} mm",)
    return replace(case, affine=_grid(), warnings=warnings)


def read_h5(raw: RawCase) -> ImportedCase:
    """Read `mri_norm2.h5`: cropped and normalised as published, axes x, y, z.

    Raises:
        DataError: if the package h5py is not there, or the file is not such a file.
    """
    path = raw.files["label"]
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{path}: needs the package h5py; pip install h5py") from error
    try:
        with h5py.File(path) as file:
            image, values = file["image"][()], file["label"][()]
    except (OSError, KeyError, RuntimeError) as error:
        raise DataError(
            f"{path}: cannot be read as an h5 file with image and label ({reason(error)}); copy it again"
        ) from error
    check_shapes(image, values, raw)
    if image.ndim != 3 or not np.isfinite(image).all():
        raise DataError(f"{path}: its image is no 3-D volume of finite numbers; copy it again")
    return ImportedCase(image, map_labels(values, {0: 0, 1: 1}, Path(path)), _grid())


def _grid() -> np.ndarray:
    return np.diag([SPACING, SPACING, SPACING, 1.0])


LA = DataSet(
    name="la",
    title="Left atrium, 2018 Atrial Segmentation Challenge",
    reference="Z. Xiong et al.: A global benchmark of algorithms for segmenting the left atrium from late "
    "gadolinium-enhanced cardiac magnetic resonance imaging. Medical Image Analysis 67, 2021",
    channel_names=("LGE-MRI",),
    class_names=("background", "left_atrium"),
    forms={
        "nrrd": Form(
            patterns={"image": r"(?P<case>[^/]+)/lgemri\.nrrd", "label": r"(?P<case>[^/]+)/laendo\.nrrd"},
            expected={"image": "{name}/lgemri.nrrd", "label": "{name}/laendo.nrrd"},
            read=read_nrrd,
            recipes={
                "uamt": Recipe(
                    "As UA-MT: z-score of the whole volume, then a crop in x and y around the atrium with margins of "
                    "10 to 19 voxels drawn by the case's name; all slices stay",
                    (
                        {"_target_": "NormalizeIntensityd", "keys": "image"},
                        {
                            "_target_": "medssl_components.data.preparation.CropAroundLabeld",
                            "keys": ["image", "label"],
                            "spatial_axes": [0, 1],
                            "min_size": [112, 112],
                            "margin": [10, 19],
                        },
                    ),
                    (
                        GIVEN_ROI,
                        "the margins are not those of the published h5 files, which were drawn without a known seed",
                    ),
                ),
                "none": Recipe("The whole volumes as published, with 0.625 mm voxels and the label as class 1"),
            },
        ),
        "h5": Form(
            patterns={"image": r"(?P<case>[^/]+)/mri_norm2\.h5", "label": r"(?P<case>[^/]+)/mri_norm2\.h5"},
            expected={"image": "{name}/mri_norm2.h5", "label": "{name}/mri_norm2.h5"},
            read=read_h5,
            recipes={
                "published": Recipe(
                    "The volumes that UA-MT published: z-score of the whole volume, crop in x and y", notes=(GIVEN_ROI,)
                )
            },
        ),
    },
    splits=("la_uamt", "la_mcf_fold0", "la_mcf_fold1", "la_mcf_fold2", "la_mcf_fold3", "la_mcf_fold4"),
)
