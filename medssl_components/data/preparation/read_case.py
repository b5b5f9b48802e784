# SPDX-License-Identifier: Apache-2.0
"""Reading an image and its label as they are stored, with errors that name the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import itk
import nibabel
import numpy as np

from ..errors import DataError, reason
from ..header import Header, is_nifti, read_header
from .data_set import ImportedCase, RawCase

TOLERANCE = 1e-3


def read_case(raw: RawCase, classes: Mapping[int, int], check_grid: bool = True, hint: str = "") -> ImportedCase:
    """Read image and label of a case, and check them against each other.

    Args:
        raw: the case, with the files "image" and "label".
        classes: from the label's values to class indices.
        check_grid: whether spacing and directions of the two have to agree; their shapes have to in any case.
        hint: what to add to the message about any other label value.

    Raises:
        DataError: for a file that cannot be read, another shape or grid, and label values that are not in `classes`.
    """
    image, header = read_volume(raw.files["image"])
    values, label_header = read_volume(raw.files["label"])
    path = raw.files["label"]
    check_shapes(image, values, raw)
    warnings = []
    if check_grid:
        difference = np.abs(label_header.affine[:3, :3] - header.affine[:3, :3]).max()
        if difference > TOLERANCE:
            raise DataError(
                f"{path}: its spacing or directions differ from those of {raw.files['image'].name} by up to "
                f"{difference:.3g} mm a voxel; copy both again"
            )
        shift = np.abs(label_header.affine[:3, 3] - header.affine[:3, 3]).max()
        if shift > TOLERANCE:
            warnings.append(f"{path.name}: its origin is {shift:.3g} mm away from the image's, whose grid it now has")
    label = map_labels(values, classes, path, hint)
    return ImportedCase(image, label, header.affine, tuple(warnings))


def read_volume(path: Path) -> tuple[np.ndarray, Header]:
    """Read a NIfTI, NRRD or MetaImage file as an array `(X, Y, Z)` in its stored order, scaled as its header says."""
    header = read_header(path)
    try:
        if is_nifti(path):
            array = np.asanyarray(nibabel.load(path).dataobj)
        else:
            array = itk.array_from_image(itk.imread(str(path))).T
    except Exception as error:  # of the operating system, nibabel, zlib or ITK
        raise DataError(f"{path}: cannot be read, it may be truncated ({reason(error)}); copy it again") from error
    if array.ndim != 3:
        raise DataError(f"{path}: has the shape {array.shape}; a 3-D volume is expected")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{path}: {int((~np.isfinite(array)).sum())} voxel(s) are not finite; copy it again")
    return array, header


def check_shapes(image: np.ndarray, label: np.ndarray, raw: RawCase) -> None:
    """Raise a `DataError` that names the label's file unless it has the image's shape."""
    if image.shape != label.shape:
        raise DataError(
            f"{raw.files['label']}: has the shape {label.shape}, but the image of the case {raw.name!r} has "
            f"{image.shape}; copy both again"
        )


def map_labels(values: np.ndarray, classes: Mapping[int, int], path: Path, hint: str = "") -> np.ndarray:
    """Return class indices as uint8, through a table, so that no value is mapped twice.

    Args:
        values: label values of any type; a file with a scaling factor may miss whole numbers by rounding.
        classes: from values to class indices.
        path: the label's file, for messages.
        hint: what to add to the message about any other value.

    Raises:
        DataError: for values that are not whole numbers or not in `classes`.
    """
    found, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    whole = np.rint(found)
    if np.abs(found - whole).max() > TOLERANCE:
        example = found[np.abs(found - whole).argmax()]
        raise DataError(f"{path}: label values are not whole numbers, for example {example:g}; copy it again")
    for value, count in zip(whole, counts, strict=True):
        if int(value) not in classes:
            known = ", ".join(map(str, sorted(classes)))
            raise DataError(f"{path}: {count} voxel(s) have the label {value:g}, which is none of {known}{hint}")
    table = np.array([classes[int(value)] for value in whole], np.uint8)
    return table[inverse].reshape(values.shape)
