# SPDX-License-Identifier: Apache-2.0
"""Reading a DICOM series as one volume, with errors that name the slice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

import itk
import numpy as np

from ..errors import DataError, reason
from ..header import RAS_FROM_LPS
from .find_cases import walk

SUFFIX = ".dcm"
MODALITY = "0008|0060"
PATIENT = "0010|0020"
SERIES = "0020|000e"
NUMBER = "0020|0013"
POSITION = "0020|0032"
TOLERANCE = 1e-2  # mm


@dataclass(frozen=True)
class Slice:
    """One slice of a series.

    Args:
        path: its file.
        number: its InstanceNumber.
        pixels: (X, Y): columns, then rows, in Hounsfield units.
        axes: 3 x 2, from pixel indices to LPS millimetres.
        position: 3, of the centre of the first pixel, in LPS millimetres.
        scale: slope and intercept, which `pixels` have had applied.
        series: its SeriesInstanceUID.
    """

    path: Path
    number: int
    pixels: np.ndarray
    axes: np.ndarray
    position: np.ndarray
    scale: tuple[float, float]
    series: str


def slice_files(folder: Path) -> list[Path]:
    """Return the slices that lie in a folder, in order of name."""
    return [path for path in walk(folder) if path.parent == folder and path.suffix.lower() == SUFFIX]


def read_tags(path: Path) -> dict[str, str]:
    """Return the tags of a DICOM file, by group and element such as "0008|0060", without its pixels."""
    return _tags(_open(path))


def read_series(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the slices of a folder in the order of their InstanceNumber.

    The distance of the slices is that of their positions, never SliceThickness.

    Returns:
        image: (X, Y, Z): columns, rows, slices, in Hounsfield units.
        affine: 4 x 4, from voxel indices to RAS millimetres.

    Raises:
        DataError: one line that names a slice that cannot be read, that is of another series, size, grid or scale than
            the others, that has the number of another one, or that lies farther from its neighbour than the others do.
    """
    slices = sorted((_read_slice(path) for path in slice_files(folder)), key=lambda one: one.number)
    if len(slices) < 2:
        raise DataError(f"{folder}: holds {len(slices)} slice(s); copy the whole series")
    _check_alike(slices, "the SeriesInstanceUID", lambda one: one.series)
    _check_alike(slices, "the shape", lambda one: one.pixels.shape)
    _check_alike(slices, "pixel spacing and directions", lambda one: tuple(np.round(one.axes, 4).ravel().tolist()))
    _check_alike(slices, "slope and intercept", lambda one: one.scale)
    for one, following in zip(slices, slices[1:], strict=False):
        if one.number == following.number:
            raise DataError(
                f"{following.path}: has the InstanceNumber {one.number}, as {one.path.name} has; remove one of the two"
            )
    step = _step(slices)
    lps = np.eye(4)
    lps[:3, :2], lps[:3, 2], lps[:3, 3] = slices[0].axes, step, slices[0].position
    return np.stack([one.pixels for one in slices], axis=2), RAS_FROM_LPS @ lps


def _step(slices: list[Slice]) -> np.ndarray:
    """Return the way from one slice to the next, the same for all."""
    positions = np.stack([one.position for one in slices])
    steps = np.diff(positions, axis=0)
    usual = np.median(steps, axis=0)
    if np.linalg.norm(usual) < TOLERANCE:
        raise DataError(f"{slices[1].path}: lies where {slices[0].path.name} lies; copy the series again")
    off = np.linalg.norm(steps - usual, axis=1)
    if off.max() > TOLERANCE:
        before, after = slices[int(off.argmax())], slices[int(off.argmax()) + 1]
        raise DataError(
            f"{after.path}: lies {np.linalg.norm(after.position - before.position):.3g} mm from {before.path.name}, "
            f"the slice before it, where {np.linalg.norm(usual):.3g} mm are usual; copy the series again, slices are "
            "missing or in another order"
        )
    return (positions[-1] - positions[0]) / (len(slices) - 1)


def _check_alike(slices: list[Slice], what: str, value: Callable[[Slice], Hashable]) -> None:
    counts = Counter(map(value, slices))
    usual = counts.most_common(1)[0][0]
    odd = next((one for one in slices if value(one) != usual), None)
    if odd is not None:
        text = f"{what} {value(odd)}, where {counts[usual]} of {len(slices)} slices have {usual}"
        raise DataError(f"{odd.path}: has {text}; move it out of the folder, or copy the series again")


def _read_slice(path: Path) -> Slice:
    reader = _open(path)
    tags = _tags(reader)
    missing = [key for key in (NUMBER, POSITION, SERIES) if not tags.get(key)]
    if missing:
        raise DataError(f"{path}: has no tag {', '.join(missing)}, so its place in the series is not known")
    try:
        image = itk.imread(str(path), imageio=reader)
        number = int(tags[NUMBER])
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a slice ({reason(error)}); copy it again") from error
    pixels = itk.array_from_image(image)
    if pixels.ndim != 3 or len(pixels) != 1:
        raise DataError(f"{path}: has the shape {pixels.shape[::-1]}; one slice a file is expected")
    axes = itk.array_from_matrix(image.GetDirection())[:, :2] * np.asarray(image.GetSpacing())[:2]
    scale = (float(reader.GetRescaleSlope()), float(reader.GetRescaleIntercept()))
    return Slice(path, number, pixels[0].T, axes, np.asarray(image.GetOrigin(), float), scale, tags[SERIES])


def _open(path: Path) -> itk.GDCMImageIO:
    reader = itk.GDCMImageIO.New()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(f"{path}: cannot be read as a DICOM file, it may be truncated; copy it again") from error
    return reader


def _tags(reader: itk.GDCMImageIO) -> dict[str, str]:
    tags = reader.GetMetaDataDictionary()
    return {key: str(tags[key]).strip(" \0") for key in tags.GetKeys()}
