# SPDX-License-Identifier: Apache-2.0
"""The table of a benchmark's runs, as Markdown to read and as CSV to go on with."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from bundle_run import Run
from common import markdown_table, number, read_json, training_seconds

# key in scores.json, column, decimals
METRICS = (
    ("jaccard", "Jaccard", 4),
    ("hd95_voxel", "95HD (voxel)", 2),
    ("hd95_mm", "95HD (mm)", 2),
    ("asd_voxel", "ASD (voxel)", 2),
    ("asd_mm", "ASD (mm)", 2),
)

# what the CSV file has of a record besides its values
ORIGIN = ("commit", "date", "machine", "num_cases", "empty_distance")

Record = dict[str, Any]


def run_record(run: Run, commit: str = "unknown") -> Record | None:
    """Return what a run's folder tells, or None while its final model has no scores.

    Args:
        run: the run.
        commit: the commit, where the folder has no `run.json` that names one.
    """
    iterations = list(run.checkpoints())
    if not run.scores(iterations[-1]).is_file():
        return None
    path = run.folder / "run.json"
    info = read_json(path) if path.is_file() else {}
    scores = {step: read_json(run.scores(step)) for step in iterations if run.scores(step).is_file()}
    last = scores[iterations[-1]]
    mean, classes = last["mean_over_classes"], last["classes"]
    seconds = training_seconds(run.log)
    values = {f"dice_{step}": part["mean_over_classes"]["dice"]["mean"] for step, part in scores.items()}
    if len(classes) > 1:
        values |= {f"dice_{name}": part["dice"]["mean"] for name, part in classes.items()}
    values |= {key: mean[key]["mean"] for key, _, _ in METRICS}
    values["empty_predictions"] = mean["empty_predictions"]
    values["training_minutes"] = None if seconds is None else seconds / 60
    commits = [info.get("commit", commit), *(part.get("commit", "unknown") for part in info.get("resumed", []))]
    return {
        "bundle": run.title,
        "labeled": run.labeled,
        "seed": run.seed,
        "commit": ", ".join(dict.fromkeys(commits)),
        "date": info.get("date"),
        "machine": info.get("machine"),
        "num_cases": last["num_cases"],
        "empty_distance": last["empty_distance"],
        "values": values,
    }


def read_records(text: str) -> list[Record]:
    """Return the records of a CSV file that `csv_report` has written."""
    records = []
    for row in csv.DictReader(io.StringIO(text)):
        if not row["seed"].isdigit():
            continue  # a mean or an end of the range, which are computed again
        origin = {key: row.pop(key, None) or None for key in ORIGIN}
        bundle, labeled, seed = (row.pop(key) for key in ("bundle", "labeled", "seed"))
        records.append(
            {
                **origin,
                "bundle": bundle,
                "labeled": int(labeled) if labeled.isdigit() else labeled,
                "seed": int(seed),
                "num_cases": origin["num_cases"] and int(origin["num_cases"]),
                "empty_distance": origin["empty_distance"] and float(origin["empty_distance"]),
                "values": {key: float(value) for key, value in row.items() if value},
            }
        )
    return records


def columns(records: Sequence[Record]) -> dict[str, tuple[str, int]]:
    """Return the titles and decimals of all values that the records have, in the table's order."""
    found = dict.fromkeys(key for record in records for key in record["values"])
    dice = [key.removeprefix("dice_") for key in found if key.startswith("dice_")]
    iterations = sorted(int(part) for part in dice if part.isdigit())
    classes = [part for part in dice if not part.isdigit()]
    return {
        **{f"dice_{step}": (f"Dice at {step}", 4) for step in iterations},
        **{f"dice_{name}": (f"Dice {name}", 4) for name in classes},
        **{key: (title, digits) for key, title, digits in METRICS},
        "empty_predictions": ("empty predictions", 0),
        "training_minutes": ("training (min)", 0),
    }


def configurations(records: Sequence[Record]) -> list[list[Record]]:
    """Return the records of each configuration, by number of labels and then in the order of the bundles."""
    groups: dict[tuple[str, Any], list[Record]] = {}
    bundles = list(dict.fromkeys(record["bundle"] for record in records))
    for record in records:
        groups.setdefault((record["bundle"], record["labeled"]), []).append(record)

    def order(group: tuple[str, Any]) -> tuple[float, int]:
        bundle, labeled = group
        return labeled if isinstance(labeled, int) else math.inf, bundles.index(bundle)

    return [sorted(groups[group], key=lambda record: record["seed"]) for group in sorted(groups, key=order)]


def mean_and_range(values: Sequence[float | None]) -> tuple[float, float, float] | None:
    """Return mean, least and largest value, or None if a value is missing: the mean would be of other runs."""
    known = [value for value in values if value is not None]
    return (sum(known) / len(known), min(known), max(known)) if known and len(known) == len(values) else None


def markdown_report(records: Sequence[Record], missing: Sequence[str], head: Mapping[str, str]) -> str:
    """Return the text of the Markdown file.

    Args:
        records: of the runs that are done.
        missing: names of the others.
        head: "dataset", "script" (the command of this table), "example" (that of a training), "commit", "date".
    """
    cases = " and ".join(str(count) for count in dict.fromkeys(record["num_cases"] for record in records))
    parts = [
        f"# {head['dataset']}\n\n    {head['script']}\n\ntrains with the bundle runner, one run like this:\n\n"
        f"    {head['example']}\n\n"
    ]
    for title, key in (("Machine", "machine"), ("Runs started", "date")):
        found = list(dict.fromkeys(record[key] or "unknown" for record in records))
        parts.append(f"- {title}: {'; '.join(found) or '-'}\n")
    parts.append(
        f"- Table written: {head['date']} at commit {head['commit']}; the runs' own commits are in the table\n"
    )
    if not records:
        return "".join([*parts, "\nNo run has been scored yet.\n", _missing_line(missing)])
    distances = " and ".join(dict.fromkeys(_distance(record["empty_distance"]) for record in records))
    parts.append(
        f"- Scores: mean over {cases} test cases (over the classes first), of the network at the iteration named, else "
        f"at the last one. An empty prediction of a class that is there counts with Dice 0, {distances}.\n"
    )
    several = any(len(group) > 1 for group in configurations(records))
    if several:
        parts.append("- Several seeds: mean (least to largest); each seed stands below.\n")
    shown = columns(records)
    titles = [title for title, _ in shown.values()]
    rows = [_row(group, shown) for group in configurations(records)]
    parts += ["\n", markdown_table(["bundle", "labels", "seeds", *titles, "commit"], rows)]
    if several:
        rows = [_row([record], shown) for group in configurations(records) if len(group) > 1 for record in group]
        parts += ["\n## Each seed\n\n", markdown_table(["bundle", "labels", "seed", *titles, "commit"], rows)]
    return "".join([*parts, _missing_line(missing)])


def csv_report(records: Sequence[Record]) -> str:
    """Return the text of the CSV file: a line for each run, and for several seeds their mean, least and largest."""
    shown = columns(records)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["bundle", "labeled", "seed", *shown, *ORIGIN])

    def write(record: Record, seed: Any, values: Sequence[float | None], origin: Sequence[Any] = ()) -> None:
        cells = ["" if value is None else f"{value:.10g}" for value in values]
        writer.writerow([record["bundle"], record["labeled"], seed, *cells, *(origin or [""] * len(ORIGIN))])

    for group in configurations(records):
        for record in group:
            values = [record["values"].get(key) for key in shown]
            write(record, record["seed"], values, [record[key] for key in ORIGIN])
        if len(group) > 1:
            statistics = [_over_seeds(group, key) or (None, None, None) for key in shown]
            for index, name in enumerate(("mean", "min", "max")):
                write(group[0], name, [values[index] for values in statistics])
    return text.getvalue()


def _over_seeds(group: Sequence[Record], key: str) -> tuple[float, float, float] | None:
    return mean_and_range([record["values"].get(key) for record in group])


def _row(group: Sequence[Record], shown: Mapping[str, tuple[str, int]]) -> list[str]:
    cells = []
    for key, (_, digits) in shown.items():
        mean, least, largest = _over_seeds(group, key) or (None, None, None)
        if len(group) == 1 or mean is None:
            cells.append(number(mean, digits))
        else:
            # the mean of a count is no whole number
            mean_digits = max(1, digits)
            cells.append(f"{mean:.{mean_digits}f} ({least:.{digits}f} to {largest:.{digits}f})")
    seeds = ", ".join(str(record["seed"]) for record in group)
    commits = ", ".join(dict.fromkeys(record["commit"] for record in group))
    return [group[0]["bundle"], str(group[0]["labeled"]), seeds, *cells, commits]


def _distance(value: float | None) -> str:
    return "and its distances are left out" if value is None else f"distances {value:g}"


def _missing_line(missing: Sequence[str]) -> str:
    return f"\nNot there yet: {', '.join(missing)}.\n" if missing else ""
