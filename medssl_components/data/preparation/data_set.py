# SPDX-License-Identifier: Apache-2.0
"""What is known of a public data set: the files of its download, how they are read, and its published recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# a note of every recipe that crops around the label
GIVEN_ROI = "given-ROI protocol: the crop is made with the ground truth, of test cases as well; say so with every score"


@dataclass(frozen=True)
class RawCase:
    """One case of a download.

    Args:
        name: name of the case, as the published splits have it.
        files: the files it is read from, by their role, such as "image" and "label"; a series of slices is a folder.
    """

    name: str
    files: Mapping[str, Path]


@dataclass(frozen=True)
class ImportedCase:
    """One case as it was published, with its geometry and its label values in order.

    Args:
        image: (X, Y, Z), in the order in which the file stores it.
        label: (X, Y, Z) uint8, class indices.
        affine: 4 x 4, from voxel indices to RAS millimetres, of both.
        warnings: what was odd and was kept or repaired.
        details: what else is known of the case, for `prepare.json`.
        domain: where it comes from, such as a modality or a scanner, in data sets of several domains.
    """

    image: np.ndarray
    label: np.ndarray
    affine: np.ndarray
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""


@dataclass(frozen=True)
class Recipe:
    """What the literature did to the imported cases.

    Args:
        description: whose recipe it is and what it does.
        transforms: MONAI transforms of items with the keys "image" and "label", as a bundle's config writes them.
        notes: what has to be said with every number that is measured on the outcome.
        read: from the files of a case to the imported case, where it differs from what the form does.
    """

    description: str
    transforms: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    read: Callable[[RawCase], ImportedCase] | None = None


@dataclass(frozen=True)
class Form:
    """One form in which the data set is distributed.

    Args:
        patterns: for every role a regular expression that a file's path, relative to the source and with `/`, ends in;
            its group `case` is the name of the case.
        expected: for every role the name of the file, with `{name}` for the case, for messages.
        read: from the files of a case to the imported case.
        recipes: the recipes that go with this form, by name, the usual one first.
        strangers: regular expressions of files that belong to some other data, each with what to say of it.
        find: from the folder of the download and this form to the cases by name, where the patterns alone cannot.
    """

    patterns: Mapping[str, str]
    expected: Mapping[str, str]
    read: Callable[[RawCase], ImportedCase]
    recipes: Mapping[str, Recipe]
    strangers: Mapping[str, str] = field(default_factory=dict)
    find: Callable[[Path, Form], dict[str, RawCase]] | None = None


@dataclass(frozen=True)
class DataSet:
    """A public data set.

    Args:
        name: its name on the command line.
        title: its full name.
        reference: the publication to cite.
        channel_names: names of the image's channels.
        class_names: names of the classes, the background first.
        forms: the forms in which it is distributed, by name.
        splits: the published splits, the usual one first.
        one_folder: whether a prepared folder serves all these splits, so that it takes the cases of all of them.
    """

    name: str
    title: str
    reference: str
    channel_names: tuple[str, ...]
    class_names: tuple[str, ...]
    forms: Mapping[str, Form]
    splits: tuple[str, ...]
    one_folder: bool = False

    @property
    def recipes(self) -> dict[str, str]:
        """The name of every recipe and the form it belongs to."""
        return {recipe: name for name, form in self.forms.items() for recipe in form.recipes}
