# SPDX-License-Identifier: Apache-2.0
"""AMOS22: abdominal organs in CT and MR."""

from __future__ import annotations

from dataclasses import replace

from .data_set import DataSet, Form, ImportedCase, RawCase, Recipe
from .read_case import read_case
from .synapse import RESIZE, RESIZED, STORED_ORDER, WHOLE

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
    "postcava",
    "pancreas",
    "right_adrenal_gland",
    "left_adrenal_gland",
    "duodenum",
    "bladder",
    "prostate_or_uterus",
)
LAST_CT = 500


def read_nifti(raw: RawCase) -> ImportedCase:
    """Read image and label; numbers above 500 are MR."""
    case = read_case(raw, {number: number for number in range(len(CLASSES))})
    warnings = case.warnings
    if case.image.shape[2] > min(case.image.shape):
        shape = " x ".join(map(str, case.image.shape))
        warnings = (*warnings, f"its shape is {shape}: its slices are not along the last axis, and it stays so")
    modality = "MR" if int(raw.name.removeprefix("amos_")) > LAST_CT else "CT"
    return replace(case, warnings=warnings, details={"modality": modality})


AMOS = DataSet(
    name="amos",
    title="AMOS22, CT and MR",
    reference="Y. Ji et al.: AMOS: a large-scale abdominal multi-organ benchmark for versatile medical image "
    "segmentation. NeurIPS 2022, https://arxiv.org/abs/2206.08023",
    channel_names=("CT or MR",),
    class_names=CLASSES,
    forms={
        "nifti": Form(
            patterns={
                "image": r"images(Tr|Va)/(?P<case>amos_\d{4})\.nii(\.gz)?",
                "label": r"labels(Tr|Va)/(?P<case>amos_\d{4})\.nii(\.gz)?",
            },
            expected={
                "image": "imagesTr/{name}.nii.gz or imagesVa/{name}.nii.gz",
                "label": "labelsTr/{name}.nii.gz or labelsVa/{name}.nii.gz (older archives have no labelsVa: the "
                "published test cases cannot be scored with them)",
            },
            read=read_nifti,
            recipes={
                "resized": Recipe(
                    RESIZED,
                    (RESIZE,),
                    (STORED_ORDER, "bladder and prostate or uterus are not labelled in MR cases"),
                ),
                "none": Recipe(WHOLE),
            },
        )
    },
    splits=("amos22_skcdf",),
)
