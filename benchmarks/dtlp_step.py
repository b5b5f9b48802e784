# SPDX-License-Identifier: Apache-2.0
"""Measure the parts of DTLP-Net's training step, and the step with less sampling, beside a supervised step.

    python benchmarks/dtlp_step.py [--overlay la_cpu] [--repetitions 5]

All on random patches of the data set's size, in turn. The table goes to `benchmarks/results/dtlp_step_<overlay>.md`.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence

from common import RESULTS, git_commit, machine, markdown_table, script_command, write_text
from method_steps import patches, settings, training_step
from timing import Step, cells_of, measure

from medssl_components.engines import autocast, resolve_precision


def dtlp(overlay: str, **options):
    """Return the parser of the bundle's training with some ids changed."""
    parser = settings("dtlp", overlay, False)
    parser.update(options)
    return parser


def teaching_step(parser, keep: bool = False) -> Step:
    """Return a function that lets the teachers predict the images of a step.

    Args:
        parser: of the bundle's training.
        keep: afterwards the method gets the result of the first call instead of asking its teachers.
    """
    method, device = parser.get_parsed_content("method"), parser.get_parsed_content("device")
    sizes = parser.get_parsed_content("batch_size")
    labeled, unlabeled = (patches(parser, sizes[name], False)["image"] for name in ("labeled", "unlabeled"))
    teachers, network = method.teachers, parser.get_parsed_content("network")
    dtype = resolve_precision(parser.get_parsed_content("precision"), device)

    def step():
        with autocast(device, dtype):
            return teachers(network, labeled, unlabeled)

    if keep:
        teaching = step()
        teachers.forward = lambda *_: teaching
    return step


def student_step(parser) -> Step:
    """Return a function that does a training step whose teachers have already spoken."""
    teaching_step(parser, keep=True)
    return training_step(parser)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--overlay", default="la_cpu", help="name of a file in the bundle's configs/datasets/")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args(arguments)
    whole, half = dtlp(options.overlay), dtlp(options.overlay, sample_steps=5)
    never = dtlp(options.overlay, sampling_interval=10**9)
    teaching_step(never)()
    never.get_parsed_content("method").after_step()  # the step with number 0 samples
    steps = {
        "training step": training_step(whole),
        "with 5 sampling steps": training_step(half),
        "without sampling": training_step(never),
        "the teachers alone": teaching_step(dtlp(options.overlay)),
        "the teachers with 5 sampling steps": teaching_step(dtlp(options.overlay, sample_steps=5)),
        "the student's passes, backward and optimiser": student_step(dtlp(options.overlay)),
        "supervised: training step": training_step(settings("supervised", options.overlay, False)),
    }
    rows = cells_of(measure(steps, options.repetitions))
    sizes, patch = whole.get_parsed_content("batch_size"), whole.get_parsed_content("patch_size")
    table = markdown_table(["dtlp", "median (s)", "ratio to the step", "peak (MB)"], rows)
    print(table, flush=True)
    write_text(
        RESULTS / f"dtlp_step_{options.overlay}.md",
        f"# DTLP-Net's training step, {options.overlay}\n\n{sizes['labeled']} labelled and {sizes['unlabeled']} "
        f"unlabelled patches of {'x'.join(map(str, patch))}; {options.repetitions} repetitions in turn, after two of "
        "warm-up, ratios are taken within a repetition. Sampling takes 10 steps where nothing else is said; with "
        "`sampling_interval` n one of n steps samples. Peak memory is what a step needs on top of what was held "
        f"before.\n\n{table}\n    {script_command(__file__, arguments)}\n\n"
        f"{machine()}; commit {git_commit()}; {datetime.date.today().isoformat()}.\n",
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
