# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
import torch
from ignite.engine import Engine
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from medssl_components.data import CaseFolder
from medssl_components.engines import LazySummaryWriter, PublishModel, publish_model


def engine(process=lambda engine, batch: None):
    made = Engine(process)
    made.state.rank = 0
    return made


def publish(tmp_path, run, network=None):
    return PublishModel(
        str(tmp_path / "models"),
        str(tmp_path / run),
        network or nn.Linear(1, 1),
        {"spacing": run},
        CaseFolder("builtin:one_organ").labeled,
    )


def test_publishes_weights_and_settings_on_completion(tmp_path, caplog):
    network, made = nn.Linear(1, 1), engine()
    publish(tmp_path, "run_001", network).attach(made)
    made.run([0])
    state = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert torch.equal(state["weight"], network.weight)
    for folder in ("models", "run_001"):
        assert json.loads((tmp_path / folder / "settings.json").read_text()) == {"spacing": "run_001"}
    assert "built-in synthetic scans" in caplog.text


def test_weights_of_a_gpu_are_published_for_any_machine(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(publish_model, "atomic_save", lambda state, path: saved.append(state))
    network, made = nn.Linear(1, 1), engine()
    with FakeTensorMode():  # tensors without memory, which can be of a GPU that is not there
        on_gpu = {name: torch.zeros(1, device="cuda") for name in ("weight", "bias")}
    monkeypatch.setattr(network, "state_dict", lambda: dict(on_gpu))
    publish(tmp_path, "run_001", network).attach(made)
    made.run([0])
    assert {name: value.device.type for name, value in saved[0].items()} == dict.fromkeys(on_gpu, "cpu")


def test_earlier_model_moves_to_the_new_run(tmp_path):
    for run in ("run_001", "run_002"):
        made = engine()
        publish(tmp_path, run).attach(made)
        made.run([0])
    assert (tmp_path / "run_002" / "previous_model.pt").is_file()
    assert json.loads((tmp_path / "run_002" / "previous_settings.json").read_text()) == {"spacing": "run_001"}


def test_an_exception_publishes_nothing(tmp_path):
    def fail(engine, batch):
        raise ZeroDivisionError

    made = engine(fail)
    publish(tmp_path, "run_001").attach(made)
    with pytest.raises(ZeroDivisionError):
        made.run([0])
    assert not (tmp_path / "models").exists()


def test_other_processes_write_nothing(tmp_path):
    made = engine()
    made.state.rank = 1
    publish(tmp_path, "run_001").attach(made)
    made.run([0])
    assert list(tmp_path.iterdir()) == []


def test_summary_writer_makes_no_file_before_it_is_used(tmp_path):
    writer = LazySummaryWriter(str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    writer.add_scalar("loss", 1.0, 1)
    writer.close()
    assert len(list((tmp_path / "run").iterdir())) == 1
