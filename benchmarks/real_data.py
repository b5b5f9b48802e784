# SPDX-License-Identifier: Apache-2.0
"""Train and evaluate a list of bundle configurations on a data set, and write the table of their scores.

    python benchmarks/real_data.py benchmarks/la_cpu.json --dataset_dir DIR [--parallel 2]

The list is a JSON file: "overlay" names a file in the bundles' `configs/datasets/` (without it, `train.json` alone is
taken), "snapshot_interval" is a number of epochs, "options" are those of all runs, and each of the "configurations" has
"bundle", "labeled", "seeds" and, where a bundle is measured with other options than its own, "options" or "overlays"
(further config files) and a "variant" that names them.

The script goes on where it was stopped: what is trained or scored is not done again, and a training that was stopped is
resumed at the end of its last epoch. Each run has its folder `benchmarks/runs/<list>_<bundle>_labeled<N>_seed<S>`, and
the tables are `benchmarks/results/<list>.md` and `.csv`. Rows of runs that were made elsewhere, and so have no folder
here, stay as the `.csv` has them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import psutil
from bundle_run import Run, read_runs
from common import (
    RESULTS,
    BenchmarkError,
    data_argument,
    git_commit,
    machine,
    read_json,
    run_bundle,
    script_command,
    shown_command,
    shown_path,
    write_text,
)
from score_report import csv_report, markdown_report, read_records, run_record


def training_process(run: Run) -> int | None:
    """Return the id of a living process that trains this run, whoever started it."""
    models = run.model.parent.resolve()
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        command, folder = process.info["cmdline"] or [], process.info["cwd"]
        if folder and "--ckpt_dir" in command[:-1]:
            if Path(folder, command[command.index("--ckpt_dir") + 1]).resolve() == models:
                return process.info["pid"]
    return None


def train(run: Run, dataset_dir: str, threads: int, setting: str, commit: str) -> None:
    """Train a run from the start, or from where it was stopped, unless that is done.

    Args:
        run: the run.
        dataset_dir: the data.
        threads: processor threads of the training.
        setting: the machine in words, for the run's record.
        commit: what a run without a record was started at, if it is resumed.

    Raises:
        BenchmarkError: if the training fails, or is under way in another process.
    """
    if run.model.is_file():
        return
    if process := training_process(run):
        log = shown_path(run.log)
        raise BenchmarkError(f"is being trained by process {process}; repeat this command later (log: {log})")
    resume = run.started_run() is not None
    command = run.training_command(dataset_dir, resume)
    now = {"commit": git_commit(), "date": today(), "machine": setting}
    path = run.folder / "run.json"
    if resume:
        info = read_json(path) if path.is_file() else {"name": run.name, "commit": commit}
        info["resumed"] = [*info.get("resumed", []), now]
    else:
        info = {"name": run.name, "command": shown_command(command), **now}
    write_text(path, json.dumps(info, indent=2) + "\n")
    run_bundle(command, run.log, threads, append=resume)


def evaluate(run: Run, dataset_dir: str, threads: int) -> None:
    """Score the run's checkpoints on the test cases, those that have no scores yet.

    Raises:
        BenchmarkError: if an evaluation fails.
    """
    for iteration, checkpoint in run.checkpoints().items():
        scores = run.scores(iteration)
        if not scores.is_file():
            command = run.evaluation_command(dataset_dir, iteration, checkpoint)
            run_bundle(command, scores.parent.with_suffix(".log"), threads)


def finish_all(
    runs: Sequence[Run], dataset_dir: str, parallel: int, setting: str, commit: str
) -> Iterator[tuple[Run, BenchmarkError | None]]:
    """Train and evaluate all runs, so many at once, and yield each with its error as it ends."""
    threads = max(1, (os.cpu_count() or 1) // parallel)

    def finish(run: Run) -> None:
        train(run, dataset_dir, threads, setting, commit)
        evaluate(run, dataset_dir, threads)

    pool = ThreadPoolExecutor(parallel)
    try:
        futures = {pool.submit(finish, run): run for run in runs}
        for future in as_completed(futures):
            error = future.exception()
            if error is not None and not isinstance(error, (BenchmarkError, OSError)):
                raise error
            yield futures[future], error
    finally:
        pool.shutdown(cancel_futures=True)  # after an interruption nothing more is started


def today() -> str:
    """Return the date."""
    return datetime.date.today().isoformat()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; the exit code is 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path, help="list of configurations, such as benchmarks/la_cpu.json")
    parser.add_argument("--dataset_dir", required=True, help="folder of the data set")
    parser.add_argument("--parallel", type=int, default=1, help="trainings at once; they share the cores")
    parser.add_argument("--table", action="store_true", help="train and evaluate nothing, write the table only")
    parser.add_argument("--commit", default="unknown", help="commit of runs that have no run.json")
    options = parser.parse_args(arguments)
    if options.parallel < 1:
        parser.error("--parallel must be 1 or more")
    try:
        runs = read_runs(options.list)
    except BenchmarkError as error:
        parser.exit(2, f"error: {error}\n")

    data = data_argument(options.dataset_dir)
    head = {
        "dataset": options.list.stem,
        "script": script_command(__file__, arguments),
        "example": shown_command(runs[0].training_command(data)),
        "commit": git_commit(),
        "date": today(),
    }

    markdown_file, csv_file = (RESULTS / f"{head['dataset']}.{kind}" for kind in ("md", "csv"))
    rows = read_records(csv_file.read_text(encoding="utf-8")) if csv_file.is_file() else []
    earlier = {(row["bundle"], row["labeled"], row["seed"]): row for row in rows}

    def write_tables() -> None:
        records = [run_record(run, options.commit) or earlier.get((run.title, run.labeled, run.seed)) for run in runs]
        done = [record for record in records if record is not None]
        missing = [run.name for run, record in zip(runs, records, strict=True) if record is None]
        write_text(markdown_file, markdown_report(done, missing, head))
        write_text(csv_file, csv_report(done))

    write_tables()
    failed = False
    if not options.table:
        setting = f"{machine()}, {options.parallel} at once"
        for run, error in finish_all(runs, data, options.parallel, setting, options.commit):
            failed = failed or error is not None
            print(f"{run.name}: {error or 'done'}", flush=True)
            write_tables()
    print(f"table: {shown_path(markdown_file)}")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
