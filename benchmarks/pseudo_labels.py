# SPDX-License-Identifier: Apache-2.0
"""Compare what trained networks predict on their unlabelled cases with the labels that training never saw.

    python benchmarks/pseudo_labels.py benchmarks/hippocampus.json --dataset_dir DIR [--cases 24]

It takes the runs that `real_data.py` has made of this list, at each of their checkpoints. "Agreed" are the voxels where
all that a bundle's network predicts agrees (`--uncertainty disagreement` of inference), in all windows; a bundle that
predicts once has none. Table and plot go to `benchmarks/results/<list>_pseudo_labels.md` and `.png`.
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bundle_run import Run, read_runs
from common import (
    RESULTS,
    ROOT,
    BenchmarkError,
    bundle_command,
    git_commit,
    machine,
    markdown_table,
    number,
    plot_over_training,
    run_bundle,
    script_command,
    shown_data,
    shown_path,
    write_text,
)


class Quality(NamedTuple):
    """Means over cases: Dice over all voxels; of the agreed voxels their share, in the objects too, and their Dice."""

    dice: float
    agreed: float | None = None
    agreed_of_objects: float | None = None
    agreed_dice: float | None = None


def withheld_cases(run: Run, dataset_dir: str, count: int) -> list[tuple[Path, Path]]:
    """Return scan and label of the first unlabelled cases of a run that do have a label on disk."""
    from medssl_components.data import CaseFolder

    folder = CaseFolder(dataset_dir, labeled=run.labeled)
    names = [name for name in folder.names["unlabeled"] if name in folder.labels][:count]
    return [(folder.images[name][0], folder.labels[name]) for name in names]


def predict(run: Run, checkpoint: Path, images: Sequence[Path], output: Path, disagreement: bool) -> None:
    """Predict scans with one checkpoint, unless that is done.

    Raises:
        BenchmarkError: if the bundle's inference fails.
    """
    if (output / "done").is_file():
        return
    configs = ROOT / "bundles" / run.bundle / "configs"
    options = {
        "checkpoint": shown_path(checkpoint),
        "inputs": [str(path.resolve()) for path in images],
        "output_dir": shown_path(output),
        "overwrite": True,
        **({"uncertainty": "disagreement"} if disagreement else {}),
    }
    settings = os.path.relpath(run.model.with_name("settings.json"), configs)
    run_bundle(bundle_command(run.bundle, ["inference.json", settings], options), output.with_suffix(".log"))
    (output / "done").touch()


def quality(output: Path, cases: Sequence[tuple[Path, Path]], disagreement: bool) -> Quality:
    """Compare predictions with labels."""
    import nibabel
    import numpy as np

    def dice(prediction: np.ndarray, label: np.ndarray) -> float:
        both = [(prediction == index, label == index) for index in np.unique(label[label > 0])]
        return float(np.mean([2 * (p & r).sum() / max(1, p.sum() + r.sum()) for p, r in both]))

    rows = []
    for image, path in cases:
        name = image.name.removesuffix(".gz").removesuffix(".nii")
        label = np.asarray(nibabel.load(path).dataobj)
        prediction = np.asarray(nibabel.load(output / f"{name}.nii.gz").dataobj)
        row = [dice(prediction, label)]
        if disagreement:
            agreed = np.asarray(nibabel.load(output / f"{name}_uncertainty.nii.gz").dataobj) < 1e-3
            row += [agreed.mean(), agreed[label > 0].mean(), dice(prediction[agreed], label[agreed])]
        rows.append(row)
    return Quality(*map(statistics.fmean, zip(*rows, strict=True)))


def plot(curves: dict[str, dict[int, Quality]], path: Path) -> None:
    """Draw the pseudo-labels' Dice over the training, one line a bundle, dashed for the agreed voxels alone."""
    lines = []
    for index, (name, points) in enumerate(curves.items()):
        steps, color = sorted(points), f"C{index}"
        lines.append((steps, [points[step].dice for step in steps], {"marker": "o", "color": color, "label": name}))
        agreed = [points[step].agreed_dice for step in steps]
        if None not in agreed:
            style = {"linestyle": "--", "marker": ".", "color": color, "label": f"{name}, agreed voxels"}
            lines.append((steps, agreed, style))
    plot_over_training(lines, "mean Dice on unlabelled cases", 2, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path, help="list of configurations, such as benchmarks/la_cpu.json")
    parser.add_argument("--dataset_dir", required=True, help="folder of the data set")
    parser.add_argument("--seed", type=int, default=0, help="whose runs to take")
    parser.add_argument("--cases", type=int, default=24, help="number of unlabelled cases")
    options = parser.parse_args(arguments)
    curves: dict[str, dict[int, Quality]] = {}
    rows = []
    try:
        for run in read_runs(options.list):
            cases = withheld_cases(run, options.dataset_dir, options.cases)
            if run.seed != options.seed or not cases or not run.model.is_file():
                continue
            title = ", ".join(part for part in (run.bundle, run.variant, f"{run.labeled} labels") if part)
            disagreement = run.bundle in bundles_with_disagreement()
            for iteration, checkpoint in run.checkpoints().items():
                output = run.folder / "pseudo_labels" / f"iteration_{iteration}"
                predict(run, checkpoint, [image for image, _ in cases], output, disagreement)
                found = quality(output, cases, disagreement)
                curves.setdefault(title, {})[iteration] = found
                rows.append([title, str(iteration), *(number(value, 4) for value in found)])
                print(*rows[-1], flush=True)
    except BenchmarkError as error:
        parser.exit(1, f"error: {error}\n")
    if not rows:
        parser.exit(1, f"error: no finished run of {options.list} with unlabelled cases; start real_data.py first\n")
    head = ["run", "iteration", "Dice", "agreed voxels", "agreed voxels of objects", "Dice of agreed voxels"]
    name = options.list.stem
    path = RESULTS / f"{name}_pseudo_labels.md"
    write_text(
        path,
        f"# Predictions on unlabelled cases, {name}\n\n"
        f"    {script_command(__file__, arguments)}\n\n"
        f"Means over the first {options.cases} unlabelled cases (over the classes first), whose labels training never "
        f"saw; seed {options.seed}. Agreed: all that the network predicts of a voxel is the same, in all windows.\n\n"
        f"{markdown_table(head, rows)}\n![]({name}_pseudo_labels.png)\n\n"
        f"{machine()}; data {shown_data(options.dataset_dir)}; commit {git_commit()}; "
        f"{datetime.date.today().isoformat()}.\n",
    )
    plot(curves, path.with_suffix(".png"))
    return 0


def bundles_with_disagreement() -> set[str]:
    """Return the bundles whose networks tell where their predictions disagree."""
    from monai.bundle import ConfigParser
    from monai.utils import optional_import

    found = set()
    for file in ROOT.glob("bundles/*/configs/inference.json"):
        module, name = ConfigParser.load_config_file(file)["network_def"]["_target_"].rsplit(".", 1)
        if hasattr(optional_import(module, name=name)[0], "forward_with_uncertainty"):
            found.add(file.parent.parent.name)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
