# SPDX-License-Identifier: Apache-2.0
"""Measure a training step of each bundle beside the supervised one, in turn, on random patches of a data set's size.

    python benchmarks/method_steps.py [--overlay la_cpu] [--bundles dbisl mean_teacher]

The method, the network, the patches and the precision are those of the bundle's own config files. "labels only" is the
bundle with its overlay `ablations/labels_only.json`: its network without any unlabelled patch. The table goes to
`benchmarks/results/method_steps_<overlay>.md`.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path

from common import RESULTS, ROOT, git_commit, machine, markdown_table, number, script_command, write_text
from timing import Step, measure

PROGRESS = 0.5  # where in the training the weights are taken: all terms count there


def settings(bundle: str, overlay: str, labels_only: bool):
    """Return the parser of a bundle's training on a data set."""
    from monai.bundle import ConfigParser

    configs = ROOT / "bundles" / bundle / "configs"
    files = [configs / "train.json", configs / "datasets" / f"{overlay}.json"]
    files += [configs / "ablations" / "labels_only.json"] if labels_only else []
    parser = ConfigParser()
    for file in files:
        parser.update(ConfigParser.load_config_file(file))
    parser["labeled"] = "all"  # a method may count its classes in the built-in scans, which are fewer than a data set's
    parser.get_parsed_content("imports")
    return parser


def patches(parser, count: int, labels: bool):
    """Return random patches, with labels that fill about a third of them, one blob for each class; None for none."""
    import torch
    from torch.nn import functional

    if not count:
        return None
    device, shape = parser.get_parsed_content("device"), parser.get_parsed_content("patch_size")
    image = torch.randn(count, parser.get_parsed_content("in_channels"), *shape, device=device)
    if not labels:
        return {"image": image}
    smooth = functional.interpolate(torch.randn(count, 1, 3, 3, 3, device=device), shape, mode="trilinear")
    return {"image": image, "label": (smooth > 0.3).to(torch.uint8) * (parser.get_parsed_content("num_classes") - 1)}


def training_step(parser) -> Step:
    """Return a function that does one step of the bundle's method."""
    import torch

    from medssl_components.engines import autocast, resolve_precision

    torch.manual_seed(0)
    method, optimizer = parser.get_parsed_content("method"), parser.get_parsed_content("optimizer")
    device, sizes = parser.get_parsed_content("device"), parser.get_parsed_content("batch_size")
    dtype = resolve_precision(parser.get_parsed_content("precision"), device)
    labeled, unlabeled = patches(parser, sizes["labeled"], True), patches(parser, sizes["unlabeled"], False)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, dtype):
            loss = method(labeled, unlabeled, PROGRESS)["loss"]
        loss.backward()
        optimizer.step()
        method.after_step()

    return step


def distance_transforms(parser) -> Step:
    """Return a function that does all distance transforms of one step of DBiSL, gradients included."""
    import torch

    transform = parser.get_parsed_content("method").signed_distance_map
    sizes = parser.get_parsed_content("batch_size")
    both = patches(parser, sizes["labeled"] + sizes["unlabeled"], True)["label"]
    objects = parser.get_parsed_content("num_classes") - 1
    of_both_decoders = (0.9 * (both > 0)).expand(-1, objects, -1, -1, -1).repeat(2, 1, 1, 1, 1).contiguous()

    def step() -> None:
        probs = of_both_decoders.clone().requires_grad_()
        transform(probs).square().mean().backward()
        with torch.no_grad():
            transform(of_both_decoders[: sizes["labeled"]])

    return step


def report(options: argparse.Namespace) -> str:
    """Measure repetition by repetition and return the table."""
    steps = {"supervised": training_step(settings("supervised", options.overlay, False))}
    for bundle in options.bundles:
        parser = settings(bundle, options.overlay, False)
        steps[bundle] = training_step(parser)
        if (ROOT / "bundles" / bundle / "configs" / "ablations" / "labels_only.json").is_file():
            steps[f"{bundle}, labels only"] = training_step(settings(bundle, options.overlay, True))
        if hasattr(parser.get_parsed_content("method"), "signed_distance_map"):
            steps[f"{bundle}, its distance transforms alone"] = distance_transforms(parser)
            full = settings(bundle, options.overlay, False)
            full["distance_scale"] = 1.0
            steps[f"{bundle}, distance transforms at full size"] = training_step(full)
    rows = []
    for name, own in measure(steps, options.repetitions).items():
        spread = f"{min(own.ratios):.2f} to {max(own.ratios):.2f}"
        rows.append([name, f"{own.seconds:.3f}", f"{own.ratio:.2f}", spread, number(own.megabytes, 0)])
    config = settings("supervised", options.overlay, False)
    patch = "x".join(map(str, config.get_parsed_content("patch_size")))
    return (
        f"Forward, backward and optimiser, {options.repetitions} repetitions in turn after two of warm-up, four "
        f"patches of {patch} a step; ratios are taken within a repetition. Peak memory is what a step needs on top of "
        "what was held before, such as network and optimiser.\n\n"
        + markdown_table(["bundle", "median (s)", "ratio to supervised, median", "least to largest", "peak (MB)"], rows)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script."""
    known = sorted(path.parent.name for path in ROOT.glob("bundles/*/configs"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--overlay", default="la_cpu", help="name of a file in the bundles' configs/datasets/")
    parser.add_argument("--bundles", nargs="+", choices=known, default=[name for name in known if name != "supervised"])
    parser.add_argument("--repetitions", type=int, default=9)
    options = parser.parse_args(arguments)
    body = report(options)
    print(body, flush=True)
    setting = f"{machine()}; commit {git_commit()}; {datetime.date.today().isoformat()}."
    path: Path = RESULTS / f"method_steps_{options.overlay}.md"
    write_text(
        path,
        f"# A training step, {options.overlay}\n\n{body}\n    {script_command(__file__, arguments)}\n\n{setting}\n",
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
