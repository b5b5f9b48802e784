# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from medssl_components.data import DataError
from medssl_components.engines import ResumeCheckpoint


def engine(method: nn.Module, half: bool) -> Engine:
    """Return what the handler takes of a trainer, after two epochs of five iterations."""
    made = Engine(lambda engine, batch: None)
    made.method, made.optimizer = method, torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    made.scaler = torch.amp.GradScaler("cpu", enabled=half)
    made.state.iteration, made.state.epoch, made.state.epoch_length, made.state.max_epochs = 10, 2, 5, 4
    made.state.device = torch.device("cpu")
    return made


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_a_run_goes_on_in_another_precision(tmp_path: Path, before: bool, after: bool) -> None:
    handler, saved, loaded = ResumeCheckpoint(str(tmp_path), "run"), *(nn.Linear(2, 1) for _ in range(2))
    handler.save(engine(saved, half=before))
    fresh = engine(loaded, half=after)
    fresh.state.iteration = fresh.state.epoch = 0
    handler.load(fresh)
    assert torch.equal(loaded.weight, saved.weight)
    assert (fresh.state.iteration, fresh.state.epoch) == (10, 2)


def test_another_network_is_one_line(tmp_path: Path) -> None:
    handler = ResumeCheckpoint(str(tmp_path), "run")
    handler.save(engine(nn.Linear(2, 1), half=False))
    with pytest.raises(DataError, match="does not fit this method and network; resume with the same$"):
        handler.load(engine(nn.Linear(3, 1), half=False))
