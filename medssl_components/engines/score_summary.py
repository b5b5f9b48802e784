# SPDX-License-Identifier: Apache-2.0
"""Means and standard deviations of the scores of all cases, and how they are written down."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

UNITS = {
    "dice": "fraction",
    "jaccard": "fraction",
    "hd95_voxel": "voxel",
    "hd95_mm": "mm",
    "asd_voxel": "voxel",
    "asd_mm": "mm",
}
COLUMNS = ("case", "class", *UNITS, "empty_prediction")


def summarise_scores(
    rows: Sequence[dict[str, Any]], class_names: Sequence[str], empty_distance: float
) -> dict[str, Any]:
    """Return the content of ``scores.json``: mean and deviation of each score, for each class and over classes.

    Args:
        rows: one dict for each case and class, the classes of a case in order, with "domain", the scores named in
            `UNITS`, "empty_prediction" and "absent".
        class_names: names of all classes, the background first.
        empty_distance: what the distances of an empty prediction were set to.
    """
    whole = _part(rows, class_names[1:])
    summary = {
        "num_cases": whole.pop("num_cases"),
        "units": UNITS,
        "empty_distance": _number(empty_distance),
        **whole,
    }
    domains = sorted({row["domain"] for row in rows} - {""})
    if domains:
        summary["domains"] = {
            name: _part([row for row in rows if row["domain"] == name], class_names[1:]) for name in domains
        }
    return summary


def score_lines(summary: dict[str, Any]) -> list[str]:
    """Return a summary as the lines of a table, one for each class and for each class of a domain."""
    table = [["", *UNITS]]
    domains = summary.get("domains", {}).items()
    groups = {"": summary, **{f"{name} ({group['num_cases']} cases): ": group for name, group in domains}}
    for prefix, group in groups.items():
        parts = dict(group["classes"])
        if len(parts) > 1:
            parts["mean over classes"] = group["mean_over_classes"]
        for name, part in parts.items():
            table.append([prefix + name, *(_cell(part[metric]) for metric in UNITS)])
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def scores_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as the text of ``scores.csv``; a score that is not defined is an empty cell."""
    text = io.StringIO()
    columns = (COLUMNS[0], "domain", *COLUMNS[1:]) if any(row["domain"] for row in rows) else COLUMNS
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        scores = {metric: "" if math.isnan(row[metric]) else f"{row[metric]:.6f}" for metric in UNITS}
        writer.writerow({**row, **scores, "empty_prediction": int(row["empty_prediction"])})
    return text.getvalue()


def _part(rows: Sequence[dict[str, Any]], classes: Sequence[str]) -> dict[str, Any]:
    # (cases, classes): rows hold the classes of each case in order
    scores = {
        metric: np.array([row[metric] for row in rows], dtype=float).reshape(-1, len(classes)) for metric in UNITS
    }
    empty = np.array([row["empty_prediction"] for row in rows]).reshape(-1, len(classes))
    absent = np.array([row["absent"] for row in rows]).reshape(-1, len(classes))
    return {
        "num_cases": len(empty),
        "classes": {
            name: {
                **{metric: _statistics(values[:, index]) for metric, values in scores.items()},
                "empty_predictions": int(empty[:, index].sum()),
                "absent": int(absent[:, index].sum()),
            }
            for index, name in enumerate(classes)
        },
        "mean_over_classes": {
            **{metric: _statistics([_mean(case) for case in values]) for metric, values in scores.items()},
            "empty_predictions": int(empty.sum()),
            "absent": int(absent.sum()),
        },
    }


def _mean(values: Sequence[float]) -> float:
    """Mean of the values that are not NaN, NaN if there is none (without NumPy's warning)."""
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def _statistics(values: Sequence[float]) -> dict[str, float | int | None]:
    defined = [value for value in values if not math.isnan(value)]
    deviation = float(np.std(defined, ddof=1)) if len(defined) > 1 else math.nan
    return {"mean": _number(_mean(defined)), "std": _number(deviation), "cases": len(defined)}


def _number(value: float) -> float | None:
    """A value as JSON knows it."""
    return None if math.isnan(value) else value


def _cell(statistics: dict[str, float | int | None]) -> str:
    mean, deviation = statistics["mean"], statistics["std"]
    if mean is None:
        return "-"
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ({deviation:.4f})"
