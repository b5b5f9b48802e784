# SPDX-License-Identifier: Apache-2.0
"""A fingerprint in lines to read."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .fingerprint import Fingerprint


def describe_fingerprint(fingerprint: Fingerprint) -> list[str]:
    """Return a line for the cases, the channels, voxels, shapes, intensities, and one for each class."""
    counts = fingerprint.counts
    lines = [
        f"cases: {counts['labeled']} labelled, {counts['unlabeled']} unlabelled, {counts['validation']} validation, "
        f"{counts['test']} test",
        f"channels: {fingerprint.in_channels}" + "".join(f", {name}" for name in fingerprint.channels),
        f"voxels (mm): {_range(fingerprint.spacings, '.4g')}",
        f"shapes: {_range(fingerprint.shapes, 'g')}",
        f"extent (mm): {_range(fingerprint.spacings * fingerprint.shapes, '.4g')}",
    ]
    for channel, (low, middle, high) in enumerate(fingerprint.foreground_percentiles):
        values = fingerprint.foreground[channel].astype(np.float64)
        lines.append(
            f"foreground, channel {channel}: 0.5, 50 and 99.5 percentiles {low:.4g}, {middle:.4g}, {high:.4g}; "
            f"mean {values.mean():.4g}, standard deviation {values.std():.4g}"
        )
    for index, name in enumerate(fingerprint.class_names):
        cases = len(fingerprint.with_class(index))
        line = f"class {index} {name}: {100 * fingerprint.class_share(index):.3g} % of the voxels, in {cases} of "
        line += f"{len(fingerprint.labelled)} labels"
        if index and cases:
            box = _sides(fingerprint.class_box(index), ".3g")
            line += f", median {fingerprint.class_volume(index) / 1000:.3g} mL in a box of {box} mm"
        lines.append(line)
    return lines


def _range(values: np.ndarray, form: str) -> str:
    least, most = values.min(axis=0), values.max(axis=0)
    if np.allclose(least, most, rtol=1e-3):
        return f"{_sides(least, form)} in all"
    return f"{_sides(least, form)} to {_sides(most, form)}, median {_sides(np.median(values, axis=0), form)}"


def _sides(sides: Iterable[float], form: str) -> str:
    return " x ".join(format(side, form) for side in sides)
