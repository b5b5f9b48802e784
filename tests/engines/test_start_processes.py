# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from medssl_components.engines import start_processes, stop_processes


@pytest.fixture
def calls(monkeypatch):
    """What is asked of PyTorch and ignite, in order, in place of its effects."""
    seen = []
    monkeypatch.setattr(dist, "is_initialized", lambda: any(name == "init" for name, _ in seen))
    monkeypatch.setattr(dist, "init_process_group", lambda backend: seen.append(("init", backend)))
    monkeypatch.setattr(dist, "get_backend", lambda: dict(seen)["init"])
    monkeypatch.setattr(dist, "barrier", lambda: seen.append(("barrier", None)))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: seen.clear())
    monkeypatch.setattr("time.sleep", lambda seconds: seen.append(("sleep", seconds)))
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: seen.append(("device", index)))
    monkeypatch.setattr("ignite.distributed.sync", lambda: seen.append(("sync", None)))
    return seen


@pytest.mark.parametrize(("gpus", "backend"), [(False, "gloo"), (True, "nccl")])
def test_each_process_has_the_gpu_of_its_number_before_it_joins(calls, monkeypatch, gpus, backend):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus)
    monkeypatch.setenv("LOCAL_RANK", "3")
    start_processes()
    assert calls == [("device", 3)] * gpus + [("init", backend), ("sync", None)]


def test_starting_and_stopping_twice_is_starting_and_stopping_once(calls):
    start_processes("gloo")
    start_processes("gloo")
    assert calls == [("init", "gloo"), ("sync", None)]
    stop_processes()
    stop_processes()
    assert [name for name, _ in calls] == ["sleep"]


@pytest.mark.parametrize("backend", ["gloo", "nccl"])
def test_no_process_leaves_before_the_others_are_done(calls, monkeypatch, backend):
    monkeypatch.setattr(dist, "destroy_process_group", lambda: seen_at_the_end.extend(calls))
    seen_at_the_end = []
    calls.append(("init", backend))
    stop_processes()
    assert [name for name, _ in seen_at_the_end] == ["init", "barrier"]
    assert [name for name, _ in calls[2:]] == ["sleep"] * (backend == "gloo")
