# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from medssl_components.engines.progress_window import ProgressWindow, format_duration, format_value


def test_numbers_are_readable() -> None:
    assert [format_duration(s) for s in (45, 1200, 3600 * 3 + 300)] == ["45 s", "20 min", "3 h 05 min"]
    assert [format_value(v) for v in (0.43123, 0.0, 2.5e-6, float("nan"))] == ["0.4312", "0.0000", "2.5e-06", "nan"]


def test_a_window_gives_means_over_iterations_and_speed_in_units() -> None:
    window = ProgressWindow()
    assert window.speed("it") == ""
    window.add({"loss": 1.0}, units=2, seconds=0.5)
    window.add({"loss": 2.0, "part": 3.0}, units=2, seconds=0.5)
    assert window.means() == {"loss": "1.5000", "part": "1.5000"}
    assert (window.speed("it"), window.iterations) == ("4.0 it/s", 2)
    window.add({}, units=0, seconds=7)
    assert window.speed("it") == "2.0 s/it"
