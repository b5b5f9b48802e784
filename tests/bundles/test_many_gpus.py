# SPDX-License-Identifier: Apache-2.0
"""Two processes without a GPU train, evaluate and predict as one does.

They are started once for all tests, by `torchrun` with this file as the program.
"""

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
import torch.distributed as dist
from monai.bundle import ConfigWorkflow

from medssl_components.engines import stop_processes

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.parent.name for path in ROOT.glob("bundles/*/configs"))
TINY = {
    "patch_size": [16, 16, 16],
    "spacing": [2.0, 2.0, 2.5],
    "network_def::base_channels": 2,
    "precision": "fp32",
    "figures": 1,
}
TRAINING = {"max_epochs": 1, "iterations_per_epoch": 3, "val_interval": 1}

# With these options a batch's loss is the mean of the losses of its halves, and nothing is drawn at random from a
# process's own numbers. In every bundle batch norm and a Dice over the batch keep the loss from being that. The norm is
# one of each image by itself, as instance norm is, which on so few voxels makes much of rounding.
NORM = {"network_def::norm": "group", "network_def::norm_groups": 1}
SEPARABLE = {**NORM, "dropout": 0.0, "loss::batch": False}
ALSO = {
    "supervised": {},
    "mean_teacher": {"method::noise": 0.0},  # drawn
    "dbisl": {
        "method::s2r_supervised_weight": 0.0,  # a mean over the maps that are neither empty nor full,
        "method::s2r_consistency_weight": 0.0,  # whose number differs from half to half
        "pseudo_label_weight": 0.0,  # a mean over the voxels where all agree
    },
    "ugpl": {
        "consistency_weight": 0.0,  # a mean over the voxels of which one network is sure
        "method::entropy_filtered_weight": 0.0,  # the percentile and the mean are over the voxels of the batch
        "prototype_weight": 0.0,  # prototypes are means over the batch, and voxels are drawn
    },
    "skcdf": {
        "network_def::complementarity::all_keys": False,  # else images look at all images of the other stream
        "network_def::complementarity::dropout": 0.0,
        "method::class_counts": [1, 1],  # else the auxiliary heads drop voxels, which are drawn
        "balance_reading": "logits",  # else their loss takes the batch's kept voxels as one image
    },
    # Not dtlp: it draws noise, times, boxes and hidden blocks, and its cross-entropy with a weight for each class is
    # divided by the weights of the batch's voxels.
}


def run(name, *configs, kind="train", **options):
    files = [str(ROOT / "bundles" / name / "configs" / f"{config}.json") for config in configs]
    flow = ConfigWorkflow(files if len(files) > 1 else files[0], workflow_type=kind, **{**TINY, **options})
    flow.initialize()
    assert flow.check_properties() == []
    flow.run()
    return flow.parser.get_parsed_content


def train(name, folder, dataset, *overlays, **options):
    paths = {"ckpt_dir": str(folder / "models"), "output_dir": str(folder / "eval")}
    return run(name, "train", *overlays, dataset_dir=str(dataset), **TRAINING, **paths, **options)


def separable(name, batch):
    sizes = {"labeled": batch, "unlabeled": 0 if name == "supervised" else batch}
    return {**SEPARABLE, **ALSO[name], "batch_size": sizes}


def evaluation(folder, checkpoint):
    return {"checkpoint": str(checkpoint), "eval_dir": str(folder)}


def work(folder, dataset):
    """Do one process's part; each process has folders of its own, so that what it writes can be told apart."""
    rank = os.environ["RANK"]
    for name in BUNDLES:
        content = train(name, folder / name / rank, dataset, "multi_gpu_train")
        torch.save(content("train::trainer").method.state_dict(), folder / f"{name}_{rank}.pt")
    for name in ALSO:
        content = train(name, folder / "equal" / name / rank, dataset, "multi_gpu_train", **separable(name, 1))
        (folder / f"{name}_{rank}.json").write_text(json.dumps(content("validate::evaluator").state.metrics))
    dist.barrier()
    model = folder / "supervised" / "0" / "models" / "model.pt"
    options = {**evaluation(folder / "scores" / rank, model), "dataset_dir": str(dataset)}
    run("supervised", "train", "evaluate", "multi_gpu_evaluate", **options)
    options = {"checkpoint": str(model), "dataset_dir": str(dataset), "output_dir": str(folder / "predictions" / rank)}
    run("supervised", "inference", "multi_gpu_inference", kind="infer", **options)
    stop_processes()


@pytest.fixture(scope="module")
def dataset(make_folder, tmp_path_factory):
    """Three cases to validate on and three to test on, which two processes cannot share evenly."""
    return make_folder(tmp_path_factory.mktemp("data"), labeled=3, unlabeled=2, test=6, split=True)


@pytest.fixture(scope="module")
def done(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", __file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    command += [str(folder), str(dataset)]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder


@pytest.mark.parametrize("name", BUNDLES)
def test_weights_teachers_and_statistics_are_equal_in_both_processes(done, name):
    first, second = (torch.load(done / f"{name}_{rank}.pt", weights_only=True) for rank in (0, 1))
    assert [key for key in first if not torch.equal(first[key], second[key])] == []
    published = torch.load(done / name / "0" / "models" / "model.pt", weights_only=True)
    prefix = {"dtlp": "teachers.average.average."}.get(name, "network.")
    assert all(torch.equal(value, second[f"{prefix}{key}"]) for key, value in published.items())
    parts = {"mean_teacher": "teacher.", "dtlp": "teachers.average.", "skcdf": "class_ratios"}
    assert any(key.startswith(parts.get(name, "network.")) for key in first)


@pytest.mark.parametrize("name", BUNDLES)
def test_only_the_first_process_writes(done, name):
    assert [path.name for path in (done / name).iterdir()] == ["0"]
    assert [path.name for path in (done / "scores").iterdir()] == ["0"]
    written = {path.name for path in (done / name / "0" / "eval" / "run_001").iterdir()}
    assert {"checkpoint.pt", "settings.json", "best.pt"} <= written


@pytest.mark.parametrize("name", ALSO)
def test_two_processes_of_batch_one_train_as_one_of_batch_two(done, dataset, tmp_path, name):
    content = train(name, tmp_path, dataset, **separable(name, 2))
    one, two = (
        torch.load(folder / "models" / "model.pt", weights_only=True)
        for folder in (tmp_path, done / "equal" / name / "0")
    )
    torch.testing.assert_close(two, one, atol=1e-5, rtol=0)
    metrics = [json.loads((done / f"{name}_{rank}.json").read_text()) for rank in (0, 1)]
    assert metrics[0] == metrics[1]  # of all validation cases, though each process saw its own
    whole = content("validate::evaluator").state.metrics
    assert metrics[0]["val_mean_dice"] == pytest.approx(whole["val_mean_dice"], abs=1e-3)


def test_two_processes_write_the_table_of_one(done, dataset, tmp_path):
    options = evaluation(tmp_path, done / "supervised" / "0" / "models" / "model.pt")
    run("supervised", "train", "evaluate", dataset_dir=str(dataset), **options)
    for name in ("scores.csv", "scores.json"):
        assert (done / "scores" / "0" / name).read_text() == (tmp_path / name).read_text()


def test_two_processes_predict_each_case_once(done, dataset, tmp_path):
    model = done / "supervised" / "0" / "models" / "model.pt"
    options = {"dataset_dir": str(dataset), "checkpoint": str(model), "output_dir": str(tmp_path)}
    run("supervised", "inference", kind="infer", **options)
    shares = [list((done / "predictions" / str(rank)).iterdir()) for rank in (0, 1)]
    assert [len(share) for share in shares] == [1, 2]
    predictions = [path for share in shares for path in share]
    assert sorted(path.name for path in predictions) == sorted(path.name for path in tmp_path.iterdir())
    for path in predictions:
        ours, theirs = nibabel.load(path), nibabel.load(tmp_path / path.name)
        np.testing.assert_array_equal(ours.get_fdata(), theirs.get_fdata())


@pytest.mark.parametrize("overlay", ["multi_gpu_evaluate", "multi_gpu_inference"])
def test_overlays_are_the_same_in_all_bundles(overlay):
    files = {(ROOT / "bundles" / name / "configs" / f"{overlay}.json").read_text() for name in BUNDLES}
    assert len(files) == 1


if __name__ == "__main__":
    work(Path(sys.argv[1]), Path(sys.argv[2]))
