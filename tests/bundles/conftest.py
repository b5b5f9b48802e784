# SPDX-License-Identifier: Apache-2.0
"""What the tests of the bundles share: the working directory, a small data set, and a training of one iteration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow

ROOT = Path(__file__).resolve().parents[2]
SHORT = {"max_epochs": 1, "iterations_per_epoch": 1}


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    """Run each test where the README's commands are run."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def dataset(make_folder, tmp_path_factory) -> Path:
    """Return a folder of two labelled cases, two unlabelled ones and one to predict."""
    return make_folder(tmp_path_factory.mktemp("data"), labeled=2, unlabeled=2, test=1)


@pytest.fixture
def paths(dataset, tmp_path) -> dict[str, str]:
    """Return the options that name the data and the folders of a run."""
    folders = {"ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "eval", "dataset_dir": dataset}
    return {key: str(folder) for key, folder in folders.items()}


@pytest.fixture
def workflow(request, paths) -> Callable[..., ConfigWorkflow]:
    """Return a function `workflow(*names, **options)`: a training by `train.json` and further files of `configs/`.

    The module that asks says which bundle it is, `CONFIGS`, and how small a network, `TINY`.
    """
    configs, tiny = request.module.CONFIGS, request.module.TINY

    def make(*names: str, **options: object) -> ConfigWorkflow:
        files = [str(configs / f"{name}.json") for name in ("train", *names)]
        return ConfigWorkflow(files, workflow_type="train", **{**tiny, **SHORT, **paths, **options})

    return make


@pytest.fixture
def train(workflow) -> Callable[..., ConfigWorkflow]:
    """Return a function `train(*names, **options)` that runs such a training and returns it."""

    def run(*names: str, **options: object) -> ConfigWorkflow:
        flow = workflow(*names, **options)
        flow.initialize()
        flow.run()
        return flow

    return run
