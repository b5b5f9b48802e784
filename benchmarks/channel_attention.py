# SPDX-License-Identifier: Apache-2.0
"""Compare SKCDF's attention between channels with a plain form that keeps its maps: results, time and memory.

    python benchmarks/channel_attention.py
    python benchmarks/channel_attention.py --size 512 8 8 4 --size 256 4 4 3 --overlay la_cpu

The first table is of the semantic knowledge complementarity module alone, by default on the coarsest map of the paper's
network (512 channels, 8 x 8 x 4) and on that of the bundle's `la_cpu.json`. The second is of the bundle's training
step. The result goes to `channel_attention.md` in `benchmarks/results/`, or in --results.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import math
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch
from common import RESULTS, git_commit, machine, markdown_table, script_command, write_text
from method_steps import settings, training_step
from timing import Step, cells_of, measure
from torch.nn import functional

from medssl_components.engines import autocast, resolve_precision
from medssl_components.networks import KnowledgeComplementarity
from medssl_components.networks.channel_attention import ChannelAttention

DROPOUTS = (0.0, 0.1)  # without, so that the results can be compared, and the paper's
KEPT_MAPS = {0.0: 5, 0.1: 8}  # of each map: logits, normalised, softmax, dropped, and what the backward pass adds


class MapAttention(ChannelAttention):
    """The attention as equations 9 and 10 are written: the map, its instance norm, softmax, dropout and product."""

    def __init__(self, attention: ChannelAttention) -> None:
        channels = attention.out.out_features
        super().__init__(channels, attention.num_heads, attention.dropout, attention.eps, recompute=False)
        self.joint_heads, self.all_keys = attention.joint_heads, attention.all_keys
        self.stop_gradient = attention.stop_gradient
        self.load_state_dict(attention.state_dict())

    def _attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        with torch.autocast(query.device.type, enabled=False):
            logits = query.float() @ key.float().transpose(2, 3)
            weights = functional.instance_norm(logits, eps=self.eps).softmax(3)
            return functional.dropout(weights, self.dropout, self.training) @ value.float()


def keep_maps(module: KnowledgeComplementarity) -> None:
    """Put the plain form in the place of both attentions, with their weights."""
    for block in (module.local_block, module.global_block):
        block.attention = MapAttention(block.attention).to(next(block.parameters()).device)


def forms(channels: int, grid: Sequence[int], dropout: float, device: torch.device) -> dict[str, torch.nn.Module]:
    """Return the module in its forms, all with the same weights."""
    torch.manual_seed(0)
    again = KnowledgeComplementarity(channels, grid, dropout=dropout).to(device)
    kept, plain = copy.deepcopy(again), copy.deepcopy(again)
    for block in (kept.local_block, kept.global_block):
        block.attention.recompute = False
    keep_maps(plain)
    return {"with its maps": plain, "without": kept, "without, recomputed (default)": again}


def module_step(module: KnowledgeComplementarity, features: torch.Tensor, num_labeled: int, dtype=None) -> Step:
    """Return a function that runs the module forward and backward, across the streams, or within images for 0."""

    def step() -> list[torch.Tensor]:
        module.zero_grad(set_to_none=True)
        inputs = features.clone().requires_grad_()
        with autocast(features.device, dtype):
            output = module.cross(inputs, num_labeled) if num_labeled else module(inputs)
        output.backward(torch.ones_like(output))
        gradients = [weights.grad for weights in module.parameters() if weights.grad is not None]
        return [output.detach(), inputs.grad, *gradients]

    return step


def difference(step: Step, plain: Step) -> tuple[float, float]:
    """Return the largest difference of the outputs, and that of the gradients as a share of each one's largest."""
    (output, *gradients), (same_output, *same_gradients) = step(), plain()
    pairs = zip(gradients, same_gradients, strict=True)
    shares = [(one - other).abs().max() / other.abs().max().clamp(min=1e-12) for one, other in pairs]
    # The bias of a token is the same for all channels, which the layer norms take away: its gradient is 0.
    large = [other.abs().max() > 1e-3 for other in same_gradients]
    return (output - same_output).abs().max().item(), max(
        share.item() for share, counts in zip(shares, large, strict=True) if counts
    )


def fits(channels: int, grid: Sequence[int], batch: int, dropout: float, device: torch.device) -> bool:
    """Say whether the plain form's maps of both streams fit in the memory that is free."""
    patches = math.prod(math.ceil(side / 2) for side in grid) + 1
    one_map = 4 * (2 * channels) * (2 * channels * batch)  # two heads, and the keys of all images of the other stream
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return 2 * batch * patches * one_map * KEPT_MAPS[dropout] < 0.9 * free


def module_report(
    channels: int, grid: Sequence[int], batch: int, repetitions: int, device: torch.device
) -> tuple[str, str]:
    """Return the table of one size of map, and a sentence that compares the results of the forms."""
    features = torch.randn(2 * batch, channels, *grid, generator=torch.Generator().manual_seed(1)).to(device)
    rows, differences = [], []
    for dropout in DROPOUTS:
        modules = forms(channels, grid, dropout, device)
        if not fits(channels, grid, batch, dropout, device):
            modules.pop("with its maps")
        for mode, images, num_labeled in (("cross", features, batch), ("self", features[:batch], 0)):
            steps = {name: module_step(module, images, num_labeled) for name, module in modules.items()}
            if not dropout and "with its maps" in steps:
                plain = steps["with its maps"]
                differences += [difference(step, plain) for name, step in steps.items() if step is not plain]
            rows += [[mode, f"{dropout:g}", *cells] for cells in cells_of(measure(steps, repetitions))]
    head = ["mode", "dropout", "attention", "median (s)", "ratio to the first", "peak (MB)"]
    verdict = "The form with its maps was left out: they do not fit in the free memory."
    if differences:
        outputs, gradients = (max(values) for values in zip(*differences, strict=True))
        verdict = (
            f"Without dropout the outputs differ by {outputs:.1e} at most, the gradients by {gradients:.1e} of the "
            "largest entry of each."
        )
    return markdown_table(head, rows), verdict


def step_report(overlay: str, repetitions: int) -> str:
    """Return the table of the bundle's training step, of the same without the module, and of the module alone."""
    parser, with_maps, without = (settings("skcdf", overlay, False) for _ in range(3))
    without["network_def::complementarity"] = None
    keep_maps(with_maps.get_parsed_content("network").complementarity)
    module, device = parser.get_parsed_content("network").complementarity, parser.get_parsed_content("device")
    sizes = parser.get_parsed_content("batch_size")
    dtype = resolve_precision(parser.get_parsed_content("precision"), device)
    channels = module.local_block.convolution.in_channels
    shape = (sizes["labeled"] + sizes["unlabeled"], channels, *module.grid)
    features = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(device, dtype)
    both = [
        module_step(copy.deepcopy(module).train(), images, num_labeled, dtype)
        for images, num_labeled in ((features, sizes["labeled"]), (features[: sizes["unlabeled"]], 0))
    ]
    steps = {
        "training step": training_step(parser),
        "the same, attention with its maps": training_step(with_maps),
        "the same without the module": training_step(without),
        "the module alone, across and within": lambda: [step() for step in both],
    }
    head = ["skcdf", "median (s)", "ratio to the step", "peak (MB)"]
    patch = "x".join(map(str, parser.get_parsed_content("patch_size")))
    return (
        f"{sizes['labeled']} labelled and {sizes['unlabeled']} unlabelled patches of {patch}, {channels} channels on "
        f"{'x'.join(map(str, module.grid))} in the module, forward, backward and optimiser.\n\n"
        + markdown_table(head, cells_of(measure(steps, repetitions)))
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=4, action="append", metavar=("CHANNELS", "W", "H", "D"))
    parser.add_argument("--batch", type=int, default=2, help="images of each stream")
    parser.add_argument("--overlay", default="la_cpu", help="name of a file in the bundle's configs/datasets/")
    parser.add_argument("--repetitions", type=int, default=5, help="of every timed step")
    parser.add_argument("--threads", type=int, help="processor threads")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    text = (
        "# Attention between channels\n\nForward and backward; medians of repetitions in turn, ratios are taken within "
        f"a repetition. {options.repetitions} repetitions after two of warm-up. Peak memory is what a step needs on "
        f"top of what was held before. Cross: {options.batch} labelled and {options.batch} unlabelled images attend to "
        f"each other; self: {options.batch} images, each to itself. The module computes in single precision.\n"
    )
    for channels, *grid in options.size or [[512, 8, 8, 4], [256, 4, 4, 3]]:
        table, verdict = module_report(channels, grid, options.batch, options.repetitions, device)
        text += f"\n## The module: {channels} channels, {'x'.join(map(str, grid))}\n\n{verdict}\n\n{table}"
    text += f"\n## The training step: {options.overlay}\n\n{step_report(options.overlay, options.repetitions)}"
    text += (
        f"\n    {script_command(__file__, arguments)}\n\n{machine()}, {torch.get_num_threads()} threads; "
        f"commit {git_commit()}; {datetime.date.today().isoformat()}.\n"
    )
    print(text)
    write_text(options.results / "channel_attention.md", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
