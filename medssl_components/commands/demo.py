# SPDX-License-Identifier: Apache-2.0
"""See a bundle work: train, evaluate and predict on the built-in scans."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from monai.transforms import LoadImaged

from ..data import CaseFolder, DataError, case_name
from ..engines import atomic_path, cases_figure, on_label_grid
from ..packaging import REPOSITORY, bundle_folder

DATASET = "builtin:one_organ"
logger = logging.getLogger("medssl")


def demo(bundle: str = "dbisl", output_dir: str = "demo_output", cases: int = 3, **options: Any) -> None:
    """Train a bundle through MONAI's bundle runner on the built-in synthetic scans, evaluate it and predict.

    It ends with a table of scores and a picture: scan, label, prediction and uncertainty side by side.

    Args:
        bundle: name of a folder in `bundles/`, or the path of a bundle's folder.
        output_dir: where models, logs, predictions and the picture go.
        cases: number of test cases in the picture.
        options: passed on to the training, for example `max_epochs=2`.

    Raises:
        DataError: for an unknown bundle, or if one of the three commands fails.
    """
    configs = os.path.relpath(bundle_folder(bundle) / "configs", REPOSITORY)
    train = f"{configs}/train.json"
    output = Path(output_dir).resolve()
    folders = {"ckpt_dir": output / "models", "output_dir": output / "eval", "dataset_dir": DATASET}
    started = time.monotonic()
    _run_bundle(["training"], [train], {**folders, **options})
    trained = time.monotonic() - started
    evaluation = {**folders, "eval_dir": output / "evaluation"}
    settings = str(output / "models" / "settings.json")
    _run_bundle([], [train, f"{configs}/evaluate.json", settings], evaluation)
    prediction = {**folders, "output_dir": output / "predictions", "uncertainty": True, "overwrite": True}
    _run_bundle([], [f"{configs}/inference.json", settings], prediction)
    picture = output / "demo.png"
    _draw(output, picture, cases)
    scores = json.loads((output / "evaluation" / "scores.json").read_text(encoding="utf-8"))
    logger.info("%s", _table(bundle, scores, trained, time.monotonic() - started))
    logger.info("picture: %s", picture)


def _run_bundle(run_id: list[str], files: list[str], options: dict[str, Any]) -> None:
    arguments = ["-m", "monai.bundle", "run", *run_id, "--config_file", files[0] if len(files) == 1 else str(files)]
    arguments += [text for key, value in options.items() for text in (f"--{key}", str(value))]
    logger.info("\n$ python %s\n", " ".join(f'"{text}"' if set(text) & set(" []'") else text for text in arguments))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])}
    code = subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, env=environment, check=False).returncode
    if code:
        raise DataError(f"the command above ended with exit code {code}; its last line says why")


def _draw(output: Path, picture: Path, number: int) -> None:
    settings = json.loads((output / "models" / "settings.json").read_text(encoding="utf-8"))
    predictions = output / "predictions"
    load = LoadImaged(keys=["image", "label", "pred", "uncertainty"], ensure_channel_first=True)
    rows = []
    for case in CaseFolder(DATASET).test[:number]:
        name = case_name(case["image"])
        files = {
            key: predictions / f"{name}{tail}.nii.gz" for key, tail in (("pred", ""), ("uncertainty", "_uncertainty"))
        }
        item = load({**case, **files})
        rows.append({**on_label_grid(item), "title": name})
    figure = cases_figure(rows, title="built-in scans", class_names=settings["class_names"])
    with atomic_path(picture) as path:
        figure.savefig(path, dpi=110)


def _table(bundle: str, scores: dict[str, Any], trained: float, total: float) -> str:
    columns = {"Dice": "dice", "95HD (mm)": "hd95_mm", "ASD (mm)": "asd_mm"}
    values = [f"{scores['mean_over_classes'][key]['mean']:.3f}" for key in columns.values()]
    head = ["bundle", *columns, "training", "in all"]
    row = [bundle, *values, f"{trained / 60:.1f} min", f"{total / 60:.1f} min"]
    widths = [max(len(a), len(b)) for a, b in zip(head, row, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in (head, row)]
    return f"mean over {scores['num_cases']} test cases\n" + "\n".join(lines)
