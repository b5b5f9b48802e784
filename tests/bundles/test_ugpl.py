# SPDX-License-Identifier: Apache-2.0
"""What only the bundle `ugpl` has: ablations, and the disagreement of its two networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "ugpl" / "configs"
TINY = {"patch_size": [16, 16, 16], "spacing": [2.0, 2.0, 2.5], "network_def::base_channels": 2, "precision": "fp32"}
CROSS_CONSISTENCY = {"cross_pseudo_loss", "entropy_filtered_loss"}
OF_UNLABELED = {*CROSS_CONSISTENCY, "uncertainty_loss", "prototype_loss"}
PARTS = {"supervised_loss", "consistency_loss", *OF_UNLABELED}
LEFT_OUT = {
    "cross_pseudo_only": PARTS - {"supervised_loss", "cross_pseudo_loss"},
    "entropy_filtered_only": PARTS - {"supervised_loss", "entropy_filtered_loss"},
    "cross_consistency_only": PARTS - {"supervised_loss", *CROSS_CONSISTENCY},
    "without_cross_consistency": CROSS_CONSISTENCY,
    "without_consistency_regularisation": {"consistency_loss"},
    "without_prototypes": {"prototype_loss"},
    "without_uncertainty": {"uncertainty_loss"},
    "without_prototype_distance": set(),
    "pull_prototypes": set(),
    "percentile_per_class": set(),
    "ignore_rule_and": set(),
    "labels_only": OF_UNLABELED,
}
ABLATIONS = sorted({*LEFT_OUT, *(path.stem for path in (CONFIGS / "ablations").iterdir())})  # each is in both
CHOICES = {"prototype_term": "push", "percentile_per_class": False, "ignore_rule": "or"}
CHOSEN = {
    "without_prototype_distance": {"prototype_term": "off"},
    "pull_prototypes": {"prototype_term": "pull"},
    "percentile_per_class": {"percentile_per_class": True},
    "ignore_rule_and": {"ignore_rule": "and"},
}


def load(name):
    return json.loads((CONFIGS / f"{name}.json").read_text())


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablation_leaves_out_or_changes_its_parts(train, name):
    flow = train(f"ablations/{name}")
    parts = set(flow.parser.get_parsed_content("train::trainer").state.output[0])
    assert PARTS - parts == LEFT_OUT[name]
    method = flow.parser.get_parsed_content("method")
    assert {key: getattr(method, key) for key in CHOICES} == {**CHOICES, **CHOSEN.get(name, {})}


def test_labels_only_takes_four_labelled_patches_and_no_others(train):
    batches = []
    flow = train("ablations/labels_only")
    method = flow.parser.get_parsed_content("method")
    method.register_forward_pre_hook(lambda module, inputs: batches.append(inputs))
    flow.parser.get_parsed_content("train::trainer").run()
    labeled, unlabeled, _ = batches[0]
    assert len(labeled["image"]) == 4 and unlabeled is None


def test_settings_name_the_method_numbers_of_the_paper():
    config = load("train")
    method = config["method"]
    assert (method["sure"], method["temperature"], config["prototype_weight"]) == (0.6, 0.5, 0.1)
    assert {method[f"{term}_weight"] for term in ("cross_pseudo", "entropy_filtered", "uncertainty")} == {1}
    assert (config["pseudo_supervision_weight"], method["pseudo_supervision_weight"]["length"]) == (1, 0)
    assert (method["prototype_weight"]["length"], method["prototype_weight"]["steepness"]) == (1, 5)
    assert {key: method[key] for key in CHOICES} == CHOICES


@pytest.mark.parametrize(
    ("name", "alpha", "gamma"), [("la", 0.5, 70), ("pancreas_ct", 0.6, 80), ("brats2019", 0.5, 30)]
)
def test_overlays_of_the_paper_state_its_numbers(name, alpha, gamma):
    overlay = load(f"datasets/{name}")
    assert (overlay["consistency_weight"], overlay["entropy_percentile"]) == (alpha, gamma)
    assert (overlay["pseudo_supervision_weight"], overlay["prototype_weight"]) == (1, 0.1)
