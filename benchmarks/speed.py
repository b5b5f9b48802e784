# SPDX-License-Identifier: Apache-2.0
"""Measure a training step in two number formats and, with a checkpoint, inference with two steps of the window.

    python benchmarks/speed.py
    python benchmarks/speed.py --checkpoint benchmarks/runs/NAME/models/model.pt --dataset_dir DIR

The results go to `benchmarks/results/speed.md`; the part that is not measured stays as it was.
"""

from __future__ import annotations

import argparse
import datetime
import re
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from common import (
    RESULTS,
    ROOT,
    RUNS,
    BenchmarkError,
    bundle_command,
    data_argument,
    git_commit,
    machine,
    markdown_table,
    number,
    read_json,
    run_bundle,
    script_command,
    seconds_a_case,
    shown_path,
    write_text,
)


def training_step(
    precision: str, channels_last: bool, batch_size: int, patch_size: Sequence[int], base_channels: int
) -> Callable[[], float]:
    """Return a function that does one step of the supervised method on random patches and gives its seconds."""
    import torch
    from monai.losses import DiceCELoss

    from medssl_components.engines import autocast, resolve_precision
    from medssl_components.methods import Supervised
    from medssl_components.networks import VNet

    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    memory = torch.channels_last_3d if channels_last else torch.contiguous_format
    dtype = resolve_precision(precision, device)
    network = VNet(in_channels=1, num_classes=2, base_channels=base_channels).to(device=device, memory_format=memory)
    method = Supervised(
        network, DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, squared_pred=True)
    )
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0001)
    image = torch.randn(batch_size, 1, *patch_size, device=device).contiguous(memory_format=memory)
    label = (image > 1).float()

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, dtype):
            loss = method({"image": image, "label": label}, None, 0.0)["loss"]
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return step


def step_report(options: argparse.Namespace) -> str:
    """Measure both formats in turn, repetition by repetition, and return their table."""
    shape = (options.batch_size, options.patch_size, options.base_channels)
    steps = {
        "fp32, contiguous": training_step("fp32", False, *shape),
        "bf16, channels_last_3d": training_step("bf16", True, *shape),
    }
    for step in steps.values():  # the first step chooses kernels and reserves memory
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.repetitions):
        for name, step in steps.items():
            times[name].append(step())
    slow, fast = times.values()
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    rows = [[name, *(f"{f(t):.3f}" for f in (statistics.median, min, max))] for name, t in times.items()]
    patch = "x".join(map(str, options.patch_size))
    return (
        f"Forward, backward and optimiser, batch {options.batch_size} of {patch}, V-Net of {options.base_channels} "
        f"base channels, {options.repetitions} repetitions in turn after one of warm-up.\n\n"
        + markdown_table(["", "median (s)", "least (s)", "largest (s)"], rows)
        + f"\nfp32 takes {statistics.median(slow) / statistics.median(fast):.2f} times as long (ratio of the medians; "
        f"{min(ratios):.2f} to {max(ratios):.2f} by repetition).\n"
    )


def inference_report(options: argparse.Namespace) -> str:
    """Evaluate the checkpoint with the paper's stride and with half overlap, and return their table."""
    files = ["train.json", f"datasets/{options.overlay}.json"]
    configs = [read_json(ROOT / "bundles" / options.bundle / "configs" / file) for file in files]
    patch = [config["patch_size"] for config in configs if "patch_size" in config][-1]
    axes = zip(patch, options.paper_stride, options.paper_patch, strict=True)
    stride = [max(1, round(side * step / paper)) for side, step, paper in axes]
    window = "x".join(map(str, patch))
    settings: dict[str, tuple[str, dict[str, Any]]] = {
        "paper_stride": (f"stride {', '.join(map(str, stride))}", {"stride": stride}),
        "half_overlap": ("overlap 50 %", {"overlap": 0.5}),
    }
    rows = []
    for key, (title, option) in settings.items():
        folder = RUNS / "speed" / key
        shared = {
            "dataset_dir": data_argument(options.dataset_dir),
            "checkpoint": shown_path(options.checkpoint),
            "eval_dir": shown_path(folder),
            "figures": 0,
        }
        run_bundle(bundle_command(options.bundle, [*files, "evaluate.json"], {**shared, **option}), folder / "log.txt")
        scores = read_json(folder / "scores.json")
        mean = scores["mean_over_classes"]
        cells = [number(mean["dice"]["mean"], 4), number(mean["hd95_voxel"]["mean"], 2)]
        rows.append([title, number(seconds_a_case(folder / "log.txt"), 2), *cells, str(scores["num_cases"])])
    paper = "x".join(map(str, options.paper_patch))
    return (
        f"Checkpoint {shown_path(options.checkpoint)}, window {window}. The paper's stride, "
        f"{', '.join(map(str, options.paper_stride))} for {paper}, is taken as the same parts of this window, rounded. "
        "Seconds from the file to the prediction on its own grid, the first case and the scoring left out.\n\n"
        + markdown_table(["window", "seconds a case", "mean Dice", "95HD (voxel)", "test cases"], rows)
    )


def replace_section(text: str, title: str, body: str) -> str:
    """Return a Markdown text in which the section of this title has another body; a new one comes last."""
    section = f"## {title}\n\n{body.strip()}\n"
    pattern = rf"^## {re.escape(title)}\n.*?(?=^## |\Z)"
    found = re.search(pattern, text, flags=re.MULTILINE | re.DOTALL)
    if not found:
        return f"{text.rstrip()}\n\n{section}"
    rest = text[found.end() :]
    return text[: found.start()] + section + (f"\n{rest}" if rest else "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=9, help="of the training step; 0 leaves this part out")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--patch_size", type=int, nargs=3, default=[64, 64, 48])
    parser.add_argument("--base_channels", type=int, default=16)
    parser.add_argument("--checkpoint", help="measure inference with these weights, settings.json beside them")
    parser.add_argument("--dataset_dir", help="data set of the checkpoint, with test cases")
    parser.add_argument("--bundle", default="supervised")
    parser.add_argument("--overlay", default="la_cpu", help="of the checkpoint's training, in configs/datasets/")
    parser.add_argument("--paper_patch", type=int, nargs=3, default=[112, 112, 80])
    parser.add_argument("--paper_stride", type=int, nargs=3, default=[18, 18, 4])
    options = parser.parse_args(arguments)
    if options.checkpoint and not options.dataset_dir:
        parser.error("--checkpoint needs --dataset_dir, the data set that it is evaluated on")

    setting = (
        f"\n\n    {script_command(__file__, arguments)}\n\n"
        f"{machine()}; commit {git_commit()}; {datetime.date.today().isoformat()}.\n"
    )
    path = RESULTS / "speed.md"
    parts = {"Training step": step_report if options.repetitions else None}
    parts["Inference"] = inference_report if options.checkpoint else None
    for title, measure in parts.items():
        if measure is not None:
            try:
                body = measure(options)
            except BenchmarkError as error:
                parser.exit(1, f"error: {error}\n")
            print(f"{title}\n{body}", flush=True)
            text = path.read_text(encoding="utf-8") if path.is_file() else "# Speed\n"
            write_text(path, replace_section(text, title, body.rstrip() + setting))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
