# SPDX-License-Identifier: Apache-2.0
"""Compare distance transforms on real labels: error, gradients, time and memory, with SciPy's exact one as the measure.

    python benchmarks/distance_transform.py --dataset_dir DIR --patch_size 112 112 80
    python benchmarks/distance_transform.py --dataset_dir LA --patch_size 112 112 80 \
        --dataset_dir HIPPOCAMPUS --patch_size 32 48 32

Where kornia is installed, its convolutional transform is timed too; it gives what `convolutional` gives. Its backward
pass keeps all rounds of the forward one, so it is left out on volumes where that takes more than about 10 GB. The
results go to `distance_transform.md` and `distance_transform.png` in `benchmarks/results/`, or in --results.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import torch
from common import RESULTS, BenchmarkError, git_commit, machine, markdown_table, number, script_command, write_text
from monai.transforms.utils import distance_transform_edt as monai_edt
from scipy import ndimage
from timing import Step, peak_megabytes, seconds

from medssl_components.ops import (
    convolutional_distance_transform,
    euclidean_distance_transform,
    signed_distance_map,
    soft_distance_transform,
)

try:
    from kornia.contrib import distance_transform as kornia_transform
except ImportError:
    kornia_transform = None

SCALES = (1.0, 0.5)
TRANSFORMS = ("convolutional", "euclidean", "soft")
KORNIA_LIMIT = 2**21  # values whose rounds kornia keeps for its backward pass


def label_crops(dataset_dir: Path, size: Sequence[int], cases: int) -> torch.Tensor:
    """Return crops around the centre of the first labels, one channel a class, `(cases, classes, *size)`."""
    paths = sorted((dataset_dir / "labelsTr").glob("*.nii*"))[:cases]
    if len(paths) < cases:
        raise BenchmarkError(
            f"{dataset_dir}/labelsTr has {len(paths)} labels; give a folder with {cases} or fewer --cases"
        )
    labels = [np.asarray(nibabel.load(path).dataobj).astype(int) for path in paths]
    classes = max(label.max() for label in labels)
    crops = np.zeros((cases, classes, *size), dtype=np.float32)
    for crop, label in zip(crops, labels, strict=True):
        centre = [int(axis.mean()) for axis in np.nonzero(label)]
        axes = zip(centre, size, label.shape, strict=True)
        start = [min(max(0, middle - side // 2), max(0, whole - side)) for middle, side, whole in axes]
        part = label[tuple(slice(first, first + side) for first, side in zip(start, size, strict=True))]
        for index in range(classes):
            crop[index][tuple(map(slice, part.shape))] = part == index + 1
    return torch.from_numpy(crops)


def scipy_distances(mask: torch.Tensor) -> np.ndarray:
    """Return the exact distances to each channel, one call a channel."""
    channels = mask.cpu().numpy() == 0
    return np.stack([[ndimage.distance_transform_edt(channel) for channel in sample] for sample in channels])


def scipy_map(mask: torch.Tensor) -> torch.Tensor:
    """Return the exact signed distance map, normalised like `signed_distance_map`; each channel has both classes."""
    parts = [scipy_distances(part) for part in (mask, 1 - mask)]
    outside, inside = (part / part.max((2, 3, 4), keepdims=True) for part in parts)
    return torch.from_numpy(outside - inside).float()


def accuracy_report(label: torch.Tensor) -> str:
    """Compare the maps of each transform and scale with the exact one, and their gradients with what is wrong."""
    exact = scipy_map(label)
    moved = np.roll(label.numpy(), (2, 1), (2, 3))
    probs = torch.from_numpy(ndimage.gaussian_filter(moved, (0, 0, 1, 1, 1))).clamp(0.001, 0.999)
    wrong = (probs > 0.5) != (label > 0.5)
    rows = []
    for transform in TRANSFORMS:
        for scale in SCALES:
            target = signed_distance_map(label, transform, scale)
            error = (target - exact).abs()
            both = ((target < 0) & (label > 0.5)).sum()
            dice = 2 * both / ((target < 0).sum() + (label > 0.5).sum())
            predicted = probs.clone().requires_grad_()
            (signed_distance_map(predicted, transform, scale) - target).square().sum().backward()
            received = wrong & (predicted.grad != 0)
            right = received & ((predicted.grad < 0) == (label > 0.5))
            shares = [received.sum() / wrong.sum(), right.sum() / received.sum().clamp(min=1)]
            values = [(error.mean(), 6), (error.max(), 6), (100 * dice, 2), *((100 * share, 1) for share in shares)]
            rows.append([transform, f"{scale:g}", *(number(value.item(), digits) for value, digits in values)])
    head = ["transform", "scale", "mean error", "largest error", "inverse Dice (%)"]
    head += ["wrong voxels with gradient (%)", "of these the right way (%)"]
    shape = "x".join(map(str, label.shape[2:]))
    return (
        f"{len(label)} crops of {shape}, classes: {label.shape[1]}. Errors of the signed map in [-1, 1] are "
        "against SciPy's at full size (the soft map is cut off at its reach by definition). Inverse Dice: the label "
        "against where its map is negative. Gradients: squared error between the label's map and that of a prediction, "
        "which is the label moved by 2 and 1 voxels along two axes and smoothed with a sigma of one voxel.\n\n"
        + markdown_table(head, rows)
    )


def steps(mask: torch.Tensor) -> dict[str, tuple[Step, Step | None]]:
    """Return what is timed: the distances to an object and to its complement, forward, and forward and backward."""
    both = torch.cat([mask, 1 - mask], dim=1)
    own = (convolutional_distance_transform, euclidean_distance_transform, soft_distance_transform)
    functions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = dict(zip(TRANSFORMS, own, strict=True))

    def forward(function: Callable[[torch.Tensor], torch.Tensor]) -> Step:
        def run() -> None:
            with torch.no_grad():
                function(both)

        return run

    def backward(function: Callable[[torch.Tensor], torch.Tensor]) -> Step:
        def run() -> None:
            distance = function(both.clone().requires_grad_())
            distance.backward(torch.ones_like(distance))

        return run

    result: dict[str, tuple[Step, Step | None]] = {
        "SciPy": (lambda: scipy_distances(both), None),
        "MONAI": (lambda: [monai_edt(1 - sample) for sample in both], None),
    }
    if kornia_transform is not None:
        step_back = backward(kornia_transform) if both.numel() <= KORNIA_LIMIT else None
        result["kornia"] = (forward(kornia_transform), step_back)
    return result | {name: (forward(function), backward(function)) for name, function in functions.items()}


def time_report(mask: torch.Tensor, repetitions: int) -> str:
    """Time every transform in turn, one volume and the whole batch, at every scale."""
    rows = []
    for batch in sorted({1, len(mask)}):
        for scale in SCALES:
            size = [int(side * scale) for side in mask.shape[2:]]
            small = (torch.nn.functional.interpolate(mask[:batch], size, mode="trilinear") > 0.5).float()
            for name, forward, backward, memory in measurements(small, repetitions):
                cells = [number(forward[0], 3), number(forward[1], 2), number(backward and backward[1], 2)]
                rows.append([str(batch), "x".join(map(str, size)), name, *cells, number(memory, 0)])
    head = ["volumes", "size", "transform", "forward (s)", "forward / SciPy", "with backward / SciPy", "peak (MB)"]
    return (
        f"Distances to each object and to its complement; medians of {repetitions} repetitions in turn after one of "
        "warm-up. Ratios are to SciPy's forward on the CPU in the same repetition. Peak memory is that of forward and "
        "backward, and of forward where there is no other.\n\n" + markdown_table(head, rows)
    )


def measurements(
    mask: torch.Tensor, repetitions: int
) -> list[tuple[str, tuple[float, float], tuple[float, float] | None, float | None]]:
    """Return for each transform the median seconds and ratio to SciPy, forward and with backward, and its memory."""
    candidates = steps(mask)
    peaks = {name: peak_megabytes(backward or forward) for name, (forward, backward) in candidates.items()}
    times: dict[tuple[str, bool], list[float]] = {}
    for _ in range(repetitions):
        for name, both in candidates.items():
            for is_backward, step in enumerate(both):
                if step is not None:
                    times.setdefault((name, bool(is_backward)), []).append(seconds(step))

    def medians(key: tuple[str, bool]) -> tuple[float, float] | None:
        if key not in times:
            return None
        ratios = [own / exact for own, exact in zip(times[key], times["SciPy", False], strict=True)]
        return statistics.median(times[key]), statistics.median(ratios)

    return [(name, medians((name, False)), medians((name, True)), peaks[name]) for name in candidates]


def growth_report(sides: Sequence[int], repetitions: int, picture: Path, device: torch.device) -> str:
    """Time balls in cubes of growing size, draw the times and the memory, and return their table."""
    curves: dict[str, list[tuple[float | None, float | None]]] = {}
    for side in sides:
        axis = torch.arange(side, device=device) - side / 2
        grid = torch.meshgrid(axis, axis, axis, indexing="ij")
        ball = (sum(part.square() for part in grid) <= (side / 4) ** 2).float()[None, None]
        for name, forward, backward, memory in measurements(ball, repetitions):
            left_out = name == "kornia" and backward is None
            point = (None, None) if left_out else ((backward or forward)[0], memory)
            curves.setdefault(name, []).append(point)
    _draw(sides, curves, picture)
    rows = [
        [name, *("-" if t is None else f"{number(t, 3)} s, {number(m, 0)} MB" for t, m in points)]
        for name, points in curves.items()
    ]
    table = markdown_table(["transform", *(f"{side}^3" for side in sides)], rows)
    return (
        "A ball of a quarter of the side in a cube, distances to it and to its complement, forward and backward (SciPy "
        f"and MONAI: forward; kornia where its backward pass fits).\n\n{table}"
        f"\n![Time and memory by size]({picture.name})\n"
    )


def _draw(sides: Sequence[int], curves: dict[str, list[tuple[float | None, float | None]]], picture: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for name, points in curves.items():
        for plot, values in zip(axes, zip(*points, strict=True), strict=True):
            shown = [(side**3, value) for side, value in zip(sides, values, strict=True) if value is not None]
            plot.plot(*zip(*shown, strict=True), marker="o", label=name)
    for plot, title in zip(axes, ("seconds", "peak memory (MB)"), strict=True):
        plot.set(xscale="log", yscale="log", xlabel="voxels", ylabel=title)
        plot.grid(alpha=0.3)
    axes[0].legend()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=120)
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, action="append", required=True, help="once for each data set")
    parser.add_argument("--patch_size", type=int, nargs=3, action="append", required=True, help="once for each, too")
    parser.add_argument("--cases", type=int, default=4, help="labels of each data set, and volumes of the batch")
    parser.add_argument("--repetitions", type=int, default=5, help="of every timed step")
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 48, 64, 96, 128], help="of the growing cubes")
    parser.add_argument("--threads", type=int, help="processor threads; SciPy always uses one")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if len(options.dataset_dir) != len(options.patch_size):
        parser.error("give --patch_size once for each --dataset_dir, in the same order")
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        pairs = zip(options.dataset_dir, options.patch_size, strict=True)
        labels = {folder.name: label_crops(folder, size, options.cases) for folder, size in pairs}
    except BenchmarkError as error:
        parser.exit(1, f"error: {error}\n")
    first = next(iter(labels.values()))
    parts = [f"## Accuracy and gradients: {name}\n\n{accuracy_report(label)}" for name, label in labels.items()]
    parts.append(f"## Time and memory\n\n{time_report(first.to(device), options.repetitions)}")
    picture = options.results / "distance_transform.png"
    parts.append(f"## Growth with size\n\n{growth_report(options.sides, options.repetitions, picture, device)}")
    text = "# Distance transforms\n\n" + "\n".join(parts)
    text += (
        f"\n    {script_command(__file__, arguments)}\n\n{machine()}, {torch.get_num_threads()} threads; "
        f"commit {git_commit()}; {datetime.date.today().isoformat()}.\n"
    )
    print(text)
    write_text(options.results / "distance_transform.md", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
