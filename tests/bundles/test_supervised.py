# SPDX-License-Identifier: Apache-2.0
"""The supervised bundle through MONAI's own workflow, on tiny scans without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow, ckpt_export, verify_net_in_out

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "bundles" / "supervised" / "configs"
TINY = {
    "patch_size": [16, 16, 16],
    "spacing": [2.0, 2.0, 2.5],
    "network_def::base_channels": 2,
    "precision": "fp32",
}


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def workflow(*names, kind="train", **options):
    files = [str(CONFIGS / f"{name}.json") for name in names]
    return ConfigWorkflow(files if len(files) > 1 else files[0], workflow_type=kind, **TINY, **options)


def run(*names, kind="train", **options):
    flow = workflow(*names, kind=kind, **options)
    flow.initialize()
    assert flow.check_properties() == []
    flow.run()
    flow.finalize()
    return flow


def paths(folder):
    return {"ckpt_dir": str(folder / "models"), "output_dir": str(folder / "eval")}


def training(dataset, folder, epochs=2, **options):
    options = {"max_epochs": epochs, "iterations_per_epoch": 3, "val_interval": 1, **options}
    return run("train", dataset_dir=str(dataset), **paths(folder), **options)


def weights(folder):
    return torch.load(folder / "models" / "model.pt", weights_only=True)


@pytest.fixture(scope="module")
def dataset(make_folder, tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data"), labeled=3, unlabeled=2, test=4, split=True)


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    here = os.getcwd()
    os.chdir(ROOT)
    try:
        training(dataset, folder)
    finally:
        os.chdir(here)
    return folder


def test_training_leaves_a_plain_state_dict_settings_and_one_run_folder(trained):
    network = workflow("train").parser.get_parsed_content("network_def")
    network.load_state_dict(weights(trained))
    settings = json.loads((trained / "models" / "settings.json").read_text())
    assert settings["patch_size"] == [16, 16, 16]
    assert settings["network_def"]["in_channels"] == 1
    assert sorted(path.name for path in trained.iterdir()) == ["eval", "models"]
    names = {path.name for path in (trained / "eval" / "run_001").iterdir()}
    assert {"checkpoint.pt", "settings.json"} <= names
    assert any(name.startswith("events.") for name in names)


def test_second_training_keeps_the_earlier_model(dataset, tmp_path):
    training(dataset, tmp_path, epochs=1)
    first = (tmp_path / "models" / "model.pt").read_bytes()
    training(dataset, tmp_path, epochs=1, seed=1)
    assert (tmp_path / "eval" / "run_002" / "previous_model.pt").read_bytes() == first
    assert (tmp_path / "models" / "model.pt").read_bytes() != first


def test_failed_training_publishes_nothing(dataset, trained, tmp_path):
    with pytest.raises(RuntimeError):
        training(dataset, tmp_path, loss={"_target_": "torch.nn.CrossEntropyLoss", "label_smoothing": "wrong"})
    assert not (tmp_path / "models").exists()


def test_evaluation_writes_the_table_on_the_label_grid(dataset, trained, tmp_path):
    run("train", "evaluate", dataset_dir=str(dataset), eval_dir=str(tmp_path), **paths(trained))
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["num_cases"] == 2
    assert list(scores["classes"]) == ["class_1"]
    assert len(list(tmp_path.glob("*.png"))) == 2


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_predictions_lie_on_the_scan_grid(make_folder, trained, tmp_path, suffix):
    dataset = make_folder(tmp_path / "data", labeled=1, unlabeled=0, test=2, suffix=suffix)
    options = {"ckpt_dir": str(trained / "models"), "output_dir": str(tmp_path / "out"), "uncertainty": True}
    run("inference", kind="infer", dataset_dir=str(dataset), **options)
    images = sorted((dataset / "imagesTs").iterdir())
    assert len(images) == 2
    for image in images:
        name = image.name.removesuffix(suffix)
        prediction = nibabel.load(tmp_path / "out" / f"{name}.nii.gz")
        assert prediction.get_data_dtype() == np.uint8
        assert set(np.unique(prediction.dataobj)) <= {0, 1}
        uncertainty = nibabel.load(tmp_path / "out" / f"{name}_uncertainty.nii.gz").get_fdata()
        assert uncertainty.shape == prediction.shape
        assert 0 <= uncertainty.min() <= uncertainty.max() <= 1
        if suffix == ".nii.gz":
            scan = nibabel.load(image)
            assert prediction.shape == scan.shape
            np.testing.assert_allclose(prediction.affine, scan.affine, atol=1e-4)


def test_predicting_listed_files_and_never_overwriting(dataset, trained, tmp_path):
    image = next((dataset / "imagesTr").iterdir())
    options = {"ckpt_dir": str(trained / "models"), "output_dir": str(tmp_path), "inputs": [str(image)]}
    run("inference", kind="infer", **options)
    written = [path.name for path in tmp_path.iterdir()]
    assert written == [image.name]
    with pytest.raises(Exception, match="Failed to evaluate") as caught:
        run("inference", kind="infer", **options)
    assert "is there already" in str(caught.value.__cause__)
    run("inference", kind="infer", overwrite=True, **options)


def test_settings_that_differ_from_training_stop_inference(dataset, trained, tmp_path):
    options = {"ckpt_dir": str(trained / "models"), "output_dir": str(tmp_path), "dataset_dir": str(dataset)}
    flow = ConfigWorkflow(
        str(CONFIGS / "inference.json"), workflow_type="infer", **{**TINY, "spacing": [1, 1, 1]}, **options
    )
    with pytest.raises(Exception, match="Failed to evaluate") as caught:
        flow.initialize()
    assert str(caught.value.__cause__).startswith("spacing ([1, 1, 1]) differs from the training's")
    overlay = [str(CONFIGS / "inference.json"), str(trained / "models" / "settings.json")]
    flow = ConfigWorkflow(overlay, workflow_type="infer", **options)
    flow.initialize()
    flow.run()
    assert len(list(tmp_path.iterdir())) == 2


KILLED = """
import os, signal, sys
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
if __name__ == "__main__":
    import json
    options = json.loads(sys.argv[1])
    flow = ConfigWorkflow(options.pop("file"), workflow_type="train", **options)
    flow.initialize()
    trainer = flow.parser.get_parsed_content("train::trainer")
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=5), lambda: os.kill(os.getpid(), signal.SIGKILL))
    trainer.run()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_and_resumed_training_equals_an_uninterrupted_one(dataset, trained, tmp_path, workers):
    """Killed in the second iteration of the second epoch of two; dropout, crops and momentum must all go on."""
    options = {"max_epochs": 2, "iterations_per_epoch": 3, "val_interval": 1, "num_workers": workers}
    options = {**TINY, **options, "dataset_dir": str(dataset), **paths(tmp_path)}
    arguments = json.dumps({"file": str(CONFIGS / "train.json"), **options})
    killed = subprocess.run([sys.executable, "-c", KILLED, arguments], capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr.decode()
    assert not (tmp_path / "models").exists()
    assert (tmp_path / "eval" / "run_001" / "checkpoint.pt").is_file()
    training(dataset, tmp_path, resume=True, num_workers=workers)
    whole, resumed = weights(trained), weights(tmp_path)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert not (tmp_path / "eval" / "run_002").exists()


def test_finished_training_goes_on_with_more_epochs(dataset, tmp_path):
    training(dataset, tmp_path, epochs=1)
    flow = training(dataset, tmp_path, epochs=2, resume=True)
    state = flow.parser.get_parsed_content("train::trainer").state
    assert (state.iteration, state.epoch) == (6, 2)


def test_monai_label_overrides_train_on_the_other_studies_of_the_folder(make_folder, tmp_path):
    """MONAI Label replaces the two data lists by plain ones, gives the device as text and asks for the run id ''."""
    studies = make_folder(tmp_path / "studies", labeled=3, unlabeled=2, test=0)
    images = sorted((studies / "imagesTr").iterdir())
    label = {path.name: path for path in (studies / "labelsTr").iterdir()}
    pairs = [{"image": str(path), "label": str(label[path.name])} for path in images if path.name in label]
    flow = workflow("train", device="cpu", max_epochs=1, iterations_per_epoch=2, run_id="", **paths(tmp_path))
    flow.parser["train"]["dataset"]["data"] = pairs[:2]
    flow.parser["validate"]["dataset"]["data"] = pairs[2:]
    flow.initialize()
    flow.run()
    unlabeled = flow.parser.get_parsed_content("train::unlabeled_dataset").data
    assert len(unlabeled) == 2
    assert not {case["image"] for case in unlabeled} & {case["image"] for case in pairs}
    assert (tmp_path / "models" / "model.pt").is_file()


def test_two_processes_train_as_one(dataset, tmp_path):
    files = str([str(CONFIGS / "train.json"), str(CONFIGS / "multi_gpu_train.json")])
    options = {**TINY, **paths(tmp_path), "dataset_dir": str(dataset), "max_epochs": 1, "iterations_per_epoch": 2}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "-m",
        "monai.bundle",
    ]
    command += ["run", "training", "--config_file", files]
    command += [text for key, value in options.items() for text in (f"--{key}", str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in (tmp_path / "eval").iterdir()) == ["run_001"]
    assert all(value.isfinite().all() for value in weights(tmp_path).values())


def test_zoo_checks_of_the_network(trained, tmp_path):
    metadata, config = str(CONFIGS / "metadata.json"), str(CONFIGS / "inference.json")
    verify_net_in_out("network_def", meta_file=metadata, config_file=config, n=2)
    options = {"ckpt_file": str(trained / "models" / "model.pt"), "network_def::base_channels": 2}
    ckpt_export("network_def", filepath=str(tmp_path / "model.ts"), meta_file=metadata, config_file=config, **options)
    scripted = torch.jit.load(tmp_path / "model.ts").eval()
    network = workflow("train").parser.get_parsed_content("network_def").eval()
    network.load_state_dict(weights(trained))
    image = torch.randn(1, 1, 32, 16, 16)
    torch.testing.assert_close(scripted(image), network(image))


def test_settings_of_train_and_inference_are_the_same():
    train, inference = (json.loads((CONFIGS / f"{name}.json").read_text()) for name in ("train", "inference"))
    for key in ("in_channels", "num_classes", "spacing", "intensity", "patch_size", "dropout", "network_def"):
        assert train[key] == inference[key], key
    assert train["validate"]["preprocessing"]["transforms"][1:] == inference["preprocessing"]["transforms"][1:]
