# SPDX-License-Identifier: Apache-2.0
"""What is known of a folder of scans before anything is planned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..case_folder import CaseFolder
from ..check_cases import check_cases
from ..class_names import class_names
from ..errors import DataError
from .case_facts import CaseFacts, read_case_facts
from .dataset_json import count_channels, read_dataset_json

FOREGROUND_PERCENTILES = (0.5, 50.0, 99.5)
LARGEST_LABEL = 255  # a label is loaded as uint8


@dataclass(frozen=True)
class Fingerprint:
    """Grids, intensities and classes of the training cases; test and validation cases are only counted.

    Args:
        root: the data set's folder.
        channels: names of the channels from `dataset.json`; empty if it does not say.
        in_channels: number of channels.
        class_names: names of the classes, the background first.
        cases: what was noted of each training case, the labelled ones first.
        counts: number of labelled, unlabelled, validation and test cases.
    """

    root: str
    channels: tuple[str, ...]
    in_channels: int
    class_names: tuple[str, ...]
    cases: tuple[CaseFacts, ...]
    counts: dict[str, int]

    @property
    def num_classes(self) -> int:
        """Number of classes, background included."""
        return len(self.class_names)

    @property
    def labelled(self) -> tuple[CaseFacts, ...]:
        """The labelled training cases."""
        return tuple(case for case in self.cases if case.label_file)

    @cached_property
    def spacings(self) -> np.ndarray:
        """Voxel sizes of all training cases in mm, (cases, 3)."""
        return np.stack([case.spacing for case in self.cases])

    @cached_property
    def shapes(self) -> np.ndarray:
        """Shapes of all training cases in voxels, (cases, 3)."""
        return np.stack([case.shape for case in self.cases])

    @cached_property
    def foreground(self) -> np.ndarray:
        """Values of the labelled cases' foreground, as many of each case, (channels, samples)."""
        return np.concatenate([case.foreground for case in self.labelled], axis=1)

    @cached_property
    def foreground_percentiles(self) -> np.ndarray:
        """The 0.5, 50 and 99.5 percentiles of the foreground, (channels, 3)."""
        return np.percentile(self.foreground, FOREGROUND_PERCENTILES, axis=1).T

    def with_class(self, index: int) -> list[CaseFacts]:
        """Return the labelled cases in which a class is there."""
        return [case for case in self.labelled if index in case.class_voxels]

    def class_share(self, index: int) -> float:
        """Return the share of a class among all labelled voxels."""
        voxels = sum(case.class_voxels.get(index, 0) for case in self.labelled)
        return voxels / sum(sum(case.class_voxels.values()) for case in self.labelled)

    def class_volume(self, index: int) -> float:
        """Return the median volume in mm^3 of a class, over the cases in which it is there."""
        return float(np.median([case.class_voxels[index] * case.spacing.prod() for case in self.with_class(index)]))

    def class_box(self, index: int) -> np.ndarray:
        """Return the median sides in mm of a class's bounding box, (3,), over the cases in which it is there."""
        return np.median([case.class_boxes[index] for case in self.with_class(index)], axis=0)


def take_fingerprint(
    dataset_dir: str,
    labeled: str | int | Sequence[str] = "all",
    split: str = "auto",
    samples: int = 10_000,
    num_threads: int = 2,
    progress: Callable[[Iterator, int], Iterator] = lambda done, total: done,
) -> Fingerprint:
    """Check the headers of all cases of a folder, then read the training cases, each thread one at a time.

    Of unlabelled cases the image is read alone, whether or not a label lies on the disk; validation and test cases give
    their headers to the checks and nothing to the plan.

    Args:
        dataset_dir: folder of scans, as in `CaseFolder`.
        labeled: whose labels to use, as in `CaseFolder`.
        split: the split, as in `CaseFolder`.
        samples: number of voxels that are sampled in each case.
        num_threads: number of cases that are in memory at a time.
        progress: takes an iterator over the cases as they are read, and their number, and passes the items on.

    Raises:
        DataError: one line that names the file, for whatever is wrong with a case.
    """
    folder = CaseFolder(dataset_dir, labeled, split)
    described = read_dataset_json(folder.root)
    in_channels = count_channels(folder.root, described)
    folder = CaseFolder(dataset_dir, labeled, split, in_channels)
    test = folder.test if folder.names["test"] else ()
    check_cases(folder.labeled, folder.unlabeled, folder.validation, test, in_channels=in_channels)
    cases = [*folder.labeled, *folder.unlabeled]
    num_classes = described.num_classes or LARGEST_LABEL + 1

    def read(case: dict[str, Any]) -> CaseFacts:
        return read_case_facts(case, num_classes, samples)

    with ThreadPoolExecutor(num_threads) as pool:
        try:
            facts = tuple(progress(pool.map(read, cases), len(cases)))
        finally:
            pool.shutdown(cancel_futures=True)
    found = _check_classes(facts, described.num_classes)
    return Fingerprint(
        root=str(folder.root),
        channels=described.channels,
        in_channels=in_channels,
        class_names=tuple(class_names(dataset_dir, found)),
        cases=facts,
        counts={part: len(names) for part, names in folder.names.items()},
    )


def _check_classes(facts: Sequence[CaseFacts], described: int) -> int:
    """Return the number of classes, after making sure that there is an object, and no gap between the labels."""
    seen: dict[int, str] = {}
    for case in facts:
        for index in case.class_voxels:
            seen.setdefault(index, case.label_file)
    last = max(seen)
    if last == 0:
        raise DataError(f"{facts[0].label_file}: is background alone, as all other labels are; correct the labels")
    missing = [index for index in range(1, last) if index not in seen]
    if missing and not described:
        raise DataError(
            f"{seen[last]}: has the label {last}, but no label has {missing[0]}; number the classes from 1 to "
            f"{last - len(missing)}, or name all of them in dataset.json"
        )
    return described or last + 1
