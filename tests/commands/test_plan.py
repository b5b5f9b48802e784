# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow

from medssl_components.commands import plan
from medssl_components.data import DataError

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "data"
BUNDLES = sorted(path.parent.name for path in ROOT.glob("bundles/*/configs"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_folder) -> Path:
    """As the Medical Segmentation Decathlon has them, with a file of its archive that is no scan."""
    folder = make_folder(tmp_path_factory.mktemp("data") / "Task99", labeled=2, unlabeled=2, test=1, num_classes=3)
    content = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "Anterior", "2": "Posterior"}}
    (folder / "dataset.json").write_text(json.dumps(content))
    (folder / "imagesTr" / "._case_01.nii.gz").write_bytes(b"")
    return folder


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_overlay_sets_what_its_neighbours_set_and_trains(
    bundle: str, folder: Path, tmp_path: Path, monkeypatch
) -> None:
    plan(str(folder), str(tmp_path / "my.json"), bundle, device="cpu", memory=0.3)
    overlay = json.loads((tmp_path / "my.json").read_text())
    configs = ROOT / "bundles" / bundle / "configs"
    assert list(overlay) == list(json.loads((configs / "datasets" / "la_cpu.json").read_text()))
    assert overlay["class_names"] == ["background", "Anterior", "Posterior"]
    if bundle not in ("supervised", "dbisl"):
        return
    monkeypatch.chdir(ROOT)
    options = {"max_epochs": 1, "iterations_per_epoch": 2, "network_def::base_channels": 2, "precision": "fp32"}
    options |= {"ckpt_dir": str(tmp_path / "models"), "output_dir": str(tmp_path / "eval"), "dataset_dir": str(folder)}
    flow = ConfigWorkflow([str(configs / "train.json"), str(tmp_path / "my.json")], workflow_type="train", **options)
    flow.initialize()
    flow.run()
    flow.finalize()
    settings = json.loads((tmp_path / "models" / "settings.json").read_text())
    assert settings["intensity"] == overlay["intensity"] and settings["patch_size"] == overlay["patch_size"]


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the scans are not in {REAL}")
@pytest.mark.parametrize(
    ("name", "overlay", "other"),
    [
        ("hippocampus", "hippocampus", {"class_names", "max_epochs", "spacing"}),  # "native" is 1 mm there
        ("la", "la_cpu", {"class_names"}),
    ],
)
def test_the_plan_of_real_scans_is_the_overlay_made_by_hand(
    name: str, overlay: str, other: set, tmp_path: Path
) -> None:
    """So a training by it is the same, step by step; the other ids are the names, and 3000 steps in place of 1000."""
    plan(str(REAL / name), str(tmp_path / "my.json"), device="cpu", labeled=8)
    planned = json.loads((tmp_path / "my.json").read_text())
    by_hand = json.loads((ROOT / "bundles" / "supervised" / "configs" / "datasets" / f"{overlay}.json").read_text())
    assert {key for key in by_hand if planned[key] != by_hand[key]} == other and set(planned) == set(by_hand)
    assert planned["max_epochs"] * planned["iterations_per_epoch"] == 3000
    assert by_hand["spacing"] in (planned["spacing"], "native")


def test_it_says_what_is_there_and_why_it_chose(folder: Path, tmp_path: Path, caplog) -> None:
    """Options as the command line passes them."""
    output = tmp_path / "new" / "my.json"
    with caplog.at_level("INFO", logger="medssl"):
        plan(folder, output, device="gpu", memory=2, iterations=1000, labeled=1, overwrite="false")
    lines = [record.getMessage().strip() for record in caplog.records if record.name == "medssl"]
    assert lines[0] == str(folder)
    assert lines[1] == "cases: 1 labelled, 3 unlabelled, 0 validation, 1 test"
    assert "plan for supervised, a GPU and 2 GB" in lines
    assert any(line.startswith("intensity: not CT") and line.endswith("the channels MRI") for line in lines)
    assert "max_epochs: 10 of 100 steps" in lines
    command = (
        f"python -m monai.bundle run training --config_file \"['bundles/supervised/configs/train.json','{output}']\""
    )
    assert lines[-1] == f"{command} --dataset_dir {folder}"
    assert json.loads(output.read_text())["labeled"] == 1


def test_an_earlier_file_stays_without_overwrite(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "my.json"
    output.write_text("mine")
    with pytest.raises(DataError, match="my.json: is there already; give another --output, or --overwrite true"):
        plan(str(folder), str(output))
    assert output.read_text() == "mine"
    plan(str(folder), str(output), overwrite="true")
    assert json.loads(output.read_text())["num_classes"] == 3


@pytest.mark.parametrize(
    "option",
    [
        {"memory": "much"},
        {"memory": 0},
        {"memory": 0.1},
        {"iterations": 0},
        {"iterations": 2.5},
        {"threads": 0},
        {"device": "tpu"},
        {"modality": "xray"},
        {"bundle": "nothing"},
        {"output": "my.txt"},
        {"labeled": 5},
    ],
)
def test_options_are_checked(folder: Path, tmp_path: Path, option: dict) -> None:
    with pytest.raises(DataError, match=next(iter(option))):
        plan(str(folder), **{"output": str(tmp_path / "my.json"), **option})
    assert list(tmp_path.iterdir()) == []


def test_a_broken_folder_is_one_line_that_names_the_file(folder: Path, tmp_path: Path) -> None:
    label = folder / "labelsTr" / "case_02.nii.gz"
    whole = label.read_bytes()
    command = [sys.executable, "-m", "medssl_components", "plan", "--dataset_dir", str(folder)]
    command += ["--output", str(tmp_path / "my.json")]
    try:
        label.write_bytes(whole[:-100])
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    finally:
        label.write_bytes(whole)
    assert done.returncode == 1 and not (tmp_path / "my.json").exists()
    assert done.stderr.splitlines()[-1].startswith(f"error: {label}: cannot be read")
