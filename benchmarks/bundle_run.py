# SPDX-License-Identifier: Apache-2.0
"""One run of a benchmark: a training through the bundle runner and the evaluations of its checkpoints."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from common import ROOT, RUNS, BenchmarkError, bundle_command, read_json, shown_path


@dataclass(frozen=True)
class Run:
    """One training and the evaluation of its checkpoints.

    Args:
        overlay: name of a file in the bundle's `configs/datasets/`; empty for `train.json` alone.
        bundle: name of a folder in `bundles/`.
        labeled: how many training cases keep their label, or "all".
        seed: of the training.
        snapshot_interval: epochs between the checkpoints that are scored besides the last; 0 is none.
        variant: names the options in the table and in the run's folder.
        options: top-level ids that differ from the bundle's own.
        overlays: further config files, relative to the bundle's `configs/`.
        table: name of the list that the run belongs to; without one, that of the overlay.
    """

    overlay: str
    bundle: str
    labeled: int | str
    seed: int
    snapshot_interval: int = 0
    variant: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    overlays: tuple[str, ...] = ()
    table: str = ""

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        parts = [self.table or self.overlay, self.bundle, self.variant, f"labeled{self.labeled}", f"seed{self.seed}"]
        return "_".join(part for part in parts if part)

    @property
    def title(self) -> str:
        """What the tables call the bundle and its variant."""
        return f"{self.bundle} ({self.variant})" if self.variant else self.bundle

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return RUNS / self.name

    @property
    def log(self) -> Path:
        """What the training prints."""
        return self.folder / "train.log"

    @property
    def model(self) -> Path:
        """The network of the last iteration, which is there when the training has completed."""
        return self.folder / "models" / "model.pt"

    @property
    def files(self) -> list[str]:
        """The config files of the training, relative to the bundle's `configs/`."""
        dataset = [f"datasets/{self.overlay}.json"] if self.overlay else []
        return ["train.json", *dataset, *self.overlays]

    @cached_property
    def epochs(self) -> tuple[int, int]:
        """Number of epochs and of iterations in each."""
        configs = [read_json(ROOT / "bundles" / self.bundle / "configs" / file) for file in self.files]
        merged = {key: value for config in [*configs, self.options] for key, value in config.items()}
        return merged["max_epochs"], merged["iterations_per_epoch"]

    def started_run(self) -> Path | None:
        """Return the folder of the newest training that has a checkpoint, the one that `--resume` takes."""
        found = {int(path.parent.name[4:]): path.parent for path in self.folder.glob("eval/run_*/checkpoint.pt")}
        return found[max(found)] if found else None

    def checkpoints(self) -> dict[int, Path]:
        """Return the files to score by their iteration, the last one being the final model."""
        max_epochs, iterations = self.epochs
        started = self.started_run()
        steps = range(self.snapshot_interval, max_epochs, self.snapshot_interval) if self.snapshot_interval else []
        # MONAI's CheckpointSaver builds this name of its prefix, the saved object's name and the epoch
        paths = {epoch * iterations: started / f"snapshot_model_epoch={epoch}.pt" for epoch in steps if started}
        found = {iteration: path for iteration, path in paths.items() if path.is_file()}
        return {**found, max_epochs * iterations: self.model}

    def scores(self, iteration: int) -> Path:
        """Return the file with the scores after that many iterations."""
        return self.folder / "scores" / f"iteration_{iteration}" / "scores.json"

    def training_command(self, dataset_dir: str, resume: bool = False) -> list[str]:
        """Return the bundle runner's command that trains."""
        folder = shown_path(self.folder)
        options = {
            "dataset_dir": dataset_dir,
            "labeled": self.labeled,
            "seed": self.seed,
            "snapshot_interval": self.snapshot_interval,
            "ckpt_dir": f"{folder}/models",
            "output_dir": f"{folder}/eval",
            **self.options,
            **({"resume": True} if resume else {}),
        }
        return bundle_command(self.bundle, self.files, options, run_id="training")

    def evaluation_command(self, dataset_dir: str, iteration: int, checkpoint: Path) -> list[str]:
        """Return the bundle runner's command that scores one checkpoint on the test cases."""
        options = {
            "dataset_dir": dataset_dir,
            "checkpoint": shown_path(checkpoint),
            "eval_dir": shown_path(self.scores(iteration).parent),
            "figures": 0,
            **self.options,
        }
        return bundle_command(self.bundle, [*self.files, "evaluate.json"], options)


def read_runs(path: Path) -> list[Run]:
    """Return the runs of a list of configurations, in its order.

    Raises:
        BenchmarkError: for a list that cannot be used.
    """
    content = read_json(path)
    try:
        runs = [
            Run(
                content.get("overlay", ""),
                line["bundle"],
                line["labeled"],
                seed,
                content.get("snapshot_interval", 0),
                line.get("variant", ""),
                {**content.get("options", {}), **line.get("options", {})},
                tuple(line.get("overlays", ())),
                path.stem,
            )
            for line in content["configurations"]
            for seed in line["seeds"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise BenchmarkError(f"{shown_path(path)}: configurations are incomplete ({error})") from error
    names = [run.name for run in runs]
    if not names:
        raise BenchmarkError(f"{shown_path(path)}: lists no configuration")
    for name in names:
        if names.count(name) > 1:
            raise BenchmarkError(f"{shown_path(path)}: {name} is there twice; give one of the two a variant")
        if not re.fullmatch(r"[\w.-]+", name):
            raise BenchmarkError(f"{shown_path(path)}: {name!r} cannot be a folder's name")
    for run in runs:
        run.epochs  # noqa: B018  a missing bundle or overlay is found before anything is trained
    return runs
