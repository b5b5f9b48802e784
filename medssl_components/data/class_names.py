# SPDX-License-Identifier: Apache-2.0
"""What the classes of a data set are called."""

from __future__ import annotations

from pathlib import Path

from .case_folder import BUILT_IN
from .dataset_json import DATASET_JSON, labels_of
from .errors import DataError
from .synthetic import RECIPES


def class_names(dataset_dir: str, num_classes: int) -> list[str]:
    """Return the names of all classes, the background first, from the folder's `dataset.json` if it is there.

    Without the file the names are background, class_1, class_2, ...

    Args:
        dataset_dir: folder of the data set, or "builtin:NAME".
        num_classes: number of classes, the background included.

    Raises:
        DataError: if the file names other than `num_classes` classes, or cannot be read.
    """
    path = Path(dataset_dir) / DATASET_JSON
    if dataset_dir.startswith(BUILT_IN) and dataset_dir[len(BUILT_IN) :] in RECIPES:
        names = dict(enumerate(RECIPES[dataset_dir[len(BUILT_IN) :]].class_names))
        path = Path(dataset_dir)
    elif path.is_file():
        names = labels_of(path.parent)
    else:
        return ["background", *(f"class_{index}" for index in range(1, num_classes))]
    if sorted(names) != list(range(num_classes)):
        raise DataError(f"{path}: names {len(names)} classes, but num_classes is {num_classes}; give --num_classes")
    return [names[index] for index in range(num_classes)]
