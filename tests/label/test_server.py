# SPDX-License-Identifier: Apache-2.0
"""MONAI Label with a bundle, over HTTP: predict, save a label, train with unlabelled studies, predict again, choose."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

pytest.importorskip("monailabel", reason="MONAI Label has an environment of its own: make test-label")
import requests
import torch
from monailabel.tasks.train.bundle import BundleTrainTask

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "label_app"
SHOWN = ("learning_rate", "labeled_only", "unlabeled_dir")
WEIGHTS = {
    "supervised": (),
    "mean_teacher": ("consistency_weight",),
    "dbisl": ("pseudo_label_weight", "consistency_weight"),
    "ugpl": ("pseudo_supervision_weight", "prototype_weight"),
    "skcdf": ("unlabeled_weight",),
    "dtlp": ("masked_weight", "distillation_weight", "reconstruction_weight", "propagation_weight"),
}
BUNDLES = tuple(WEIGHTS)
TINY = {"patch_size": [16, 16, 16], "spacing": [2.0, 2.0, 2.5], "precision": "fp32"}
pytestmark = pytest.mark.label


def load_start():
    spec = importlib.util.spec_from_file_location("label_app_start", APP / "start.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small_bundle(name: str, folder: Path) -> Path:
    """Copy a bundle, with settings for tiny scans."""
    copy = folder / name
    shutil.copytree(ROOT / "bundles" / name, copy, ignore=shutil.ignore_patterns("models", "eval"))
    for file in ("train.json", "inference.json"):
        path = copy / "configs" / file
        config = json.loads(path.read_text())
        config.update({key: value for key, value in TINY.items() if key in config})
        config["network_def"]["base_channels"] = 2
        if "iterations_per_epoch" in config:
            config["iterations_per_epoch"] = 2
        path.write_text(json.dumps(config))
    return copy


class Server:
    """A running server and the studies that it shows."""

    def __init__(self, url: str, process: subprocess.Popen, studies: Path, log: Path) -> None:
        self.url = url
        self.process = process
        self.studies = studies
        self.log = log

    def ask(self, method: str, path: str, **options) -> requests.Response:
        answer = requests.request(method, self.url + path, timeout=300, **options)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}\n{self.log.read_text()}"
        return answer

    def save_prediction_as_label(self, bundle: str, image: str, folder: Path) -> None:
        prediction = self.predict(bundle, image, folder)
        label = folder / "label.nii.gz"
        nibabel.save(nibabel.Nifti1Image(np.asarray(prediction.dataobj).astype(np.uint8), prediction.affine), label)
        with label.open("rb") as content:
            files = {"label": ("label.nii.gz", content)}
            self.ask("PUT", f"/datastore/label?image={image}&tag=final", files=files)

    def predict(self, bundle: str, image: str, folder: Path, **options) -> nibabel.Nifti1Image:
        params = json.dumps({"device": "cpu", **options})
        answer = self.ask("POST", f"/infer/{bundle}?image={image}&output=image", data={"params": params})
        path = folder / f"{image}_prediction.nii.gz"
        path.write_bytes(answer.content)
        return nibabel.load(path)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, make_folder) -> dict[str, Path]:
    """Small bundles with weights after two steps."""
    folder = tmp_path_factory.mktemp("bundles")
    data = make_folder(tmp_path_factory.mktemp("data"))
    found = {}
    for name in BUNDLES:
        found[name] = small_bundle(name, folder)
        command = [sys.executable, "-m", "monai.bundle", "run", "training", "--bundle_root", str(found[name])]
        command += ["--config_file", str(found[name] / "configs" / "train.json"), "--dataset_dir", str(data)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [*command, "--max_epochs", "1"], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return found


@pytest.fixture(scope="module")
def server(bundles, tmp_path_factory: pytest.TempPathFactory, make_folder) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    app = folder / "app"
    shutil.copytree(APP, app, ignore=shutil.ignore_patterns("model"))
    start = load_start()
    for bundle in bundles.values():
        start.link_bundle(bundle, app)
    data = make_folder(folder / "data", labeled=4, unlabeled=4, test=0)
    studies = folder / "studies"
    shutil.copytree(data / "imagesTr", studies)
    shutil.copytree(data / "labelsTr", studies / "labels" / "final")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", str(studies)]
    command += ["--conf", "models", ",".join(bundles), "--host", "127.0.0.1", "--port", str(port)]
    # else the server scores with all six bundles after every training, each time in a process of its own
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        running = Server(f"http://127.0.0.1:{port}", process, studies, log)
        try:
            _wait(running)
            yield running
        finally:
            process.terminate()
            process.wait(timeout=60)


def _wait(server: Server, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.process.poll() is None:
        try:
            if requests.get(server.url + "/info/", timeout=60).status_code == 200:
                return
        except requests.ConnectionError:
            time.sleep(1)
    raise AssertionError(server.log.read_text())


def training_request(**changes) -> dict:
    """Return what 3D Slicer sends: all options of the trainer, whether or not they were changed."""
    usual = {
        "device": "cpu",
        "pretrained": True,
        "max_epochs": 1,
        "val_split": 0.25,
        "multi_gpu": False,
        "gpus": "all",
        "tracking": "None",
        "tracking_uri": "",
        "tracking_experiment_name": "",
        "run_id": "",
        "model_filename": "model.pt",
    }
    return {**usual, **changes}


def test_the_server_names_bundles_strategies_and_scores(server: Server) -> None:
    info = server.ask("GET", "/info/").json()
    assert set(BUNDLES) <= set(info["models"])
    assert set(BUNDLES) <= set(info["trainers"])
    assert {"first", "random", "least_certain"} <= set(info["strategies"])
    assert {f"{name}_uncertainty" for name in BUNDLES} <= set(info["scoring"])


@pytest.mark.parametrize("name", BUNDLES)
def test_a_prediction_lies_on_the_grid_of_its_study(server: Server, name: str, tmp_path: Path) -> None:
    prediction, image = server.predict(name, "case_06", tmp_path), nibabel.load(server.studies / "case_06.nii.gz")
    assert prediction.shape == image.shape
    np.testing.assert_allclose(prediction.affine, image.affine, atol=1e-4)
    assert set(np.unique(prediction.dataobj)) <= {0, 1}


@pytest.mark.parametrize("name", BUNDLES)
def test_training_takes_the_unlabelled_studies_but_no_validation_case(
    server: Server, bundles, name: str, tmp_path: Path
) -> None:
    before = (bundles[name] / "models" / "model.pt").stat().st_mtime_ns
    start = len(server.log.read_text())
    server.ask("POST", f"/train/{name}?run_sync=true", json=training_request())
    text = server.log.read_text()[start:]
    if name != "supervised":
        assert "3 labeled + 4 unlabeled + 1 validation cases" in text
    assert (bundles[name] / "models" / "model.pt").stat().st_mtime_ns > before
    assert server.predict(name, "case_06", tmp_path).shape == nibabel.load(server.studies / "case_06.nii.gz").shape


@pytest.mark.parametrize("name", BUNDLES)
def test_the_options_of_a_bundle_are_on_show_with_its_own_values(server: Server, bundles, name: str) -> None:
    config = json.loads((bundles[name] / "configs" / "train.json").read_text())
    info = server.ask("GET", "/info/").json()
    shown = info["trainers"][name]["config"]
    for key in (*SHOWN, *WEIGHTS[name]):
        assert shown[key] == config[key], key
    assert list(config["displayable_configs"]) == [*SHOWN, *WEIGHTS[name]]
    assert info["models"][name]["config"]["overlap"] == 0.5


@pytest.mark.parametrize("name", BUNDLES)
def test_training_takes_the_options_that_were_sent(server: Server, bundles, name: str, tmp_path: Path) -> None:
    further = tmp_path / "further"
    shutil.copytree(server.studies, further, ignore=shutil.ignore_patterns("labels", "*.json"))
    for number in (1, 2):
        (further / f"case_0{number}.nii.gz").rename(further / f"new_{number}.nii.gz")
    before = torch.load(bundles[name] / "models" / "model.pt", weights_only=True)
    start = len(server.log.read_text())
    options = {**dict.fromkeys(WEIGHTS[name], 0.5), "learning_rate": 0.0, "labeled_only": False}
    request = training_request(**options, unlabeled_dir=str(further))
    server.ask("POST", f"/train/{name}?run_sync=true", json=request)
    after = torch.load(bundles[name] / "models" / "model.pt", weights_only=True)
    own = [key for key in before if "encoder" in key and key.endswith((".weight", ".bias"))]
    assert own and all(torch.equal(before[key], after[key]) for key in own)
    text = server.log.read_text()[start:]
    assert "2 further unlabelled cases; 6 left out, which have the name or the file of another case" in text
    assert "3 labeled + 6 unlabeled + 1 validation cases" in text


def test_training_on_labels_alone_takes_no_unlabelled_study(server: Server) -> None:
    start = len(server.log.read_text())
    server.ask("POST", "/train/mean_teacher?run_sync=true", json=training_request(labeled_only=True))
    assert "3 labeled + 0 unlabeled + 1 validation cases" in server.log.read_text()[start:]


def test_a_folder_of_unlabelled_scans_that_is_not_there_is_named(server: Server, bundles, tmp_path: Path) -> None:
    before = (bundles["mean_teacher"] / "models" / "model.pt").stat().st_mtime_ns
    start = len(server.log.read_text())
    request = training_request(unlabeled_dir=str(tmp_path / "gone"))
    answer = requests.post(server.url + "/train/mean_teacher?run_sync=true", json=request, timeout=300)
    line = f"unlabeled_dir '{tmp_path / 'gone'}' is not a folder; give one with unlabelled scans in it"
    assert (answer.status_code, answer.json()) == (400, {"detail": line})
    assert line in server.log.read_text()[start:]
    assert (bundles["mean_teacher"] / "models" / "model.pt").stat().st_mtime_ns == before


def test_the_stock_app_asks_for_all_options_of_a_bundle(bundles) -> None:
    task = BundleTrainTask(str(bundles["dbisl"]), {})
    studies = SimpleNamespace(datalist=lambda: [{"image": "a.nii.gz", "label": "b.nii.gz"}])
    with pytest.raises(KeyError, match="learning_rate"):
        task({**training_request(), "model": "dbisl"}, studies)


def test_prediction_takes_the_overlap_that_was_sent_for_this_one_only(server: Server, tmp_path: Path) -> None:
    assert server.predict("dbisl", "case_06", tmp_path, overlap=0.25).shape == (24, 20, 18)
    data = {"params": json.dumps({"device": "cpu", "overlap": 1.5})}
    answer = requests.post(server.url + "/infer/dbisl?image=case_06&output=image", data=data, timeout=300)
    assert answer.status_code == 500
    assert server.predict("dbisl", "case_06", tmp_path).shape == (24, 20, 18)


def test_training_without_validation_cases_saves_the_weights(server: Server, bundles) -> None:
    before = (bundles["dbisl"] / "models" / "model.pt").stat().st_mtime_ns
    server.ask("POST", "/train/dbisl?run_sync=true", json=training_request(val_split=0.0))
    assert (bundles["dbisl"] / "models" / "model.pt").stat().st_mtime_ns > before


def test_the_least_certain_study_is_the_next_one(server: Server) -> None:
    server.ask("POST", "/scoring/dbisl_uncertainty?run_sync=true", json={"device": "cpu"})
    objects = server.ask("GET", "/datastore/?output=all").json()["objects"]
    scores = {name: item["image"]["info"].get("uncertainty") for name, item in objects.items()}
    unlabeled = [f"case_{number:02d}" for number in range(5, 9)]
    assert all(0 <= scores[name] <= 1 for name in unlabeled)
    assert len({scores[name] for name in unlabeled}) == 4
    chosen = server.ask("POST", "/activelearning/least_certain", json={}).json()["id"]
    assert chosen == max(unlabeled, key=lambda name: scores[name])


def test_a_saved_label_makes_its_study_a_labelled_one(server: Server, tmp_path: Path) -> None:
    server.save_prediction_as_label("dbisl", "case_05", tmp_path)
    assert (server.studies / "labels" / "final" / "case_05.nii.gz").is_file()
    start = len(server.log.read_text())
    server.ask("POST", "/train/dbisl?run_sync=true", json=training_request(val_split=0.2))
    assert "4 labeled + 3 unlabeled + 1 validation cases" in server.log.read_text()[start:]


def test_training_goes_on_when_all_studies_are_labelled(server: Server, tmp_path: Path) -> None:
    for number in range(6, 9):
        server.save_prediction_as_label("dbisl", f"case_{number:02d}", tmp_path)
    start = len(server.log.read_text())
    server.ask("POST", "/train/dbisl?run_sync=true", json=training_request())
    assert "6 labeled + 0 unlabeled + 2 validation cases" in server.log.read_text()[start:]


def test_batch_inference_predicts_all_studies(server: Server) -> None:
    server.ask("POST", "/batch/infer/dbisl?images=all&run_sync=true", json={"device": "cpu", "multi_gpu": False})
    objects = server.ask("GET", "/datastore/?output=all").json()["objects"]
    assert len(objects) == 8
    assert all("original" in item["labels"] for item in objects.values())
