# SPDX-License-Identifier: Apache-2.0
"""Prediction with the disagreement of a method's own outputs as uncertainty, for the bundles that have one."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow

ROOT = Path(__file__).resolve().parents[2]
TINY = {"patch_size": [16, 16, 16], "spacing": [2.0, 2.0, 2.5], "network_def::base_channels": 2, "precision": "fp32"}


@pytest.mark.parametrize("bundle", ["dbisl", "ugpl"])
def test_disagreement_is_saved_beside_the_prediction(bundle, dataset, paths, tmp_path):
    configs, out = ROOT / "bundles" / bundle / "configs", tmp_path / "out"
    short = {"max_epochs": 1, "iterations_per_epoch": 1}
    options = {**paths, "uncertainty": "disagreement", "output_dir": str(out)}
    training = ConfigWorkflow(str(configs / "train.json"), workflow_type="train", **TINY, **short, **paths)
    prediction = ConfigWorkflow(str(configs / "inference.json"), workflow_type="infer", **TINY, **options)
    for flow in (training, prediction):
        flow.initialize()
        flow.run()
    image = next((dataset / "imagesTs").iterdir())
    name = image.name.removesuffix(".nii.gz")
    predicted = nibabel.load(out / f"{name}.nii.gz")
    disagreement = nibabel.load(out / f"{name}_uncertainty.nii.gz").get_fdata()
    assert set(np.unique(predicted.dataobj)) <= {0, 1}
    assert disagreement.shape == predicted.shape == nibabel.load(image).shape
    assert disagreement.min() >= 0 and 0 < disagreement.max() <= 1
