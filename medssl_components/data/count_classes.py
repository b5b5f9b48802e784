# SPDX-License-Identifier: Apache-2.0
"""How many voxels each class has in the labelled cases."""

from __future__ import annotations

import torch
from monai.data import Dataset
from monai.transforms import Compose, RandomizableTrait, Transform
from monai.utils import convert_to_tensor

from .case_dataset import CaseDataset
from .case_names import case_name
from .errors import DataError


def count_classes(dataset: CaseDataset, num_classes: int, label_key: str = "label") -> torch.Tensor:
    """Return the number of voxels of each class in the whole pre-processed labels, int64, (num_classes,).

    The transforms up to the first random one are applied, those that the dataset caches, so that no random crop
    enters. A cache folder serves here too; labels that the dataset keeps in memory are read a second time.

    Args:
        dataset: labelled cases.
        num_classes: number of classes, background included.
        label_key: key of the label.

    Raises:
        DataError: for a case without label, or a label that is not a whole number from 0 to num_classes - 1.
    """
    transforms = dataset.transform.transforms
    first_random = dataset.transform.get_index_of_first(_is_random)
    whole = Dataset(dataset.data, Compose(transforms[:first_random]))
    if isinstance(dataset.cache, str) and dataset.cache != "auto":
        whole = CaseDataset(dataset.data, whole.transform, cache=dataset.cache)
    counts = torch.zeros(num_classes, dtype=torch.int64)
    for index, case in enumerate(dataset.data):
        name = case_name(case["image"])
        if label_key not in case:
            raise DataError(f"{name}: has no {label_key}, so its classes cannot be counted; give labelled cases")
        values, numbers = convert_to_tensor(whole[index][label_key], track_meta=False).unique(return_counts=True)
        if not torch.isin(values, torch.arange(num_classes)).all():
            text = ", ".join(f"{value:g}" for value in values[:10].tolist())
            raise DataError(f"{name}: label values {text} are not all in 0..{num_classes - 1}; correct num_classes")
        counts[values.long()] += numbers
    return counts


def _is_random(transform: object) -> bool:
    return isinstance(transform, RandomizableTrait) or not isinstance(transform, Transform)
