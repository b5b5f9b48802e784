# SPDX-License-Identifier: Apache-2.0
"""What only the bundle `dbisl` has: ablations, a second backbone, and the disagreement of its outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from medssl_components.networks import DualTaskDynUNet

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "dbisl" / "configs"
TINY = {"patch_size": [16, 16, 16], "spacing": [2.0, 2.0, 2.5], "network_def::base_channels": 2, "precision": "fp32"}
TASKS = {
    "segmentation_loss",
    "distance_loss",
    "s2r_supervised_loss",
    "r2s_supervised_loss",
    "segmentation_consistency_loss",
    "distance_consistency_loss",
    "s2r_consistency_loss",
    "r2s_consistency_loss",
    "pseudo_label_loss",
}
LEFT_OUT = {
    "without_regression": {name for name in TASKS if name.startswith(("distance", "s2r", "r2s"))},
    "without_pseudo_labels": {"pseudo_label_loss"},
    "without_cross_task_supervision": {"s2r_supervised_loss", "r2s_supervised_loss"},
    "without_consistency": {name for name in TASKS if "consistency" in name},
    "without_cross_task_consistency": {"s2r_consistency_loss", "r2s_consistency_loss"},
    "without_intra_task_consistency": {"segmentation_consistency_loss", "distance_consistency_loss"},
    "pseudo_labels_on_unlabeled": set(),
    "scale_0.3": set(),
    "scale_0.1": set(),
    "pre_generated_distances": set(),
    "s2r_only": {"r2s_supervised_loss", "r2s_consistency_loss"},
    "r2s_only": {"s2r_supervised_loss", "s2r_consistency_loss"},
    "labels_only": {name for name in TASKS if "consistency" in name or "pseudo" in name},
}
ABLATIONS = sorted({*LEFT_OUT, *(path.stem for path in (CONFIGS / "ablations").iterdir())})  # each is in both


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablation_leaves_out_its_parts(train, name):
    parts = set(train(f"ablations/{name}").parser.get_parsed_content("train::trainer").state.output[0])
    assert TASKS - parts == LEFT_OUT[name]


def test_pre_generated_distances_reach_the_method(train):
    batches = []
    flow = train("ablations/pre_generated_distances")
    method = flow.parser.get_parsed_content("method")
    method.register_forward_pre_hook(lambda module, inputs: batches.append(inputs))
    flow.parser.get_parsed_content("train::trainer").run()
    labeled, unlabeled, _ = batches[0]
    label, distance = labeled["label"][:, :1], labeled["label"][:, 1:]
    assert set(label.unique().tolist()) <= {0, 1}
    assert distance.shape == label.shape and -1 <= distance.min() < 0 < distance.max() <= 1
    assert list(unlabeled) == ["image"]


def test_dynunet_trains_in_the_place_of_the_vnet(train, tmp_path):
    options = {"network_def": {"_target_": "medssl_components.networks.DualTaskDynUNet", "strides": [2, 2]}}
    flow = train(**options)
    assert isinstance(flow.parser.get_parsed_content("train::trainer").network, DualTaskDynUNet)
    assert (tmp_path / "models" / "model.pt").is_file()


def test_settings_name_the_method_numbers_of_the_paper():
    config = json.loads((CONFIGS / "train.json").read_text())
    method = config["method"]
    weights = ["supervised_weight", "distance_weight", "consistency_weight", "consistency_rise", "pseudo_label_weight"]
    for name in ("la", "pancreas_ct", "brats2019"):  # shorter trainings have other weights
        overlay = json.loads((CONFIGS / "datasets" / f"{name}.json").read_text())
        assert [overlay[key] for key in weights] == [0.5, 1.0, 0.5, 0.0, 1.0], name
        assert overlay["pseudo_label_rise"] == pytest.approx(6000 / 17000, abs=1e-3)
    parser = ConfigParser({"distance_weight": 1.0, "weight": method["r2s_supervised_weight"]})
    assert parser.get_parsed_content("weight") == 1 / method["k"]
    assert (config["distance_transform"], config["distance_scale"]) == ("convolutional", 0.5)
    assert (method["signed_distance_map"]["kernel_size"], method["signed_distance_map"]["h"]) == (3, 0.35)
