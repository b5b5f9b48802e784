# SPDX-License-Identifier: Apache-2.0
"""Trainings whose settings, losses and scores MLflow keeps, by MONAI's option `--tracking mlflow`."""

from __future__ import annotations

import json

import pytest
from monai.bundle import ConfigWorkflow

from medssl_components.packaging import REPOSITORY

mlflow = pytest.importorskip("mlflow", reason="needs the extra: pip install -e .[mlflow]")

BUNDLES = sorted(path.parent.name for path in REPOSITORY.glob("bundles/*/configs"))
TINY = {"patch_size": [16, 16, 16], "spacing": [2.0, 2.0, 2.5], "network_def::base_channels": 2, "precision": "fp32"}
TINY |= {"iterations_per_epoch": 3, "val_interval": 1}


def train(name, dataset, folder, **options):
    # an expression, as in train.json: MONAI makes the names of what it keeps by adding to it
    paths = {"ckpt_dir": str(folder / "models"), "output_dir": f"$'{folder / 'eval'}'", "dataset_dir": str(dataset)}
    config = str(REPOSITORY / "bundles" / name / "configs" / "train.json")
    flow = ConfigWorkflow(config, workflow_type="train", tracking="mlflow", **TINY, **paths, **options)
    flow.initialize()
    flow.run()


def kept(folder):
    """Return the client and all runs, the first one first."""
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'eval' / 'mlruns.db'}")
    (experiment,) = (found for found in client.search_experiments() if found.name == "monai_experiment")
    return client, client.search_runs(experiment.experiment_id, order_by=["attributes.start_time"])


@pytest.fixture(scope="module")
def dataset(make_folder, tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data"), labeled=2, unlabeled=1, test=2, split=True)


@pytest.mark.parametrize("name", BUNDLES)
def test_settings_losses_and_scores_are_kept_and_a_resumed_training_is_a_run_of_its_own(name, dataset, tmp_path):
    train(name, dataset, tmp_path, max_epochs=2)
    client, (run,) = kept(tmp_path)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"max_epochs": "2", "epoch_length": "3"}
    losses = [client.get_metric_history(run.info.run_id, key) for key in ("train_loss", "lr_group_0")]
    assert [[metric.step for metric in history] for history in losses] == [[1, 2, 3, 4, 5, 6]] * 2
    assert len(client.get_metric_history(run.info.run_id, "val_mean_dice")) == 2
    (artifact,) = client.list_artifacts(run.info.run_id)
    config = json.loads((tmp_path / "eval" / artifact.path).read_text())
    assert config["max_epochs"] == 2 and config["method"]["_target_"].startswith("medssl_components.methods.")
    assert (tmp_path / "eval" / "mlruns" / run.info.run_id / "artifacts" / artifact.path).is_file()
    assert not {"tracking", "tracking_uri"} & set(json.loads((tmp_path / "models" / "settings.json").read_text()))

    train(name, dataset, tmp_path, max_epochs=3, resume=True)
    _, runs = kept(tmp_path)
    assert [(own.data.params["max_epochs"], own.info.status) for own in runs] == [("2", "FINISHED"), ("3", "FINISHED")]
    assert [metric.step for metric in client.get_metric_history(runs[1].info.run_id, "train_loss")] == [7, 8, 9]
    assert sorted(path.name for path in (tmp_path / "eval").glob("run_*")) == ["run_001"]
