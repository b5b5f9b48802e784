# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch.distributed as dist
from torch.utils.data import DataLoader

from medssl_components.engines import share_of_cases


@pytest.fixture
def shares(monkeypatch):
    """Return a function that gives the shares of all processes, as lists."""

    def of(cases, processes, **options):
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_world_size", lambda: processes)
        found = []
        for rank in range(processes):
            monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
            found.append(list(share_of_cases(range(cases), **options)))
        return found

    return of


def test_one_process_has_all_cases():
    assert list(share_of_cases("abc")) == [0, 1, 2]


@pytest.mark.parametrize(("cases", "processes"), [(4, 2), (5, 2), (7, 3), (3, 3), (8, 5)])
@pytest.mark.parametrize("idle", [False, True])
def test_every_case_is_in_one_share_and_shares_are_almost_equal(shares, cases, processes, idle):
    found = shares(cases, processes, idle=idle)
    assert [case for share in found for case in share] == list(range(cases))
    lengths = [len(share) for share in found]
    assert max(lengths) - min(lengths) <= 1


def test_with_too_few_cases_all_processes_have_all_or_some_none(shares):
    assert shares(2, 3) == [[0, 1]] * 3
    assert shares(2, 3, idle=True) == [[], [0], [1]]
    assert shares(0, 2) == shares(0, 2, idle=True) == [[], []]


def test_a_share_is_a_sampler(shares, monkeypatch):
    assert shares(5, 2)[1] == [2, 3, 4]
    loader = DataLoader(["a", "b", "c", "d", "e"], batch_size=None, sampler=share_of_cases(range(5)))
    assert list(loader) == ["c", "d", "e"]  # the fixture left this process the second of two
    assert len(loader) == 3
