# SPDX-License-Identifier: Apache-2.0
"""What the classes of a data set are called."""

from __future__ import annotations

import json
from pathlib import Path

from .case_folder import BUILT_IN
from .errors import DataError
from .synthetic import RECIPES


def class_names(dataset_dir: str, num_classes: int) -> list[str]:
    """Return the names of all classes, the background first, from the folder's `dataset.json` if it is there.

    Both forms are read: `{"0": "background", "1": "liver"}` of the Medical Segmentation Decathlon and
    `{"background": 0, "liver": 1}` of nnU-Net. Without the file the names are background, class_1, class_2, ...

    Args:
        dataset_dir: folder of the data set, or "builtin:NAME".
        num_classes: number of classes, the background included.

    Raises:
        DataError: if the file names other than `num_classes` classes, or cannot be read.
    """
    if dataset_dir.startswith(BUILT_IN) and dataset_dir[len(BUILT_IN) :] in RECIPES:
        names = dict(enumerate(RECIPES[dataset_dir[len(BUILT_IN) :]].class_names))
        path = Path(dataset_dir)
    else:
        path = Path(dataset_dir) / "dataset.json"
        if not path.is_file():
            return ["background", *(f"class_{index}" for index in range(1, num_classes))]
        try:
            labels = json.loads(path.read_text(encoding="utf-8"))["labels"].items()
            decathlon = all(key.isdigit() for key, _ in labels)
            names = {int(a): str(b) for a, b in labels} if decathlon else {int(b): str(a) for a, b in labels}
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise DataError(f"{path}: its labels cannot be read; give --class_names") from error
    if sorted(names) != list(range(num_classes)):
        raise DataError(f"{path}: names {len(names)} classes, but num_classes is {num_classes}; give --num_classes")
    return [names[index] for index in range(num_classes)]
