# SPDX-License-Identifier: Apache-2.0
"""The folder of one training run."""

from __future__ import annotations

import re
from pathlib import Path

from ..data import DataError, flag

CHECKPOINT = "checkpoint.pt"


def run_folder(output_dir: str, resume: bool | str = False) -> str:
    """Return the folder that a training writes to: a new one, or that of the run to go on with.

    Nothing is made on disk. Runs are `run_001`, `run_002`, ... and a new run gets the next free number.

    Args:
        output_dir: where the folders of all runs lie.
        resume: true goes on with the newest run that has a checkpoint; a text is the name of a run or a path.

    Raises:
        DataError: if there is nothing to resume.
    """
    if str(resume).lower() in ("true", "false"):
        resume = flag(resume, "resume")
    root = Path(output_dir)
    runs = {int(path.name[4:]): path for path in root.glob("run_*") if re.fullmatch(r"run_\d+", path.name)}
    if not resume:
        used = [number for number, path in runs.items() if any(path.iterdir())]  # a run that failed at once leaves none
        return str(root / f"run_{max(used, default=0) + 1:03d}")
    if resume is True:
        found = [path for _, path in sorted(runs.items()) if (path / CHECKPOINT).is_file()]
        if not found:
            raise DataError(f"resume: no run with a {CHECKPOINT} in {root}; leave --resume out to start one")
        return str(found[-1])
    path = Path(resume) if Path(resume).is_dir() else root / resume
    if not (path / CHECKPOINT).is_file():
        raise DataError(f"resume: {path} has no {CHECKPOINT}; give the name of a run in {root}")
    return str(path)
