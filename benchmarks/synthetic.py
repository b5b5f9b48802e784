# SPDX-License-Identifier: Apache-2.0
"""Train a bundle on the built-in scans with the few labels and with all of them, and print the mean test Dice of each.

    python benchmarks/synthetic.py

The budget is that of the bundle's `train.json`, which is the demo's. The built-in scans are hard enough if the few
labels stay below `--ceiling` and all labels are better by `--margin`. The result goes to
`benchmarks/results/synthetic.md`.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
from collections.abc import Sequence

from common import (
    RESULTS,
    RUNS,
    BenchmarkError,
    bundle_command,
    git_commit,
    machine,
    markdown_table,
    number,
    read_json,
    run_bundle,
    script_command,
    shown_path,
    training_seconds,
    write_text,
)

DATA = {"few": "builtin:one_organ", "all": "builtin:one_organ_all_labels"}


def measure(bundle: str, labels: str, seed: int) -> tuple[float, list[str]]:
    """Train and evaluate once, and return the mean Dice and the table's row."""
    folder = RUNS / f"synthetic_{bundle}_{labels}_seed{seed}"
    models = shown_path(folder / "models")
    shared = {"dataset_dir": DATA[labels], "ckpt_dir": models}
    training = {**shared, "seed": seed, "output_dir": shown_path(folder / "eval")}
    run_bundle(bundle_command(bundle, ["train.json"], training, run_id="training"), folder / "train.log")
    evaluation = {**shared, "eval_dir": shown_path(folder / "scores"), "figures": 0}
    run_bundle(bundle_command(bundle, ["train.json", "evaluate.json"], evaluation), folder / "scores.log")
    scores = read_json(folder / "scores" / "scores.json")["mean_over_classes"]
    seconds = training_seconds(folder / "train.log")
    cells = [number(scores[key]["mean"], digits) for key, digits in (("dice", 4), ("hd95_mm", 2), ("asd_mm", 2))]
    return scores["dice"]["mean"], [labels, str(seed), *cells, number(None if seconds is None else seconds / 60, 1)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; the exit code is 1 if a run failed or the scans are too easy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="supervised")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--ceiling", type=float, default=0.85, help="the few labels should stay below this mean Dice")
    parser.add_argument("--margin", type=float, default=0.05, help="by which all labels should be better")
    options = parser.parse_args(arguments)

    dice: dict[str, list[float]] = {labels: [] for labels in DATA}
    rows = []
    for seed in options.seeds:
        for labels in DATA:
            try:
                value, row = measure(options.bundle, labels, seed)
            except BenchmarkError as error:
                parser.exit(1, f"error: {options.bundle}, {labels} labels, seed {seed}: {error}\n")
            dice[labels].append(value)
            rows.append(row)
            print(f"{options.bundle}, {labels} labels, seed {seed}: mean test Dice {value:.4f}", flush=True)
    few, every = (statistics.fmean(values) for values in dice.values())
    holds = few < options.ceiling and every - few >= options.margin
    verdict = (
        f"Mean Dice {few:.4f} with the few labels, {every:.4f} with all, {every - few:.4f} more. Asked for: below "
        f"{options.ceiling:g} with the few, and {options.margin:g} more with all: {'yes' if holds else 'no'}."
    )
    print(verdict)
    head = ["labels", "seed", "mean Dice", "95HD (mm)", "ASD (mm)", "training (min)"]
    text = (
        f"# Built-in scans, bundle {options.bundle}\n\n    {script_command(__file__, arguments)}\n\n"
        f"{machine()}; commit {git_commit()}; {datetime.date.today().isoformat()}. "
        "Scores on the built-in test cases.\n\n"
    )
    write_text(RESULTS / "synthetic.md", f"{text}{markdown_table(head, rows)}\n{verdict}\n")
    return int(not holds)


if __name__ == "__main__":
    raise SystemExit(main())
