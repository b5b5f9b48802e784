# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import timing  # noqa: E402


def test_steps_are_measured_in_turn_against_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock = {"a": iter([2.0, 4.0, 1.0]), "b": iter([3.0, 2.0, 5.0])}

    def seconds(step: timing.Step) -> float:
        step()
        return next(clock[calls[-1]])

    monkeypatch.setattr(timing, "seconds", seconds)
    measured = timing.measure({name: lambda name=name: calls.append(name) for name in clock}, 3)
    assert calls == ["a", "b"] * 5  # two rounds of warm-up
    assert measured["a"].ratios == [1.0, 1.0, 1.0]
    assert measured["b"].ratios == [1.5, 0.5, 5.0]
    assert (measured["a"].seconds, measured["b"].seconds, measured["b"].ratio) == (2.0, 3.0, 1.5)


def test_peak_memory_sees_what_a_step_frees_again() -> None:
    held = timing.peak_megabytes(lambda: torch.ones(64, 2**18).sum())
    if held is None:
        pytest.skip("the kernel keeps no count of the peak memory that can be set back")
    assert 60 < held < 100
