# SPDX-License-Identifier: Apache-2.0
"""Synapse: the abdomen of the MICCAI 2015 challenge Beyond the Cranial Vault (BTCV)."""

from __future__ import annotations

from dataclasses import replace

from .data_set import DataSet, Form, ImportedCase, RawCase, Recipe
from .read_case import read_case

CLASSES = (
    "background",
    "spleen",
    "right_kidney",
    "left_kidney",
    "gallbladder",
    "oesophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior_vena_cava",
    "portal_and_splenic_vein",
    "pancreas",
    "right_adrenal_gland",
    "left_adrenal_gland",
)
ADRENAL_GLANDS = (12, 13)
OTHER_LABELS = (
    "; labels of other publications, such as Zenodo record 1169361, number the organs in another way: take those of "
    "RawData/Training/label"
)
RESIZE = {
    "_target_": "Resized",
    "keys": ["image", "label"],
    "spatial_size": [160, 160, 80],
    "mode": ["trilinear", "nearest"],
}
STORED_ORDER = (
    "the axes are as stored and the spacing is ignored, as published; distances in voxels are those of this grid"
)
RESIZED = (
    "As SKCDF and A&D: every volume resized to 160 x 160 x 80 voxels; the window is applied when training loads it"
)
WHOLE = "The whole volumes as published"


def read_nifti(raw: RawCase) -> ImportedCase:
    """Read `img####` and `label####`; a case without an adrenal gland is remarked upon."""
    case = read_case(raw, {number: number for number in range(len(CLASSES))}, hint=OTHER_LABELS)
    absent = [CLASSES[number] for number in ADRENAL_GLANDS if not (case.label == number).any()]
    if absent:
        text = f"its label has no {' and no '.join(absent)}: make sure that it is that of RawData/Training/label"
        return replace(case, warnings=(*case.warnings, text))
    return case


SYNAPSE = DataSet(
    name="synapse",
    title="Synapse multi-atlas abdomen (BTCV)",
    reference="B. Landman et al.: MICCAI multi-atlas labeling beyond the cranial vault, workshop and challenge, 2015, "
    "https://doi.org/10.7303/syn3193805",
    channel_names=("CT",),
    class_names=CLASSES,
    forms={
        "nifti": Form(
            patterns={"image": r"img(?P<case>\d{4})\.nii(\.gz)?", "label": r"label(?P<case>\d{4})\.nii(\.gz)?"},
            expected={"image": "img/img{name}.nii.gz", "label": "label/label{name}.nii.gz"},
            read=read_nifti,
            recipes={"resized": Recipe(RESIZED, (RESIZE,), (STORED_ORDER,)), "none": Recipe(WHOLE)},
            strangers={
                r"(^|/)DET\d+[^/]*\.nii(\.gz)?$": "is of the averaged training images, other data than the scans "
                "img0001 and so on; download Abdomen/RawData.zip"
            },
        )
    },
    splits=("synapse_skcdf", "synapse_ad", "synapse_dhc_2023"),
)
