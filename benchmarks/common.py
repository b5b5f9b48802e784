# SPDX-License-Identifier: Apache-2.0
"""What the benchmark scripts share: the bundle runner as a process of its own, its logs, the machine, the tables."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "benchmarks" / "runs"
RESULTS = ROOT / "benchmarks" / "results"

sys.path.insert(0, str(ROOT))  # a script sees its own folder only, and the package need not be installed


class BenchmarkError(ValueError):
    """A step that failed, in one line."""


def shown_path(path: str | Path) -> str:
    """Return a path relative to the repository where it lies in it or beside it, as results show it."""
    path = Path(path).resolve()
    return Path(os.path.relpath(path, ROOT)).as_posix() if ROOT.parent in path.parents else path.as_posix()


def data_argument(dataset_dir: str) -> str:
    """Return a data folder as the bundle runner, which starts in the repository, takes it; built-in names stay."""
    return dataset_dir if dataset_dir.startswith("builtin:") else shown_path(dataset_dir)


def bundle_command(
    bundle: str, files: Sequence[str], options: Mapping[str, Any], run_id: str | None = None
) -> list[str]:
    """Return the bundle runner's command line, to be started in the repository.

    Args:
        bundle: name of the folder in `bundles/`.
        files: config files relative to the bundle's `configs/`, a later one changes an earlier.
        options: top-level ids and their values.
        run_id: what to run; None is the config's own "run".
    """
    paths = ",".join(f"'bundles/{bundle}/configs/{file}'" for file in files)
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return [
        *(sys.executable, "-m", "monai.bundle", "run", *([run_id] if run_id else [])),
        *("--config_file", f"[{paths}]", *arguments),
    ]


def shown_data(dataset_dir: str | Path) -> str:
    """Return a data folder's name in capitals, for the reader to put a folder of theirs; built-in names stay."""
    return str(dataset_dir) if str(dataset_dir).startswith("builtin:") else Path(dataset_dir).resolve().name.upper()


def shown_command(command: Sequence[str]) -> str:
    """Return a command line as one would type it in the repository, see `shown_data`."""
    parts = ["python" if command[0] == sys.executable else command[0], *command[1:]]
    parts = [shown_data(part) if before == "--dataset_dir" else part for before, part in pairwise(["", *parts])]
    return " ".join(f'"{part}"' if re.search(r"[\s\[\]()']", part) else part for part in parts)


def script_command(script: str, arguments: Sequence[str] | None) -> str:
    """Return the command line that a benchmark was started with."""
    return shown_command(["python", shown_path(script), *(sys.argv[1:] if arguments is None else arguments)])


def run_bundle(command: Sequence[str], log: Path, threads: int | None = None, append: bool = False) -> None:
    """Run one command of the bundle runner to its end.

    Args:
        command: see `bundle_command`.
        log: file that gets everything it prints.
        threads: processor threads; None leaves the number to PyTorch.
        append: whether to keep what the log holds.

    Raises:
        BenchmarkError: with the last line of the log and its path.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    with log.open("a" if append else "w", encoding="utf-8") as stream:
        code = subprocess.run(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
        ).returncode
    if code:
        lines = [line.strip() for line in _text(log).splitlines() if line.strip()]
        raise BenchmarkError(f"exit code {code}: {lines[-1] if lines else 'no output'} (log: {shown_path(log)})")


def training_seconds(log: Path) -> float | None:
    """Return the time of all epochs that a training's log tells of, an epoch that was repeated counted once."""
    pattern = r"Trainer: Epoch\[(\d+)\] Complete\. Time taken: (\d+):(\d+):([\d.]+)"
    epochs = {int(epoch): 3600 * int(h) + 60 * int(m) + float(s) for epoch, h, m, s in re.findall(pattern, _text(log))}
    return sum(epochs.values()) if epochs else None


def seconds_a_case(log: Path) -> float | None:
    """Return the mean time of a case by an evaluation's log: from the file to the prediction on its grid, no scoring.

    The first line stands for the first case, which warms up, so it counts only where there is no other.
    """
    lines = re.findall(r"(?:^|: )case (\d+)/\d+.*?  ([\d.]+) (s/case|case/s)", _text(log), flags=re.MULTILINE)
    times = [(int(done), 1 / float(speed) if unit == "case/s" else float(speed)) for done, speed, unit in lines]
    if not times:
        return None
    if len(times) == 1:
        return times[0][1]
    steps = [(done - before, time) for (before, _), (done, time) in zip(times, times[1:], strict=False)]
    return sum(count * time for count, time in steps) / sum(count for count, _ in steps)


def git_commit() -> str:
    """Return the checkout's commit, with "-dirty" where tracked files other than the results differ from it."""
    commit = _git("rev-parse", "--short=10", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    return "unknown" if commit is None else f"{commit}-dirty" if changed else commit


def _git(*arguments: str) -> str | None:
    answer = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return answer.stdout.strip() if answer.returncode == 0 else None


def machine() -> str:
    """Return processor, cores, accelerator, version of PyTorch and the precision that "auto" means there."""
    import torch  # here, because it takes seconds that the rest does not need

    from medssl_components.engines import resolve_precision

    cuda = torch.cuda.is_available()
    precision = resolve_precision("auto", "cuda" if cuda else "cpu") or torch.float32
    parts = [_processor(), f"{os.cpu_count()} cores", *([torch.cuda.get_device_name()] if cuda else [])]
    return ", ".join([*parts, f"torch {torch.__version__}", str(precision).removeprefix("torch.")])


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        BenchmarkError: if it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{shown_path(path)}: cannot be read as JSON ({error})") from error


def write_text(path: Path, text: str) -> None:
    """Write a file in one step, so that a stopped script leaves the earlier one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="utf-8", newline="")
    os.replace(temporary, path)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with a line break at its end."""
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *rows])


def plot_over_training(
    lines: Sequence[tuple[Sequence[float], Sequence[float], Mapping[str, Any]]], quantity: str, columns: int, path: Path
) -> None:
    """Draw lines over the iterations, with their names below the plot.

    Args:
        lines: of each one the iterations, the values, and what matplotlib's `plot` takes, `label` among it.
        quantity: title of the vertical axis.
        columns: of the names.
        path: the picture's file.
    """
    import matplotlib  # here, because most scripts draw nothing

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 5), layout="constrained")
    for steps, values, style in lines:
        axis.plot(steps, values, **style)
    axis.set(xlabel="iterations", ylabel=quantity)
    axis.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside lower center", ncols=columns)
    figure.savefig(path, dpi=120)


def number(value: float | None, digits: int) -> str:
    """Return a table's cell; a missing value is a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), flags=re.MULTILINE) if info.is_file() else None
    return found[1].strip() if found else platform.processor() or platform.machine()
