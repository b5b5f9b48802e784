# SPDX-License-Identifier: Apache-2.0
"""BraTS 2019: the whole tumour in FLAIR scans."""

from __future__ import annotations

from .data_set import DataSet, Form, ImportedCase, RawCase, Recipe
from .read_case import read_case

WHOLE_TUMOUR = {0: 0, 1: 1, 2: 1, 4: 1}
CASE = r"(?P<case>BraTS19_\w+_1)"


def read_nifti(raw: RawCase) -> ImportedCase:
    """Read `_flair` and `_seg`; necrosis 1, oedema 2 and enhancing tumour 4 are the whole tumour."""
    return read_case(raw, WHOLE_TUMOUR)


BRATS2019 = DataSet(
    name="brats2019",
    title="BraTS 2019, whole tumour from FLAIR",
    reference="B. H. Menze et al.: The multimodal brain tumor image segmentation benchmark (BRATS). IEEE Transactions "
    "on Medical Imaging 34, 2015; S. Bakas et al.: Advancing The Cancer Genome Atlas glioma MRI collections with "
    "expert segmentation labels and radiomic features. Scientific Data 4, 2017",
    channel_names=("FLAIR",),
    class_names=("background", "whole_tumour"),
    forms={
        "nifti": Form(
            patterns={"image": rf"{CASE}_flair\.nii(\.gz)?", "label": rf"{CASE}_seg\.nii(\.gz)?"},
            expected={"image": "{name}/{name}_flair.nii.gz", "label": "{name}/{name}_seg.nii.gz"},
            read=read_nifti,
            recipes={
                "ssl4mis": Recipe(
                    "As SSL4MIS: the box of the brain without its last planes, the brightest 0.1 % clipped, z-score by "
                    "the voxels of the brain",
                    (
                        {
                            "_target_": "medssl_components.data.preparation.CropToBoxd",
                            "keys": ["image", "label"],
                            "source_key": "image",
                            "lower": 0,
                            "upper": -1,
                        },
                        {"_target_": "ClipIntensityPercentilesd", "keys": "image", "lower": None, "upper": 99.9},
                        {"_target_": "medssl_components.data.preparation.NormalizeAboveMinimumd", "keys": "image"},
                    ),
                ),
                "none": Recipe("The whole volumes as published, with the whole tumour as class 1"),
            },
        )
    },
    splits=("brats2019_ssl4mis",),
)
