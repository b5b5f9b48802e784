# SPDX-License-Identifier: Apache-2.0
"""From a folder of scans to the settings of a training on it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from tqdm import tqdm

from ..data import DataError, flag
from ..data.planning import (
    check_modality,
    describe_fingerprint,
    plan_overlay,
    take_fingerprint,
    voxels_in_memory,
)
from ..engines import atomic_path
from ..packaging import REPOSITORY, json_text, open_bundle

CPU, GPU = "cpu", "gpu"
MEMORY = {CPU: 1.0, GPU: 8.0}  # GB; on a CPU it is the time of a step that limits the patch
GPU_PART = 3  # the most demanding bundles take about so many times what `supervised` does
ITERATIONS = {CPU: 3000, GPU: 6000}
SHOWN = 10
logger = logging.getLogger("medssl")


def plan(
    dataset_dir: str,
    output: str,
    bundle: str = "supervised",
    device: str = "auto",
    memory: str | float = "auto",
    iterations: str | int = "auto",
    modality: str = "auto",
    labeled: str | int | Sequence[str] = "all",
    split: str = "auto",
    threads: int = 2,
    overwrite: bool | str = False,
) -> None:
    """Read a folder of scans, print what is in it, and write an overlay for a bundle: voxel size, patch and so on.

    Its training is then `python -m monai.bundle run training --config_file
    "['bundles/supervised/configs/train.json','OUTPUT']" --dataset_dir DIR`. docs/plan.md has the rules.

    Args:
        dataset_dir: folder with imagesTr/ and labelsTr/, as the README describes it.
        output: JSON file to write.
        bundle: name of a folder in bundles/, or the path of a bundle's folder.
        device: "cpu" or "gpu", what the training will run on; "auto" takes a GPU if there is one here.
        memory: GB that a training step of supervised may take; "auto": 1 for a CPU, 8 for a GPU, or a third of what it
            has.
        iterations: length of the training; "auto": 3000 steps on a CPU, 6000 on a GPU.
        modality: "ct" or "mr", which stands for all that is not CT; "auto" recognises it.
        labeled: whose labels to use: "all", a number or a list of case names.
        split: "auto" takes split.json of the folder if it is there; or the path of such a file.
        threads: number of cases that are read at a time.
        overwrite: true to replace an earlier file.

    Raises:
        DataError: for whatever is wrong with the options or the files.
    """
    path = Path(str(output))
    if path.is_dir() or path.suffix != ".json":
        raise DataError(f"output is {str(output)!r}; give the name of a JSON file")
    if path.exists() and not flag(overwrite, "overwrite"):
        raise DataError(f"{path}: is there already; give another --output, or --overwrite true")
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise DataError(f"threads is {threads!r}; give a number from 1")
    device = _device(device)
    memory, iterations = _memory(memory, device), _iterations(iterations, device)
    source = open_bundle(str(bundle))
    train = source.config("train")
    overlays = [json.loads(content) for name, content in source.files.items() if name.startswith("configs/datasets/")]
    # Before the scans are read, which can take long.
    check_modality(modality)
    voxels_in_memory(memory, sum(train["batch_size"].values()))
    fingerprint = take_fingerprint(str(dataset_dir), labeled, str(split), num_threads=threads, progress=_bar)
    for line in (fingerprint.root, *(f"  {line}" for line in describe_fingerprint(fingerprint))):
        logger.info("%s", line)
    planned = plan_overlay(
        fingerprint,
        train,
        _network(train).divisor,
        [key for key in train if any(key in overlay for overlay in overlays) and key != "split"],
        memory,
        iterations,
        modality,
        labeled if isinstance(labeled, (int, str)) else list(labeled),
        str(split),
    )
    _network({**train, **planned.overlay}).check_patch_size(planned.overlay["patch_size"])
    logger.info("plan for %s, a %s and %g GB", source.name, device.upper(), memory)
    for key, why in planned.reasons.items():
        logger.info("  %s: %s", key, why)
    for line in planned.anomalies[:SHOWN]:
        logger.info("  odd: %s", line)
    if len(planned.anomalies) > SHOWN:
        logger.info("  odd: and %d more like these", len(planned.anomalies) - SHOWN)
    with atomic_path(path) as temporary:
        temporary.write_text(json_text(planned.overlay), encoding="utf-8")
    logger.info("wrote %s; train with", path)
    root = f"bundles/{bundle}" if (REPOSITORY / "bundles" / str(bundle)).is_dir() else bundle
    files = f"\"['{root}/configs/train.json','{path}']\""
    logger.info("  python -m monai.bundle run training --config_file %s --dataset_dir %s", files, dataset_dir)


def _device(device: str) -> str:
    if device not in ("auto", CPU, GPU):
        raise DataError(f"device is {device!r}; give auto, cpu or gpu")
    if device == "auto":
        return GPU if torch.cuda.is_available() else CPU
    return device


def _memory(memory: str | float, device: str) -> float:
    if memory == "auto":
        if device == GPU and torch.cuda.is_available():
            return min(MEMORY[GPU], round(torch.cuda.get_device_properties(0).total_memory / 1e9 / GPU_PART, 1))
        return MEMORY[device]
    if isinstance(memory, bool) or not isinstance(memory, (int, float)) or not memory > 0:
        raise DataError(f"memory is {memory!r}; give auto or a number of GB")
    return float(memory)


def _iterations(iterations: str | int, device: str) -> int:
    if iterations == "auto":
        return ITERATIONS[device]
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise DataError(f"iterations is {iterations!r}; give auto or a number from 1")
    return iterations


def _network(config: dict[str, Any]) -> torch.nn.Module:
    return ConfigParser(config=config).get_parsed_content("network_def")


def _bar(done: Iterator, total: int) -> Iterator:
    return tqdm(done, total=total, unit="case", disable=None)
