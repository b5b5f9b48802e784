# SPDX-License-Identifier: Apache-2.0
"""What only the bundle `dtlp` has: ablations, and the numbers of its paper."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import torch

from medssl_components.methods import DTLP

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "dtlp" / "configs"
TINY = {
    "patch_size": [16, 16, 16],
    "spacing": [2.0, 2.0, 2.5],
    "network_def::base_channels": 2,
    "network_def::time_hidden_channels": 8,
    "precision": "fp32",
}
DOMAINS = ("hippocampus_two_domains", "hippocampus_three_domains")
OF_UNLABELED = {"mix_loss", "masked_loss", "distillation_loss", "reconstruction_loss", "unlabeled_propagation_loss"}
PROPAGATION = {"propagation_loss", "unlabeled_propagation_loss"}
PARTS = {"denoising_loss", "difficulty_loss", "propagation_loss", *OF_UNLABELED}
LEFT_OUT = {
    "mix_only": {"masked_loss", "distillation_loss", "reconstruction_loss", *PROPAGATION},
    "mix_and_mask_only": {"distillation_loss", "reconstruction_loss", *PROPAGATION},
    "mix_mask_and_distillation_only": {"reconstruction_loss", *PROPAGATION},
    "without_propagation": PROPAGATION,
    "first_teacher_only": set(),
    "second_teacher_only": set(),
    "swapped_weights": set(),
    "half_sampling": set(),
    "sampling_every_4": set(),
    "without_ramp": set(),
    "propagation_of_labeled_decoder": set(),
    "labels_only": OF_UNLABELED,
}
ABLATIONS = sorted({*LEFT_OUT, *(path.stem for path in (CONFIGS / "ablations").iterdir())})  # each is in both
CHOICES = {
    "teachers": ("first", "second"),
    "sampled_times": 10,
    "sampling_interval": 1,
    "distillation_weight": 0.1,
    "reconstruction_weight": 0.2,
    "labeled_weight": 4.0,
    "pull": 0.0,
    "propagation_branch": "diffusion",
    "weight_at_the_start": pytest.approx(0.0067, abs=1e-4),
}
NO_DISTILLATION, NO_RECONSTRUCTION = {"distillation_weight": 0}, {"reconstruction_weight": 0}
CHOSEN = {
    "mix_only": {**NO_DISTILLATION, **NO_RECONSTRUCTION},
    "mix_and_mask_only": {**NO_DISTILLATION, **NO_RECONSTRUCTION},
    "mix_mask_and_distillation_only": NO_RECONSTRUCTION,
    "first_teacher_only": {"teachers": ("first",)},
    "second_teacher_only": {"teachers": ("second",)},
    "swapped_weights": {"distillation_weight": 0.2, "reconstruction_weight": 0.1},
    "half_sampling": {"sampled_times": 5},
    "sampling_every_4": {"sampling_interval": 4},
    "without_ramp": {"weight_at_the_start": 1.0},
    "propagation_of_labeled_decoder": {"propagation_branch": "labeled"},
}


def load(name):
    return json.loads((CONFIGS / f"{name}.json").read_text())


def choices(method):
    chosen = {key: getattr(method, key) for key in CHOICES if hasattr(method, key)}
    of_teachers = {
        "teachers": method.teachers.teachers,
        "sampled_times": len(method.teachers.diffusion.sample_times),
        "sampling_interval": method.teachers.sampling_interval,
    }
    return {**chosen, **of_teachers, "weight_at_the_start": method.unsupervised_weight(0.0)}


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablation_leaves_out_or_changes_its_parts(train, name):
    flow = train(f"ablations/{name}")
    parts = set(flow.parser.get_parsed_content("train::trainer").state.output[0])
    assert PARTS - parts == LEFT_OUT[name]
    assert "labeled_loss" in parts
    assert choices(flow.parser.get_parsed_content("method")) == {**CHOICES, **CHOSEN.get(name, {})}


@pytest.mark.parametrize("name", ["without_propagation", "labels_only"])
def test_the_deployed_decoder_has_no_loss_of_its_own_on_labels_in_the_paper_s_form(train, name):
    flow = train(f"ablations/{name}", labeled_weight=0.0, pull=0.01)
    parts = set(flow.parser.get_parsed_content("train::trainer").state.output[0])
    assert ("labeled_loss" in parts) == (name == "labels_only")  # where nothing else would teach it


def test_labels_only_takes_four_labelled_patches_and_no_others(train):
    batches = []
    flow = train("ablations/labels_only")
    method = flow.parser.get_parsed_content("method")
    method.register_forward_pre_hook(lambda module, inputs: batches.append(inputs))
    flow.parser.get_parsed_content("train::trainer").run()
    labeled, unlabeled, _ = batches[0]
    assert len(labeled["image"]) == 4 and unlabeled is None


@pytest.mark.parametrize(("options", "teaches"), [({}, True), ({"published": "@network"}, False)])
def test_the_second_teacher_or_the_student_is_validated_and_published(train, tmp_path, options, teaches):
    flow = train(**options, iterations_per_epoch=3)
    method, evaluator = (flow.parser.get_parsed_content(key) for key in ("method", "validate::evaluator"))
    teacher, student = method.teachers.average.average, method.network
    assert evaluator.network is (teacher if teaches else student)
    saved = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    for network in (teacher, student):
        state = network.state_dict()
        assert saved.keys() == state.keys()
        same = all(torch.equal(saved[name], value) for name, value in state.items())
        assert same == (network is evaluator.network)


def test_settings_name_the_method_numbers_of_the_paper():
    config = load("train")
    method, teachers = config["method"], config["method"]["teachers"]
    diffusion, difficulty = teachers["diffusion"], method["difficulty"]
    assert (diffusion["train_steps"], diffusion["beta_start"], diffusion["beta_end"]) == (1000, 1e-4, 0.02)
    assert (config["sample_steps"], config["sampling_interval"]) == (10, 1)
    assert (difficulty["window"], difficulty["exponent"]) == (50, 0.2)
    assert (teachers["ema_decay"], teachers["temperature"], teachers["blur"]) == (0.99, 1, 1)
    assert teachers["buffers"] == "average"
    assert (method["mix_weight"], method["unlabeled_weight"], method["blocks"]) == (1, 0, 16)
    defaults = inspect.signature(DTLP).parameters  # the overlays of the paper's data sets have these two as well
    assert (defaults["labeled_weight"].default, defaults["pull"].default) == (0, 0.01)
    ramp = method["unsupervised_weight"]
    assert (ramp["max_value"], ramp["length"], ramp["steepness"]) == (1, 0.4, 5)


@pytest.mark.parametrize(
    ("name", "ratio", "alpha", "beta", "gamma", "eta"),
    [
        ("la", 0.7, 2.0, 0.1, 0.2, 1.2),
        ("synapse", 0.5, 0.1, 0.2, 0.5, 1.0),
        ("amos", 0.5, 0.1, 0.2, 0.5, 1.3),
        ("mmwhs_mr2ct", 0.5, 1.0, 0.1, 0.1, 0.9),
        ("mmwhs_ct2mr", 0.5, 1.0, 0.1, 0.1, 0.9),
        ("mnms", 0.5, 1.0, 0.1, 0.1, 1.0),
    ],
)
def test_overlays_state_the_numbers_of_table_i_and_equation_22_without_labels(name, ratio, alpha, beta, gamma, eta):
    overlay = load(f"datasets/{name}")
    weights = [overlay[f"{term}_weight"] for term in ("masked", "distillation", "reconstruction", "propagation")]
    assert (overlay["mask_ratio"], *weights, overlay["labeled_weight"]) == (ratio, alpha, beta, gamma, eta, 0)
    assert overlay["pull"] == 0.01  # which brings the deployed decoder what the others learn of labels


@pytest.mark.parametrize("name", ["la_cpu", "pancreas_ct", "brats2019", "hippocampus", *DOMAINS])
def test_other_overlays_have_the_numbers_of_the_left_atrium_and_labels_for_the_deployed_decoder(name):
    overlay, of_la = load(f"datasets/{name}"), load("datasets/la")
    own = ("mask_ratio", "masked_weight", "distillation_weight", "reconstruction_weight", "propagation_weight")
    assert [overlay[key] for key in own] == [of_la[key] for key in own]
    assert [load("train")[key] for key in own] == [of_la[key] for key in own]
    assert overlay["labeled_weight"] == load("train")["labeled_weight"] == 4
    assert overlay["pull"] == load("train")["pull"] == 0
