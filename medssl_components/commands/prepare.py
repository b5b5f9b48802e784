# SPDX-License-Identifier: Apache-2.0
"""From the official download of a public data set to a folder to train on."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from tqdm import tqdm

from ..data import DataError, flag
from ..data.preparation import prepare_folder

SHOWN = 10
logger = logging.getLogger("medssl")


def prepare(
    name: str,
    source: str,
    output: str,
    recipe: str = "auto",
    split: str = "auto",
    partial: bool | str = False,
    processes: int = 1,
    seed: int = 0,
) -> None:
    """Prepare a public data set as the literature did; nothing is downloaded.

    docs/data/ has a page for each set: where it is to be had, its recipes, its splits. A run that was stopped goes on
    with the same command.

    Args:
        name: name of the data set, such as la.
        source: folder of the unpacked download.
        output: folder to write to: imagesTr/, labelsTr/, imagesTs/, labelsTs/, split.json, dataset.json, prepare.json.
        recipe: name of one of the set's recipes; "auto" takes the usual one.
        split: name of one of the set's published splits, or the path of such a file; "auto" takes the usual one.
        partial: true to go without the cases that are not there.
        processes: number of cases that are worked on at a time.
        seed: for what a recipe draws.

    Raises:
        DataError: for whatever is wrong with the options or the files.
    """
    if isinstance(processes, bool) or not isinstance(processes, int) or processes < 1:
        raise DataError(f"processes is {processes!r}; give a number from 1")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise DataError(f"seed is {seed!r}; give a whole number")
    report = prepare_folder(
        str(name), str(source), str(output), str(recipe), str(split), flag(partial, "partial"), processes, seed, _bar
    )
    logger.info("%s: recipe %s, split %s, in %s", report["title"], report["recipe"], report["split"], output)
    logger.info("  %s", ", ".join(f"{number} {key.replace('_', ' ')}" for key, number in report["counts"].items()))
    _list("missing", [f"{case}: no {file}" for case, file in report["missing"].items()])
    _list("warning", report["warnings"])
    _list("note", report["notes"])


def _list(kind: str, lines: list[str]) -> None:
    for line in lines[:SHOWN]:
        logger.info("  %s: %s", kind, line)
    if len(lines) > SHOWN:
        logger.info("  %s: and %d more, all in prepare.json", kind, len(lines) - SHOWN)


def _bar(done: Iterator, total: int) -> Iterator:
    return tqdm(done, total=total, unit="case", disable=None)
