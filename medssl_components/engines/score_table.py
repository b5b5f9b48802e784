# SPDX-License-Identifier: Apache-2.0
"""The table of scores that an evaluation leaves behind."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing

from ..data import case_name
from ..metrics import segmentation_scores
from .atomic_save import atomic_path
from .score_summary import score_lines, scores_csv, summarise_scores

logger = logging.getLogger(__name__)


class ScoreTable:
    """Handler of a MONAI evaluator that scores every case and writes ``scores.csv`` and ``scores.json``.

    Each iteration it reads ``engine.state.output``, the decollated list of dicts, where prediction and label are
    `MetaTensor` of shape (1, X, Y[, Z]) that hold class indices on the label's own grid, so attach it after the
    post-processing that brings the prediction there. The rules for empty masks are those of
    :func:`~medssl_components.metrics.segmentation_scores`.

    When the run completes, ``scores.csv`` gets one row for each case and class, and ``scores.json`` the mean and the
    standard deviation (``n - 1``) over cases with the number of cases behind them, for each class and over classes; a
    case's score over classes is the mean of its defined class scores. Undefined scores are empty cells and null. Each
    file is replaced in one step; a run without a case writes nothing. ``engine.state.scores`` gets the content of
    ``scores.json``, and the log a table.

    Where the items of ``engine.state.batch`` have a "domain", the rows have a column for it, ``scores.json`` has the
    same summary for the cases of each domain, under ``domains``, and the table more lines.

    Args:
        output_dir: folder of the two files, made when they are written.
        class_names: names of all classes, the background first.
        label_key: key of the reference in the output.
        pred_key: key of the prediction in the output.
        empty_distance: distances of a prediction that has no voxel of a class that the reference has.
        gather: whether to collect the cases of all processes where ``torch.distributed`` is initialised; a case that
            several processes saw counts once, and only the first process writes. Set it to false if one process
            evaluates alone.

    Raises:
        ValueError: If ``class_names`` has no foreground class or a name twice.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        class_names: Sequence[str],
        label_key: str = "label",
        pred_key: str = "pred",
        empty_distance: float = 0.0,
        gather: bool = True,
    ) -> None:
        if len(class_names) < 2 or len(set(class_names)) < len(class_names):
            raise ValueError(f"class_names must be distinct, the background first, then the classes: {class_names}.")
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.label_key = label_key
        self.pred_key = pred_key
        self.empty_distance = float(empty_distance)
        self.gather = gather
        self._rows: dict[str, list[dict[str, Any]]] = {}  # by the path of the case: names may repeat across folders

    def attach(self, engine: Engine) -> None:
        """Register the handler.

        Args:
            engine: evaluator whose output is decollated.
        """
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self._rows = {}
        engine.state.scores = {}

    def _score(self, engine: Engine) -> None:
        if not isinstance(engine.state.output, list):
            raise ValueError("ScoreTable reads a list of cases: give the evaluator decollate=True.")
        domains = _domains(engine.state.batch, len(engine.state.output))
        for domain, item in zip(domains, engine.state.output, strict=True):
            label, prediction = self._volume(item, self.label_key), self._volume(item, self.pred_key)
            path = label.meta.get("filename_or_obj") or prediction.meta.get("filename_or_obj")
            if not path:
                raise ValueError(f"'{self.label_key}' has no file name: set its meta key 'filename_or_obj'.")
            try:
                scores = segmentation_scores(
                    prediction.as_tensor()[0].cpu().numpy(),
                    label.as_tensor()[0].cpu().numpy(),
                    len(self.class_names),
                    affine_to_spacing(label.affine, r=label.ndim - 1).tolist(),
                    self.empty_distance,
                )
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            case = {"case": case_name(path), "domain": domain}
            self._rows[str(path)] = [
                {**case, "class": self.class_names[index], **class_scores._asdict()}
                for index, class_scores in scores.items()
            ]

    def _volume(self, item: dict[str, Any], key: str) -> MetaTensor:
        volume = item.get(key)
        if not isinstance(volume, MetaTensor) or volume.shape[0] != 1:
            found = tuple(volume.shape) if isinstance(volume, torch.Tensor) else type(volume).__name__
            raise ValueError(
                f"'{key}' must be a MetaTensor with one channel of class indices, got {found}: use argmax."
            )
        return volume

    def _finish(self, engine: Engine) -> None:
        gathers = self.gather and torch.distributed.is_available() and torch.distributed.is_initialized()
        cases = self._rows
        if gathers:
            shares: list[dict[str, list[dict[str, Any]]]] = [{}] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(shares, self._rows)
            cases = {path: rows for share in shares for path, rows in share.items()}
        writes = not gathers or torch.distributed.get_rank() == 0
        if not cases:
            if writes:
                logger.warning("No case was evaluated, so no scores were written to %s.", self.output_dir)
            return
        rows = [
            row for _, case in sorted(cases.items(), key=lambda item: (item[1][0]["case"], item[0])) for row in case
        ]
        engine.state.scores = summarise_scores(rows, self.class_names, self.empty_distance)
        if writes:
            with atomic_path(self.output_dir / "scores.csv") as path:
                path.write_text(scores_csv(rows), encoding="utf-8", newline="")
            with atomic_path(self.output_dir / "scores.json") as path:
                path.write_text(json.dumps(engine.state.scores, indent=2, allow_nan=False) + "\n", encoding="utf-8")
            self._log(engine.state.scores)

    def _log(self, summary: dict[str, Any]) -> None:
        title = f"Scores of {summary['num_cases']} cases, mean (standard deviation), written to {self.output_dir}:"
        logger.info("\n".join([title, *score_lines(summary)]))
        counts = {name: part["empty_predictions"] for name, part in summary["classes"].items()}
        if any(counts.values()):
            logger.warning(
                "Empty predictions of a class that the reference has: %s. They count with Dice 0 and distances %s.",
                ", ".join(f"{name} {count} of {summary['num_cases']} cases" for name, count in counts.items() if count),
                "left out" if math.isnan(self.empty_distance) else f"{self.empty_distance:g}",
            )


def _domains(batch: Any, number: int) -> list[str]:
    """The domain of each case of a decollated batch; "" for a case without one."""
    items = batch if isinstance(batch, list) and len(batch) == number else [None] * number
    return [item.get("domain", "") if isinstance(item, dict) else "" for item in items]
