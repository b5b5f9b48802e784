# SPDX-License-Identifier: Apache-2.0
"""Semi-supervision, domain adaptation and domain generalisation: the same command with another overlay or split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigWorkflow

from medssl_components.data import inference_cases

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.parent.name for path in ROOT.glob("bundles/*/configs"))
OVERLAYS = {
    "semi_supervision": "hippocampus",
    "adaptation": "hippocampus_two_domains",
    "generalisation": "hippocampus_three_domains",
}
DOMAINS = {  # of case_01 to case_08: two labelled, two unlabelled, two for validation, two for test
    "adaptation": ["original"] * 2 + ["shaded"] * 6,
    "generalisation": ["original", "inverted"] * 3 + ["shaded"] * 2,
}
STREAMS = {
    "semi_supervision": ([""] * 2, [""] * 2, [""] * 2),
    "adaptation": (["original"] * 2, ["shaded"] * 2, ["shaded"] * 2),
    "generalisation": (["original", "inverted"], ["original", "inverted"], ["shaded"] * 2),
}
TINY = {
    "patch_size": [16, 16, 16],
    "network_def::base_channels": 2,
    "precision": "fp32",
    "labeled": 2,
    "max_epochs": 1,
    "iterations_per_epoch": 1,
}


@pytest.fixture(scope="module")
def dataset(make_folder, tmp_path_factory):
    """A folder, and a split file for each scenario that has domains."""
    folder = make_folder(tmp_path_factory.mktemp("data"), labeled=4, test=4, unlabeled=0, num_classes=3, split=True)
    split = json.loads((folder / "split.json").read_text())
    cases = [name for names in split.values() for name in names]
    for scenario, domains in DOMAINS.items():
        content = {**split, "domains": dict(zip(cases, domains, strict=True))}
        (folder / f"{scenario}.json").write_text(json.dumps(content))
    return folder


def workflow(bundle, scenario, dataset, folder, *names, **options):
    configs = ROOT / "bundles" / bundle / "configs"
    files = [str(configs / f"{name}.json") for name in ("train", *names, f"datasets/{OVERLAYS[scenario]}")]
    split = str(dataset / f"{scenario}.json") if scenario in DOMAINS else "auto"
    paths = {"ckpt_dir": str(folder / "models"), "output_dir": str(folder / "eval"), "dataset_dir": str(dataset)}
    flow = ConfigWorkflow(files, workflow_type="train", split=split, **paths, **TINY, **options)
    flow.initialize()
    return flow


@pytest.mark.parametrize("scenario", OVERLAYS)
@pytest.mark.parametrize("bundle", ["dtlp", "supervised"])
def test_a_scenario_is_chosen_by_its_overlay(bundle, scenario, dataset, tmp_path):
    flow = workflow(bundle, scenario, dataset, tmp_path)
    labeled, unlabeled, test = STREAMS[scenario]
    assert flow.parser.get_parsed_content("train::dataset").domains == labeled
    assert flow.parser.get_parsed_content("train::unlabeled_dataset").domains == unlabeled
    flow.run()
    assert (tmp_path / "models" / "model.pt").is_file()
    workflow(bundle, scenario, dataset, tmp_path, "evaluate", eval_dir=str(tmp_path / "scores")).run()
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert scores["num_cases"] == 2
    if scenario in DOMAINS:
        assert {name: part["num_cases"] for name, part in scores["domains"].items()} == {test[0]: 2}
    else:
        assert "domains" not in scores


@pytest.mark.parametrize("bundle", BUNDLES)
def test_images_of_a_domain_look_as_the_overlay_says_and_others_as_they_are(bundle, dataset, tmp_path):
    flow = workflow(bundle, "generalisation", dataset, tmp_path)
    preprocessing = flow.parser.get_parsed_content("validate::preprocessing")
    case = flow.parser.get_parsed_content("validate::dataset").data[0]
    plain = preprocessing({key: case[key] for key in ("image", "label")})["image"]
    shown = {name: preprocessing({**case, "domain": name})["image"] for name in ("original", "inverted", "shaded")}
    assert torch.equal(shown["original"], plain)
    torch.testing.assert_close(shown["inverted"].as_tensor(), -plain.as_tensor(), atol=1e-4, rtol=1e-4)
    likeness = torch.corrcoef(torch.stack([shown["shaded"].flatten(), plain.flatten()]).as_tensor())[0, 1]
    assert 0.5 < likeness < 0.99


def test_a_scan_to_predict_has_no_domain(dataset):
    cases = inference_cases(str(dataset), split=str(dataset / "generalisation.json"))
    assert [set(case) for case in cases] == [{"image"}] * 2


@pytest.mark.parametrize("name", ["mmwhs_mr2ct", "mmwhs_ct2mr", "mnms"])
def test_overlays_of_the_heart_scale_and_augment(name):
    configs = ROOT / "bundles" / "dtlp" / "configs"
    flow = ConfigWorkflow(
        [str(configs / "train.json"), str(configs / "datasets" / f"{name}.json")], workflow_type="train"
    )
    flow.parser.parse()
    intensity = flow.parser.get_parsed_content("intensity")
    image = torch.linspace(-100, 900, 1001)[None, :, None, None]
    scaled = intensity({"image": image})["image"].flatten()
    low, high = (0.005, 0.995) if name == "mnms" else (0, 1)
    expected = ((torch.linspace(0, 1, 1001) - low) / (high - low)).clamp(0, 1)
    torch.testing.assert_close(torch.as_tensor(scaled), expected, atol=1e-5, rtol=0)
    augmentation = flow.parser.get_parsed_content("augmentation")
    image, label = torch.rand(1, 12, 12, 6), torch.zeros(1, 12, 12, 6, dtype=torch.uint8)
    label[:, 4:8, 4:8] = torch.arange(6, dtype=torch.uint8)  # the slice's number: rotation stays inside of slices
    changed = 0
    for seed in range(40):
        augmentation.set_random_state(seed)
        made = augmentation({"image": image, "label": label})
        assert made["image"].shape == image.shape and made["image"].isfinite().all()
        assert made["label"].dtype == torch.uint8
        changed += not torch.equal(made["image"], image)
        augmentation.set_random_state(seed)
        assert torch.equal(augmentation({"image": image})["image"], made["image"])  # an unlabelled patch
    assert changed > 30
    zoom, rotation = 1 + 0.43, 15
    kinds = {type(part).__name__: part for part in augmentation.transforms[0].transforms}
    assert kinds["RandRotated"].rand_rotate.range_z == pytest.approx((-0.262, 0.262))
    assert kinds["RandRotated"].rand_rotate.range_x == (0.0, 0.0) == kinds["RandRotated"].rand_rotate.range_y
    assert rotation == pytest.approx(0.262 * 180 / 3.14159, abs=0.05)
    assert kinds["RandZoomd"].rand_zoom.max_zoom == (zoom,)
