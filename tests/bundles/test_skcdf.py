# SPDX-License-Identifier: Apache-2.0
"""What only the bundle `skcdf` has: ablations, the number of voxels of each class, and one size of patch."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from medssl_components.engines import user_error_line

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "skcdf" / "configs"
TINY = {"patch_size": [16, 16, 16], "spacing": [2.0, 2.0, 2.5], "network_def::base_channels": 2, "precision": "fp32"}
AUXILIARY = {"supervised_auxiliary_loss", "unlabeled_auxiliary_loss"}
OF_UNLABELED = {"unlabeled_loss", "unlabeled_auxiliary_loss", "unlabeled_weight"}
PARTS = {"supervised_loss", *AUXILIARY, *OF_UNLABELED}
LEFT_OUT = {
    "baseline": AUXILIARY,
    "decoupling_only": AUXILIARY,
    "without_decoupling": set(),
    "without_complementarity": set(),
    "without_balanced_heads": AUXILIARY,
    "labeled_decoder": set(),
    "without_transfers": set(),
    "transfer_decoder": set(),
    "transfer_head_decoder": set(),
    "transfer_decoder_head_head": set(),
    "transfer_head_head_decoder": set(),
    "constant_unlabeled_weight": set(),
    "constant_head_transfer": set(),
    "labels_only": OF_UNLABELED,
}
ABLATIONS = sorted({*LEFT_OUT, *(path.stem for path in (CONFIGS / "ablations").iterdir())})  # each is in both
CHOICES = {
    "decoupled": True,
    "complementarity": True,
    "auxiliary_heads": True,
    "inference_decoder": "unlabeled",
    "transfers": ("labeled_head", "decoder", "unlabeled_head"),
    "balance_reading": "loss",
    "first_weight": pytest.approx(0.00067379, rel=1e-4),
    "last_head_transfer": 0.0,
}
CHOSEN = {
    "baseline": {"decoupled": False, "complementarity": False, "auxiliary_heads": False},
    "decoupling_only": {"complementarity": False, "auxiliary_heads": False},
    "without_decoupling": {"decoupled": False},
    "without_complementarity": {"complementarity": False},
    "without_balanced_heads": {"auxiliary_heads": False},
    "labeled_decoder": {"inference_decoder": "labeled"},
    "without_transfers": {"transfers": ()},
    "transfer_decoder": {"transfers": ("decoder",)},
    "transfer_head_decoder": {"transfers": ("labeled_head", "decoder")},
    "transfer_decoder_head_head": {"transfers": ("decoder", "labeled_head", "unlabeled_head")},
    "transfer_head_head_decoder": {"transfers": ("labeled_head", "unlabeled_head", "decoder")},
    "constant_unlabeled_weight": {"first_weight": 0.1},
    "constant_head_transfer": {"last_head_transfer": 1.0},
    "labels_only": {"inference_decoder": "labeled"},
}


def load(name):
    return json.loads((CONFIGS / f"{name}.json").read_text())


def choices(method):
    network = method.network
    return {
        "decoupled": network.unlabeled_decoder is not None,
        "complementarity": network.complementarity is not None,
        "auxiliary_heads": network.labeled_decoder.auxiliary_head is not None,
        "inference_decoder": network.inference_decoder,
        "transfers": method.transfers,
        "balance_reading": method.balance_reading,
        "first_weight": method.unlabeled_weight(0.0),
        "last_head_transfer": method.head_transfer(1.0),
    }


def ratios(dataset, names, num_classes=3):
    """Count the voxels in the files themselves."""
    labels = [np.asarray(nibabel.load(dataset / "labelsTr" / f"{name}.nii.gz").dataobj).ravel() for name in names]
    counts = np.bincount(np.concatenate(labels).astype(int), minlength=num_classes)
    return torch.tensor(counts.min() / counts, dtype=torch.float32)


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablation_leaves_out_or_changes_its_parts(train, name):
    flow = train(f"ablations/{name}")
    parts = set(flow.parser.get_parsed_content("train::trainer").state.output[0])
    assert PARTS - parts == LEFT_OUT[name]
    assert choices(flow.parser.get_parsed_content("method")) == {**CHOICES, **CHOSEN[name]}


def test_labels_only_takes_four_labelled_patches_and_deploys_the_decoder_that_learnt(workflow):
    flow = workflow("ablations/labels_only")
    flow.initialize()
    batches, method = [], flow.parser.get_parsed_content("method")
    before = {name: value.clone() for name, value in method.network.state_dict().items()}
    method.register_forward_pre_hook(lambda module, inputs: batches.append(inputs))
    flow.run()
    labeled, unlabeled, _ = batches[0]
    assert len(labeled["image"]) == 4 and unlabeled is None
    still = [name for name, value in method.network.state_dict().items() if torch.equal(value, before[name])]
    assert any(name.startswith("unlabeled_decoder.decoder") and "running" in name for name in still)
    assert not any(name.startswith("labeled_decoder") for name in still if "running" in name)


def test_a_network_without_the_module_is_evaluated_with_its_settings(train, paths, tmp_path):
    train("ablations/baseline")
    settings = tmp_path / "models" / "settings.json"
    assert json.loads(settings.read_text())["network_def"]["complementarity"] is None
    files = [str(CONFIGS / "inference.json"), str(settings)]
    options = {**paths, "output_dir": str(tmp_path / "out"), "precision": "fp32"}
    flow = ConfigWorkflow(files, workflow_type="infer", **options)
    flow.initialize()
    flow.run()
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_weights_of_any_training_can_be_scored_with_the_labelled_decoder(train, paths, tmp_path):
    """Table 4 compares the two decoders of one training."""
    train()
    files = [CONFIGS / "inference.json", tmp_path / "models" / "settings.json"]
    predicted = {}
    for name, more in (("unlabeled", []), ("labeled", [CONFIGS / "ablations" / "labeled_decoder.json"])):
        options = {**paths, "output_dir": str(tmp_path / name), "precision": "fp32"}
        flow = ConfigWorkflow([str(path) for path in [*files, *more]], workflow_type="infer", **options)
        flow.initialize()
        flow.run()
        network = flow.parser.get_parsed_content("network").eval()
        image = torch.randn(1, 1, *TINY["patch_size"], generator=torch.Generator().manual_seed(0))
        features = network._self_features(image)
        torch.testing.assert_close(network(image), getattr(network, f"{name}_decoder")(features))
        predicted[name] = network(image)
        assert len(list((tmp_path / name).iterdir())) == 1
    assert not torch.allclose(*predicted.values())


def test_the_decoder_that_no_label_only_training_taught_cannot_be_scored(train, paths, tmp_path):
    train("ablations/labels_only")
    options = {**TINY, **paths, "output_dir": str(tmp_path / "out")}
    flow = ConfigWorkflow(str(CONFIGS / "inference.json"), workflow_type="infer", **options)
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011 - whatever MONAI makes of it
        flow.initialize()
    line = user_error_line(caught.value)
    assert line and "\n" not in line and "network_def differs" in line and "settings.json" in line


@pytest.mark.parametrize(("labeled", "names"), [("all", ["case_01", "case_02"]), (1, ["case_01"])])
def test_voxels_are_counted_in_the_whole_labels_of_all_labelled_cases(make_folder, workflow, tmp_path, labeled, names):
    dataset = make_folder(tmp_path / "data", labeled=2, unlabeled=1, test=0, num_classes=3)
    options = {"num_classes": 3, "spacing": "native", "labeled": labeled}
    method = workflow(dataset_dir=str(dataset), **options).parser.get_parsed_content("method")
    torch.testing.assert_close(method.state_dict()["class_ratios"], ratios(dataset, names))
    assert 0 < method.class_ratios.min() < 0.9 and method.class_ratios.max() == 1


def test_voxels_are_counted_in_the_cases_that_monai_label_gives(make_folder, workflow, tmp_path):
    dataset = make_folder(tmp_path / "data", labeled=2, unlabeled=1, test=0, num_classes=3)
    case = {"image": str(dataset / "imagesTr/case_02.nii.gz"), "label": str(dataset / "labelsTr/case_02.nii.gz")}
    options = {"num_classes": 3, "spacing": "native", "train::dataset::data": [case]}
    method = workflow(dataset_dir=str(dataset), **options).parser.get_parsed_content("method")
    torch.testing.assert_close(method.class_ratios, ratios(dataset, ["case_02"]))
    assert not torch.allclose(method.class_ratios, ratios(dataset, ["case_01", "case_02"]))


@pytest.mark.parametrize("with_settings", [True, False])
def test_another_patch_size_at_inference_is_one_line(train, paths, tmp_path, with_settings):
    train()
    if not with_settings:  # as with weights that were downloaded
        (tmp_path / "models" / "settings.json").unlink()
    options = {**paths, "output_dir": str(tmp_path / "out")}
    wrong = {**TINY, "patch_size": [16, 16, 16], "inferer::roi_size": [32, 16, 16]}
    if with_settings:
        wrong = {**TINY, "patch_size": [32, 16, 16]}
    flow = ConfigWorkflow(str(CONFIGS / "inference.json"), workflow_type="infer", **wrong, **options)
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011 - whatever MONAI makes of it
        flow.initialize()
        flow.run()
    line = user_error_line(caught.value)
    assert line and "\n" not in line and "patch_size" in line, caught.value
    assert ("settings.json" if with_settings else "use that size") in line


def test_a_patch_size_that_the_network_cannot_take_stops_before_training(workflow):
    flow = workflow(patch_size=[20, 16, 16])
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011 - whatever MONAI makes of it
        flow.initialize()
    line = user_error_line(caught.value)
    assert line and "\n" not in line and "axis 0 has side 20" in line and "use 16 or 32" in line


def test_settings_name_the_method_numbers_of_the_paper():
    config = load("train")
    method, network = config["method"], config["network_def"]
    assert config["unlabeled_weight"] == 0.1  # the paper's 10 is in the overlays of its data sets
    for name in ("synapse", "amos"):
        overlay = load(f"datasets/{name}")
        assert (overlay["unlabeled_weight"], overlay["head_transfer"], overlay["balance_reading"]) == (10, 1, "loss")
    assert (method["unlabeled_weight"]["length"], method["unlabeled_weight"]["steepness"]) == (1, 5)
    assert (method["ema_decay"], config["head_transfer"], method["auxiliary_weight"]) == (0.99, 1, 1)
    assert config["balance_reading"] == "loss"
    assert tuple(method["transfers"]) == CHOICES["transfers"]
    module = network["complementarity"]
    assert (module["local_patch"], module["num_heads"], module["dropout"]) == (2, 2, 0.1)
    assert (network["decoupled"], network["auxiliary_heads"], network["inference_decoder"]) == (True, True, "unlabeled")


def test_the_recipe_of_the_released_code_and_the_attention_of_the_paper_are_options(train):
    names = ("joint_heads", "all_keys", "stop_gradient", "token_residual", "gelu")
    attention = {f"network_def::complementarity::{name}": False for name in names}
    loss = {"lambda_ce": 1.0, "lambda_dice": 1.0, "squared_pred": False, "smooth_nr": 1.0, "smooth_dr": 1.0}
    options = {f"loss::{name}": value for name, value in loss.items()}
    options |= {"optimizer::nesterov": True, "optimizer::weight_decay": 0.00003, "max_gradient_norm": 1e9}
    parser = train(**attention, **options, balance_reading="logits").parser
    assert parser.get_parsed_content("method").balance_reading == "logits"
    group = parser.get_parsed_content("optimizer").param_groups[0]
    assert (group["nesterov"], group["momentum"], group["weight_decay"]) == (True, 0.9, 0.00003)
    block = parser.get_parsed_content("network").complementarity.global_block
    assert not any((block.token_residual, *(getattr(block.attention, name) for name in names[:3])))
    assert isinstance(block.activation, torch.nn.Identity)
    dice = parser.get_parsed_content("loss")
    assert (dice.lambda_ce, dice.lambda_dice, dice.dice.squared_pred, dice.dice.smooth_nr) == (1, 1, False, 1)


@pytest.mark.parametrize("name", ["synapse", "amos"])
def test_many_organ_overlays_window_and_scale_each_volume(name):
    intensity = ConfigParser({"intensity": load(f"datasets/{name}")["intensity"]}).get_parsed_content("intensity")
    image = torch.tensor([-1000.0, -75.0, 100.0, 275.0, 900.0])[None, :, None, None]
    expected = torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0])
    torch.testing.assert_close(intensity({"image": image})["image"].flatten().as_tensor(), expected)
    narrow = torch.tensor([0.0, 50.0, 100.0])[None, :, None, None]  # of the volume, not of the window
    torch.testing.assert_close(intensity({"image": narrow})["image"].flatten().as_tensor(), torch.tensor([0, 0.5, 1]))


def test_many_organ_overlays_flip_the_first_two_axes_independently():
    config = ConfigParser({"augmentation": load("datasets/synapse")["augmentation"]})
    flips = config.get_parsed_content("augmentation").set_random_state(0)
    corner = torch.zeros(1, 2, 2, 2)
    corner[0, 0, 0, 0] = 1
    places = [tuple(flips({"image": corner, "label": corner})["label"][0].nonzero()[0].tolist()) for _ in range(400)]
    shares = [places.count(place) / 400 for place in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0))]
    assert sum(shares) == 1 and all(share == pytest.approx(0.25, abs=0.07) for share in shares)


def test_metadata_gives_the_one_shape_that_the_network_takes():
    data_format = load("metadata")["network_data_format"]
    shapes = [data_format["inputs"]["image"]["spatial_shape"], data_format["outputs"]["pred"]["spatial_shape"]]
    assert shapes == [load("train")["patch_size"]] * 2 == [load("inference")["patch_size"]] * 2
