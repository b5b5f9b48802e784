# SPDX-License-Identifier: Apache-2.0
"""Every bundle through MONAI's own workflow, on tiny scans without a GPU."""

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
BUNDLES = sorted(path.parent.name for path in ROOT.glob("bundles/*/configs"))
TINY = {
    "patch_size": [16, 16, 16],
    "spacing": [2.0, 2.0, 2.5],
    "network_def::base_channels": 2,
    "precision": "fp32",
}


class Bundle:
    """A bundle's configs, run on tiny scans."""

    def __init__(self, name):
        self.configs = ROOT / "bundles" / name / "configs"

    def file(self, name):
        return str(self.configs / f"{name}.json")

    def workflow(self, *names, kind="train", **options):
        files = [self.file(name) for name in names]
        return ConfigWorkflow(files if len(files) > 1 else files[0], workflow_type=kind, **TINY, **options)

    def run(self, *names, kind="train", **options):
        flow = self.workflow(*names, kind=kind, **options)
        flow.initialize()
        assert flow.check_properties() == []
        flow.run()
        flow.finalize()
        return flow

    def training(self, dataset, folder, epochs=2, **options):
        options = {"max_epochs": epochs, "iterations_per_epoch": 3, "val_interval": 1, **options}
        return self.run("train", dataset_dir=str(dataset), **paths(folder), **options)


def paths(folder):
    return {"ckpt_dir": str(folder / "models"), "output_dir": str(folder / "eval")}


def weights(folder):
    return torch.load(folder / "models" / "model.pt", weights_only=True)


@pytest.fixture(scope="module", params=BUNDLES)
def bundle(request):
    return Bundle(request.param)


@pytest.fixture(scope="module")
def dataset(make_folder, tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data"), labeled=3, unlabeled=2, test=4, split=True)


@pytest.fixture(scope="module")
def trained(bundle, dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        bundle.training(dataset, folder)
    return folder


def test_training_leaves_a_plain_state_dict_settings_and_one_run_folder(bundle, trained):
    network = bundle.workflow("train").parser.get_parsed_content("network_def")
    network.load_state_dict(weights(trained))
    settings = json.loads((trained / "models" / "settings.json").read_text())
    assert settings["patch_size"] == [16, 16, 16]
    assert settings["network_def"]["in_channels"] == 1
    assert sorted(path.name for path in trained.iterdir()) == ["eval", "models"]
    names = {path.name for path in (trained / "eval" / "run_001").iterdir()}
    assert {"checkpoint.pt", "settings.json"} <= names
    assert any(name.startswith("events.") for name in names)


def test_training_without_validation_cases_says_nothing_of_validation(bundle, make_folder, tmp_path, recwarn):
    dataset = make_folder(tmp_path / "data", labeled=2, unlabeled=1, test=0)
    bundle.training(dataset, tmp_path, epochs=1)
    assert not [str(warning.message) for warning in recwarn if "dataloader" in str(warning.message)]
    assert not (tmp_path / "eval" / "run_001" / "best.pt").exists()


def test_second_training_keeps_the_earlier_model(bundle, dataset, tmp_path):
    bundle.training(dataset, tmp_path, epochs=1)
    first = (tmp_path / "models" / "model.pt").read_bytes()
    bundle.training(dataset, tmp_path, epochs=1, seed=1)
    assert (tmp_path / "eval" / "run_002" / "previous_model.pt").read_bytes() == first
    assert (tmp_path / "models" / "model.pt").read_bytes() != first


def test_failed_training_publishes_nothing(bundle, dataset, trained, tmp_path):
    with pytest.raises(RuntimeError):
        bundle.training(dataset, tmp_path, loss={"_target_": "torch.nn.CrossEntropyLoss", "label_smoothing": "wrong"})
    assert not (tmp_path / "models").exists()


def test_evaluation_writes_the_table_on_the_label_grid(bundle, dataset, trained, tmp_path):
    bundle.run("train", "evaluate", dataset_dir=str(dataset), eval_dir=str(tmp_path), **paths(trained))
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["num_cases"] == 2
    assert list(scores["classes"]) == ["class_1"]
    assert len(list(tmp_path.glob("*.png"))) == 2


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_predictions_lie_on_the_scan_grid(bundle, make_folder, trained, tmp_path, suffix):
    dataset = make_folder(tmp_path / "data", labeled=1, unlabeled=0, test=2, suffix=suffix)
    options = {"ckpt_dir": str(trained / "models"), "output_dir": str(tmp_path / "out"), "uncertainty": True}
    bundle.run("inference", kind="infer", dataset_dir=str(dataset), **options)
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


def test_predicting_listed_files_and_never_overwriting(bundle, dataset, trained, tmp_path):
    image = next((dataset / "imagesTr").iterdir())
    options = {"ckpt_dir": str(trained / "models"), "output_dir": str(tmp_path), "inputs": [str(image)]}
    bundle.run("inference", kind="infer", **options)
    written = [path.name for path in tmp_path.iterdir()]
    assert written == [image.name]
    with pytest.raises(Exception, match="Failed to evaluate") as caught:
        bundle.run("inference", kind="infer", **options)
    assert "is there already" in str(caught.value.__cause__)
    bundle.run("inference", kind="infer", overwrite=True, **options)


def test_settings_that_differ_from_training_stop_inference(bundle, dataset, trained, tmp_path):
    options = {"ckpt_dir": str(trained / "models"), "output_dir": str(tmp_path), "dataset_dir": str(dataset)}
    flow = ConfigWorkflow(bundle.file("inference"), workflow_type="infer", **{**TINY, "spacing": [1, 1, 1]}, **options)
    with pytest.raises(Exception, match="Failed to evaluate") as caught:
        flow.initialize()
    assert str(caught.value.__cause__).startswith("spacing ([1, 1, 1]) differs from the training's")
    overlay = [bundle.file("inference"), str(trained / "models" / "settings.json")]
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
def test_killed_and_resumed_training_equals_an_uninterrupted_one(bundle, dataset, trained, tmp_path, workers):
    """Killed in the second iteration of the second epoch of two; dropout, crops and momentum must all go on."""
    options = {"max_epochs": 2, "iterations_per_epoch": 3, "val_interval": 1, "num_workers": workers}
    options = {**TINY, **options, "dataset_dir": str(dataset), **paths(tmp_path)}
    arguments = json.dumps({"file": bundle.file("train"), **options})
    killed = subprocess.run([sys.executable, "-c", KILLED, arguments], capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr.decode()
    assert not (tmp_path / "models").exists()
    assert (tmp_path / "eval" / "run_001" / "checkpoint.pt").is_file()
    bundle.training(dataset, tmp_path, resume=True, num_workers=workers)
    whole, resumed = weights(trained), weights(tmp_path)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert not (tmp_path / "eval" / "run_002").exists()


def test_finished_training_goes_on_with_more_epochs(bundle, dataset, tmp_path):
    bundle.training(dataset, tmp_path, epochs=1)
    flow = bundle.training(dataset, tmp_path, epochs=2, resume=True)
    state = flow.parser.get_parsed_content("train::trainer").state
    assert (state.iteration, state.epoch) == (6, 2)


def test_monai_label_overrides_train_on_the_other_studies_of_the_folder(bundle, make_folder, tmp_path):
    """MONAI Label replaces the two data lists by plain ones, gives the device as text and asks for the run id ''."""
    studies = make_folder(tmp_path / "studies", labeled=3, unlabeled=2, test=0)
    images = sorted((studies / "imagesTr").iterdir())
    label = {path.name: path for path in (studies / "labelsTr").iterdir()}
    pairs = [{"image": str(path), "label": str(label[path.name])} for path in images if path.name in label]
    flow = bundle.workflow("train", device="cpu", max_epochs=1, iterations_per_epoch=2, run_id="", **paths(tmp_path))
    flow.parser["train"]["dataset"]["data"] = pairs[:2]
    flow.parser["validate"]["dataset"]["data"] = pairs[2:]
    flow.initialize()
    flow.run()
    unlabeled = flow.parser.get_parsed_content("train::unlabeled_dataset").data
    assert len(unlabeled) == 2
    assert not {case["image"] for case in unlabeled} & {case["image"] for case in pairs}
    assert (tmp_path / "models" / "model.pt").is_file()


def test_two_processes_train_as_one(bundle, dataset, tmp_path):
    files = str([bundle.file("train"), bundle.file("multi_gpu_train")])
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


def test_zoo_checks_of_the_network(bundle, trained, tmp_path):
    metadata, config = bundle.file("metadata"), bundle.file("inference")
    verify_net_in_out("network_def", meta_file=metadata, config_file=config, n=2)
    options = {"ckpt_file": str(trained / "models" / "model.pt"), "network_def::base_channels": 2}
    options["patch_size"] = TINY["patch_size"]
    ckpt_export("network_def", filepath=str(tmp_path / "model.ts"), meta_file=metadata, config_file=config, **options)
    scripted = torch.jit.load(tmp_path / "model.ts").eval()
    network = bundle.workflow("train").parser.get_parsed_content("network_def").eval()
    network.load_state_dict(weights(trained))
    shape = json.loads(Path(metadata).read_text())["network_data_format"]["inputs"]["image"]["spatial_shape"]
    any_size = all(isinstance(side, str) for side in shape)  # such as "16*n"
    image = torch.randn(1, 1, *([32, 16, 16] if any_size else TINY["patch_size"]))
    torch.testing.assert_close(scripted(image), network(image))


def test_settings_of_train_and_inference_are_the_same(bundle):
    train, inference = (json.loads(Path(bundle.file(name)).read_text()) for name in ("train", "inference"))
    for key in ("in_channels", "num_classes", "spacing", "intensity", "patch_size", "dropout", "network_def"):
        assert train[key] == inference[key], key
    assert train["validate"]["preprocessing"]["transforms"][1:] == inference["preprocessing"]["transforms"][1:]
