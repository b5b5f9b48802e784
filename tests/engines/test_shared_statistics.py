# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging

import pytest
import torch
import torch.distributed as dist
from torch import nn

from medssl_components.data import DataError
from medssl_components.engines import average_statistics, sync_batchnorm


@pytest.fixture
def other(monkeypatch):
    """A process beside this one, whose statistics are those given, in order; returns how often they were added."""
    sums = []

    def add(there):
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_world_size", lambda: 2)
        monkeypatch.setattr(dist, "all_reduce", lambda here: sums.append(here.add_(torch.tensor(there))))
        return sums

    return add


def layers():
    method = nn.Sequential(nn.BatchNorm3d(2), nn.InstanceNorm3d(2), nn.Sequential(nn.BatchNorm1d(1)))
    method[0].running_mean.copy_(torch.tensor([1.0, 2.0]))
    method[2][0].running_var.fill_(5.0)
    return method


def test_running_statistics_become_the_mean_over_the_processes(other):
    method, sums = layers(), other([3.0, 0.0, 1.0, 2.0, -4.0, 1.0])  # mean, variance of the first layer, then the next
    average_statistics(method)
    torch.testing.assert_close(method[0].running_mean, torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(method[0].running_var, torch.tensor([1.0, 1.5]))
    torch.testing.assert_close(method[2][0].running_mean, torch.tensor([-2.0]))
    torch.testing.assert_close(method[2][0].running_var, torch.tensor([3.0]))
    assert len(sums) == 1  # one transfer for all layers


def test_nothing_is_sent_without_statistics_of_a_process_of_its_own(other):
    sums = other([0.0])
    average_statistics(
        nn.Sequential(nn.Linear(1, 1), nn.BatchNorm3d(1, track_running_stats=False), nn.SyncBatchNorm(1))
    )
    assert sums == []


def test_one_process_keeps_its_statistics():
    method = layers()
    average_statistics(method)
    assert method[0].running_mean.tolist() == [1.0, 2.0]


def test_synchronised_layers_keep_parameters_statistics_and_names():
    method = layers()
    before, weight, inner = method.state_dict(), method[0].weight, method[2]
    changed = sync_batchnorm(method, "true", "cuda:0")
    assert changed is method and method[2] is inner
    assert [type(layer) for layer in (method[0], inner[0])] == [nn.SyncBatchNorm] * 2
    assert isinstance(method[1], nn.InstanceNorm3d)
    assert method[0].weight is weight  # what an optimiser made before goes on to train
    torch.testing.assert_close(method.state_dict(), before)


def test_synchronised_layers_have_to_be_asked_for_and_need_a_gpu(caplog):
    assert type(sync_batchnorm(layers(), "false", "cuda:0")[0]) is nn.BatchNorm3d
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert type(sync_batchnorm(layers(), True, "cpu")[0]) is nn.BatchNorm3d
    assert "needs GPUs" in caplog.text
    with pytest.raises(DataError, match="^sync_batchnorm is 'ture'; give true or false$"):
        sync_batchnorm(layers(), "ture", "cpu")
