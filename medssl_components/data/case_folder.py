# SPDX-License-Identifier: Apache-2.0
"""Which scans of a folder are labelled, unlabelled, for validation and for test."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from .case_list import CaseList
from .case_names import group_channels, image_entry, stem, volumes_in
from .check_disjoint import check_disjoint
from .errors import DataError
from .split_file import SplitFile, find_split, read_split
from .synthetic import synthetic_folder

BUILT_IN = "builtin:"
PARTS = ("labeled", "unlabeled", "validation", "test")
logger = logging.getLogger(__name__)


class CaseFolder:
    """The four lists of cases that a data set folder holds.

    A case in `imagesTr/` without a label of its name in `labelsTr/` is an unlabelled case. Without a split, `imagesTs/`
    with `labelsTs/` is the test set, and there is no validation set. With a split, unlabelled cases are the training
    cases that are not in the labelled list, whether or not they have a label on disk: it is never looked at.

    A split may say which domain each case comes from, such as a modality or a scanner, `"domains": {"case_a": "mr"}`.
    The lists then decide the scenario: labelled cases of one domain and unlabelled ones of another are unsupervised
    domain adaptation, test cases of a domain that is in no training list domain generalisation.

    Args:
        dataset_dir: folder with `imagesTr/`, `labelsTr/` and, optionally, `imagesTs/`, `labelsTs/` and `split.json`, or
            "builtin:NAME" for the built-in synthetic scans.
        labeled: "all"; a number n, which keeps the labels of the first n training cases that have one, in the order of
            the split, else of the names; a list of case names; or the name of such a list under `labeled` in the split.
        split: "auto" takes `split.json` of the folder if it is there; else the name that this file gives itself, or
            that of a split in `splits/` of the folder, or of one that comes with this package, or the path of such a
            file, with the lists `training`, `validation` and `test` of case names.
        in_channels: number of channels that the network takes, which tells channel files from numbered cases.

    Raises:
        DataError: on first use, for an empty or missing folder, no match between images and labels, a split that names
            a missing case or one case twice, domains of some of its cases only, a training list without any label.
    """

    def __init__(
        self, dataset_dir: str, labeled: str | int | Sequence[str] = "all", split: str = "auto", in_channels: int = 1
    ) -> None:
        self.dataset_dir = str(dataset_dir)
        self.keep = labeled
        self.split = split
        self.in_channels = in_channels

    @property
    def labeled(self) -> CaseList:
        """Cases to train on with their labels."""
        return CaseList(self, "labeled")

    @property
    def unlabeled(self) -> CaseList:
        """Cases to train on without labels."""
        return CaseList(self, "unlabeled")

    @property
    def validation(self) -> CaseList:
        """Cases to choose a model on."""
        return CaseList(self, "validation")

    @property
    def test(self) -> CaseList:
        """Cases to score."""
        return CaseList(self, "test")

    @cached_property
    def root(self) -> Path:
        """The folder on disk; the built-in scans are made when it is first asked for."""
        if self.dataset_dir.startswith(BUILT_IN):
            return synthetic_folder(self.dataset_dir[len(BUILT_IN) :])
        root = Path(self.dataset_dir)
        if not root.is_dir():
            raise DataError(f"dataset_dir {self.dataset_dir!r} is not a folder; give one that has imagesTr/ in it")
        return root

    @cached_property
    def labels(self) -> dict[str, Path]:
        """Case name to label file, of `labelsTr/` and `labelsTs/`."""
        return self._once(self._scan_labels, "label")

    @cached_property
    def images(self) -> dict[str, list[Path]]:
        """Case name to image files, of `imagesTr/` and `imagesTs/`."""
        return self._once(self._scan_images, "image")

    def item(self, name: str, labeled: bool) -> dict[str, Any]:
        """Return one case as MONAI's transforms take it; an unlabelled case has no label key, so none can leak."""
        case = {"image": image_entry(name, self.images[name])}
        if labeled:
            case["label"] = str(self.labels[name])
        if name in self.domains:
            case["domain"] = self.domains[name]
        return case

    def why_empty(self, part: str) -> str:
        """Say in one line why there is no labelled, or no test, case."""
        if part == "test":
            return f"{self.root}: no test case; list some in split.json, or put them into imagesTs/ and labelsTs/"
        images = self._scan_images("Tr")
        if not images:
            return f"{self.root / 'imagesTr'}: holds no NIfTI, NRRD or MetaImage file; put the training scans there"
        image, label = next(iter(images)), next(iter(self.labels), None)
        if label is None:
            found = f"{self.root / 'labelsTr'}: no labelled case, for example none for the image {image!r}"
        else:
            found = f"{self.root}: no training image has a label, for example image {image!r} and label {label!r}"
        return f"{found}; a label has the name of its image"

    @property
    def domains(self) -> dict[str, str]:
        """Case name to domain; empty if the split has no domains, or if there is no split."""
        return self._split.domains if self._split else {}

    @cached_property
    def names(self) -> dict[str, list[str]]:
        """Names of the labelled, unlabelled, validation and test cases."""
        lists = self._split_lists() or self._folder_lists()
        training, labels = lists["training"], self.labels
        known = [name for name in training if name in labels]
        chosen = self._chosen(training, known)
        taken = {*chosen, *lists["validation"], *lists["test"]}
        names = {
            "labeled": chosen,
            "unlabeled": [name for name in training if name not in taken],
            "validation": lists["validation"],
            "test": lists["test"],
        }
        self._check_disjoint(names, self.root)
        for name in sorted(set(labels) - set(self.images)):
            logger.warning("%s: no image of this name; the label is left out", labels[name])
        return names

    def _chosen(self, training: list[str], known: list[str]) -> list[str]:
        if self.keep == "all":
            return known
        if isinstance(self.keep, int) and not isinstance(self.keep, bool):
            if not 0 < self.keep <= len(known):
                raise DataError(f"labeled is {self.keep}, but {len(known)} training cases of {self.root} have a label")
            return known[: self.keep]
        keep = self._labeled_list(self.keep) if isinstance(self.keep, str) else self.keep
        for name in keep:
            if name not in training:
                raise DataError(f"labeled names {name!r}, which is no training case of {self.root}")
            if name not in self.labels:
                raise DataError(f"labeled names {name!r}, which has no label in {self.root / 'labelsTr'}")
        return list(keep)

    def _labeled_list(self, name: str) -> list[str]:
        known = self._split.labeled if self._split else {}
        if name not in known:
            lists = f", or one of the split's lists: {', '.join(known)}" if known else ""
            raise DataError(f'labeled is {name!r}; give "all", a number or a list of case names{lists}')
        return known[name]

    def _folder_lists(self) -> dict[str, list[str]]:
        test = [name for name in self._scan_images("Ts") if name in self.labels]
        return {"training": list(self._scan_images("Tr")), "validation": [], "test": test}

    @cached_property
    def _split(self) -> SplitFile | None:
        path = find_split(self.split, self.root)
        return None if path is None else read_split(path)

    def _split_lists(self) -> dict[str, list[str]] | None:
        if self._split is None:
            return None
        path, lists = self._split.path, self._split.lists
        for key, names in lists.items():
            for name in names:
                if name not in self.images:
                    raise DataError(f"{path}: {key} names {name!r}, which has no image in {self.root}")
                if key != "training" and name not in self.labels:
                    raise DataError(f"{path}: {key} names {name!r}, which has no label in {self.root}")
        for name in self.domains:
            if name not in self.images:
                raise DataError(f"{path}: domains names {name!r}, which has no image in {self.root}")
        self._check_disjoint(lists, path)
        return lists

    def _check_disjoint(self, names: dict[str, list[str]], source: Path) -> None:
        check_disjoint({part: [(name, self.images[name]) for name in found] for part, found in names.items()}, source)

    def _once(self, scan: Callable[[str], dict], kind: str) -> dict:
        found = scan("Tr")
        for name, path in scan("Ts").items():
            if name in found:
                path, other = (value if isinstance(value, Path) else value[0] for value in (path, found[name]))
                raise DataError(f"{path}: another {kind} of the case {name!r} is {other}; rename one of the two")
            found[name] = path
        return found

    def _scan_labels(self, part: str) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in volumes_in(self.root / f"labels{part}"):
            name = stem(path)
            if name in found:
                raise DataError(f"{path}: another label of the case {name!r} is {found[name]}; remove one of the two")
            found[name] = path
        return found

    def _scan_images(self, part: str) -> dict[str, list[Path]]:
        paths = volumes_in(self.root / f"images{part}")
        return group_channels(paths, self.in_channels, self._scan_labels(part))
