# SPDX-License-Identifier: Apache-2.0
"""What is noted of one case: its grid from the header, and statistics of its voxels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
from scipy.ndimage import find_objects

from ..case_names import case_name
from ..errors import DataError
from ..header import Header, read_header
from ..load_cased import LoadCased

CHECKED_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class CaseFacts:
    """A case's grid and voxels; all axes are in RAS order, as the bundles turn every scan.

    Args:
        name: the case's name.
        file: its image, the first of several channel files, for messages.
        label_file: its label; "" if it is unlabelled.
        spacing: (3,), voxel size in mm.
        shape: (3,), voxels along each axis.
        percentiles: (channels, 2), the 0.5 and 99.5 percentiles of the whole scan.
        nonzero_share: volume of the box of voxels that are not 0, as a share of the scan.
        foreground: (channels, samples), values of voxels that are not background; no column if there are none.
        class_voxels: class to its number of voxels, the background's too; empty for an unlabelled case.
        class_boxes: class to the sides in mm of its bounding box.
    """

    name: str
    file: str
    label_file: str
    spacing: np.ndarray
    shape: np.ndarray
    percentiles: np.ndarray
    nonzero_share: float
    foreground: np.ndarray
    class_voxels: Mapping[int, int]
    class_boxes: Mapping[int, np.ndarray]


def read_case_facts(case: Mapping[str, Any], num_classes: int, samples: int = 10_000) -> CaseFacts:
    """Read a case and return what planning needs of it, a small part of the case's size.

    Which voxels are sampled depends on the case alone: they are spaced evenly in the stored order, over the foreground
    and over the scan. A case with fewer foreground voxels than `samples` gives some of them more than once, so that all
    cases have the same weight.

    Args:
        case: `{"image": path or paths}`, with "label" if its label is to be used.
        num_classes: labels must be whole numbers in 0 .. num_classes - 1.
        samples: number of voxels that are sampled, in the foreground and in the whole scan.

    Raises:
        DataError: for whatever is wrong with the files.
    """
    files = case["image"] if isinstance(case["image"], (list, tuple)) else [case["image"]]
    header = read_header(files[0])
    spacing, order = ras_spacing(header, str(files[0]))
    item = LoadCased(["image", "label"], num_classes)({key: case[key] for key in ("image", "label") if key in case})
    image = item["image"].numpy()
    channels = image.reshape(len(image), -1)
    label = item["label"].numpy()[0] if "label" in item else None
    foreground = np.zeros((len(image), 0), np.float32)
    if label is not None and label.any():
        inside = np.flatnonzero(label)
        foreground = channels[:, inside[_evenly(len(inside), samples)]]
    whole = channels[:, _evenly(channels.shape[1], samples)]
    return CaseFacts(
        name=case_name(case["image"]),
        file=str(files[0]),
        label_file=str(case.get("label", "")),
        spacing=spacing,
        shape=np.array(header.shape)[order],
        percentiles=np.percentile(whole, CHECKED_PERCENTILES, axis=1).T,
        nonzero_share=_nonzero_share(image),
        foreground=foreground,
        class_voxels={} if label is None else _count(label),
        class_boxes={} if label is None else {key: box[order] * spacing for key, box in _boxes(label).items()},
    )


def ras_spacing(header: Header, file: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxel size in RAS order, and for each RAS axis the array's axis that lies nearest to it.

    Raises:
        DataError: for voxels without a size.
    """
    if not np.isfinite(header.affine).all() or (header.spacing <= 0).any():
        sides = " x ".join(f"{side:g}" for side in header.spacing)
        raise DataError(f"{file}: its header gives voxels of {sides} mm; correct it")
    order = np.argsort(nibabel.io_orientation(header.affine)[:, 0])
    return header.spacing[order], order


def _evenly(length: int, number: int) -> np.ndarray:
    return np.linspace(0, length - 1, number).round().astype(int)


def _count(label: np.ndarray) -> dict[int, int]:
    counts = np.bincount(label.ravel())
    return {index: int(counts[index]) for index in np.flatnonzero(counts)}


def _boxes(label: np.ndarray) -> dict[int, np.ndarray]:
    boxes = enumerate(find_objects(label), start=1)
    return {index: np.array([side.stop - side.start for side in box]) for index, box in boxes if box is not None}


def _nonzero_share(image: np.ndarray) -> float:
    box = find_objects((image != 0).any(axis=0).astype(np.uint8))
    return float(np.prod([side.stop - side.start for side in box[0]]) / image[0].size) if box else 0.0
