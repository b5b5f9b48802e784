# SPDX-License-Identifier: Apache-2.0
"""Time and memory of steps that are measured in turn."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from common import number

Step = Callable[[], object]


class Measurement(NamedTuple):
    """Median seconds of a step, its ratios to the first step, one a repetition, and its peak memory in MB."""

    seconds: float
    ratios: list[float]
    megabytes: float | None

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)


def measure(steps: Mapping[str, Step], repetitions: int) -> dict[str, Measurement]:
    """Measure all steps repetition by repetition, so that what else the machine does meets them alike."""
    for step in steps.values():  # the first call chooses kernels and makes the optimiser's state
        step()
    peaks = {name: peak_megabytes(step) for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repetitions):
        for name, step in steps.items():
            times[name].append(seconds(step))
    base = next(iter(times.values()))
    return {
        name: Measurement(statistics.median(own), [a / b for a, b in zip(own, base, strict=True)], peaks[name])
        for name, own in times.items()
    }


def cells_of(measurements: Mapping[str, Measurement]) -> list[list[str]]:
    """Return for each step its name, median seconds, ratio to the first one and peak memory."""
    return [
        [name, number(own.seconds, 4), number(own.ratio, 3), number(own.megabytes, 0)]
        for name, own in measurements.items()
    ]


def seconds(step: Step) -> float:
    """Return the time of a step, the device's work included."""
    start = time.perf_counter()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_megabytes(step: Step) -> float | None:
    """Return what a step needs on top of what was held before; on a CPU by the kernel's count, where it keeps one."""
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    try:
        ctypes.CDLL(None).malloc_trim(0)  # gives back what earlier steps left in the allocator
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is held now
        before = _resident("VmRSS")
        step()
        return (_resident("VmHWM") - before) / 2**10
    except (AttributeError, OSError, TypeError):  # only Linux with glibc has all three
        return None


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
