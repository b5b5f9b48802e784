# SPDX-License-Identifier: Apache-2.0
"""Losses, speed and times of a progress line, in words."""

from __future__ import annotations

from collections.abc import Mapping


def format_duration(seconds: float) -> str:
    """Give a time to read at a glance: `45 s`, `20 min`, `3 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def format_value(value: float) -> str:
    """Give a loss four decimals, or its order of magnitude where those would all be zero."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"


class ProgressWindow:
    """Sums since the last line: values by name, units of work, and the seconds spent on them."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.iterations = 0
        self.units = 0
        self.seconds = 0.0

    def add(self, values: Mapping[str, float], units: int, seconds: float) -> None:
        """Count one iteration: its values, the units of work in it, and its seconds."""
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
        self.iterations += 1
        self.units += units
        self.seconds += seconds

    def means(self) -> dict[str, str]:
        """Return the mean of each value over the iterations."""
        return {key: format_value(total / self.iterations) for key, total in self.sums.items()}

    def speed(self, unit: str) -> str:
        """Return units a second, or seconds a unit where that is more than one; empty before anything is counted."""
        if self.units == 0 or self.seconds <= 0:
            return ""
        rate = self.units / self.seconds
        return f"{rate:.1f} {unit}/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit}"
