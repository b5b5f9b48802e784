# SPDX-License-Identifier: Apache-2.0
"""Compare DTLP-Net's teachers and their ensemble, over the training, with labels that training never saw.

    python benchmarks/dtlp_teachers.py benchmarks/hippocampus.json --dataset_dir DIR [--patches 96]

It takes the checkpoints of a `dtlp` run that `real_data.py` has made with `benchmarks/overlays/dtlp_teachers.json`,
which keeps the student beside the second teacher, and gives them random patches of unlabelled cases as the training
does: as many at once, with the training's augmentation. Table and plot go to
`benchmarks/results/<list>_dtlp_teachers.md` and `.png`.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path

import torch
from bundle_run import Run, read_runs
from common import (
    RESULTS,
    ROOT,
    BenchmarkError,
    git_commit,
    machine,
    markdown_table,
    number,
    plot_over_training,
    script_command,
    shown_data,
    write_text,
)

from medssl_components.engines import autocast, resolve_precision

MEMBERS = ("diffusion alone", "labelled decoder alone", "first teacher", "second teacher", "ensemble", "student")
DISAGREEMENT = ("voxels", "the first is right", "the second is right", "the ensemble follows the second")


def configuration(run: Run, dataset_dir: str):
    """Return the parser of a run's training."""
    from monai.bundle import ConfigParser

    configs = ROOT / "bundles" / run.bundle / "configs"
    parser = ConfigParser(ConfigParser.load_config_files([str(configs / file) for file in run.files]))
    parser.update({**run.options, "dataset_dir": dataset_dir, "labeled": run.labeled, "seed": run.seed})
    parser.get_parsed_content("imports")
    return parser


def withheld_patches(run: Run, dataset_dir: str, count: int) -> list[dict[str, torch.Tensor]]:
    """Return random patches of the run's unlabelled cases with their labels, in the batches of its training.

    Raises:
        BenchmarkError: if no unlabelled case has a label on disk.
    """
    cases = configuration(run, dataset_dir).get_parsed_content("cases")
    names = [name for name in cases.names["unlabeled"] if name in cases.labels]
    if not names:
        raise BenchmarkError(f"{dataset_dir}: none of the unlabelled cases of {run.name} has a label to compare with")
    parser = configuration(run, dataset_dir)
    parser["labeled"] = names
    dataset, size = parser.get_parsed_content("train::dataset"), parser.get_parsed_content("batch_size")["unlabeled"]
    dataset.transform.set_random_state(run.seed)
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(run.seed)).tolist()
    patches = [dataset[order[index % len(order)]] for index in range(count)]
    batches = [patches[start : start + size] for start in range(0, count - size + 1, size)]
    return [{key: torch.stack([patch[key] for patch in batch]) for key in ("image", "label")} for batch in batches]


@torch.no_grad()
def qualities(
    run: Run, parser, epoch: int, batches: Sequence[dict[str, torch.Tensor]]
) -> tuple[list[float], list[float]]:
    """Return the Dice of each of `MEMBERS`, and the shares in `DISAGREEMENT`, of all patches taken together.

    Dice is the mean over the classes; the shares behind the first are of the voxels where the two teachers disagree.
    """
    method, network, device = (parser.get_parsed_content(name) for name in ("method", "network", "device"))
    folder = run.started_run()
    method.teachers.average.start(network)  # now, as its first use would put the student in place of what is loaded
    for name, module in (("student", network), ("model", method.published)):
        state = torch.load(folder / f"snapshot_{name}_epoch={epoch}.pt", map_location=device, weights_only=True)
        module.load_state_dict(state)
    dtype = resolve_precision(parser.get_parsed_content("precision"), device)
    method.to(device).train()
    torch.manual_seed(run.seed)
    overlap, sizes, shares, voxels = 0, 0, 0, 0
    for batch in batches:
        image, label = batch["image"].to(device), batch["label"].to(device).long()
        with autocast(device, dtype):
            teaching = method.teachers(network, image[:0], image)
            student = network.eval()(image).float().softmax(1)
            network.train()
        said = [teaching.soft[0], teaching.soft[-1], teaching.first, teaching.second, teaching.probs, student]
        classes = torch.arange(1, network.num_classes, device=device).view(-1, 1)
        label, chosen = label.flatten(), torch.stack([probs.max(1).indices.flatten() for probs in said])
        of_class, truth = chosen.unsqueeze(1) == classes, label == classes
        overlap = overlap + (of_class & truth).sum(2)
        sizes = sizes + of_class.sum(2) + truth.sum(1)
        first, second, ensemble = chosen[2:5]
        disagree = first != second
        right = torch.stack([disagree, first == label, second == label, ensemble == second]) & disagree
        shares, voxels = shares + right.sum(1), voxels + label.numel()
    dice = (2 * overlap / sizes.clamp(min=1)).mean(1).tolist()
    return dice, [(shares[0] / voxels).item(), *(shares[1:] / shares[0].clamp(min=1)).tolist()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path, help="list of configurations, such as benchmarks/hippocampus.json")
    parser.add_argument("--dataset_dir", required=True, help="folder of the data set")
    parser.add_argument("--seed", type=int, default=0, help="whose run to take")
    parser.add_argument("--patches", type=int, default=96, help="number of patches")
    options = parser.parse_args(arguments)
    try:
        runs = [run for run in read_runs(options.list) if (run.bundle, run.seed) == ("dtlp", options.seed)]
        run = next((run for run in runs if saved_epochs(run)), None)
        if run is None:
            raise BenchmarkError(f"no run of dtlp in {options.list} has kept its teachers; start real_data.py first")
        batches = withheld_patches(run, options.dataset_dir, options.patches)
        built, epochs = configuration(run, options.dataset_dir), saved_epochs(run)
        steps = [epoch * run.epochs[1] for epoch in epochs]
        rows = [qualities(run, built, epoch, batches) for epoch in epochs]
    except BenchmarkError as error:
        parser.exit(1, f"error: {error}\n")
    path = RESULTS / f"{options.list.stem}_dtlp_teachers.md"
    dice, shares = zip(*rows, strict=True)
    table, disagreement = table_of(steps, MEMBERS, dice), table_of(steps, DISAGREEMENT, shares)
    print(f"{table}\n{disagreement}", flush=True)
    write_text(
        path,
        f"# DTLP-Net's teachers, {options.list.stem}\n\n    {script_command(__file__, arguments)}\n\n"
        f"Dice on {sum(len(batch['label']) for batch in batches)} random patches of unlabelled cases, taken together "
        f"(mean over the classes), whose labels training never saw; {run.labeled} labels, seed {run.seed}. The first "
        "teacher is the mean of the diffusion, softened, and the labelled decoder; the second is the student's "
        f"average, which is published.\n\n{table}\n![]({path.stem}.png)\n\nWhere the two teachers disagree, as a "
        f"share of all voxels, and shares of these:\n\n{disagreement}\n"
        f"{machine()}; data {shown_data(options.dataset_dir)}; commit {git_commit()}; "
        f"{datetime.date.today().isoformat()}.\n",
    )
    lines = [
        (steps, values, {"marker": "o", "linestyle": "--" if "alone" in name else "-", "label": name})
        for name, values in zip(MEMBERS, zip(*dice, strict=True), strict=True)
    ]
    plot_over_training(lines, "mean Dice on patches of unlabelled cases", 3, path.with_suffix(".png"))
    return 0


def table_of(steps: Sequence[int], columns: Sequence[str], rows: Sequence[Sequence[float]]) -> str:
    """Return a table with a row for each step."""
    cells = [[str(step), *(number(value, 4) for value in row)] for step, row in zip(steps, rows, strict=True)]
    return markdown_table(["iteration", *columns], cells)


def saved_epochs(run: Run) -> list[int]:
    """Return the epochs of which a run keeps both the student and the second teacher."""
    folder = run.started_run()
    epochs = [int(path.stem.split("=")[1]) for path in folder.glob("snapshot_student_epoch=*.pt")] if folder else []
    return sorted(epoch for epoch in epochs if (folder / f"snapshot_model_epoch={epoch}.pt").is_file())


if __name__ == "__main__":
    raise SystemExit(main())
