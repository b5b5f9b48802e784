# SPDX-License-Identifier: Apache-2.0
"""What a volume's header says, without reading its voxels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import itk
import nibabel
import numpy as np

from .errors import DataError, reason

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Header:
    """Grid of a volume.

    Args:
        shape: spatial shape in voxels.
        channels: volumes in the file.
        affine: 4 x 4, from voxel indices to RAS millimetres.
    """

    shape: tuple[int, ...]
    channels: int
    affine: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size in mm along each axis of the array."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def displacement(self, other: Header) -> float:
        """Largest distance in mm between the corners of this grid under the two affines."""
        corners = np.array([(*c, 1) for c in itertools.product(*((0, side - 1) for side in self.shape))])
        return float(np.linalg.norm(corners @ (self.affine - other.affine).T, axis=1).max())


def read_header(path: str | Path) -> Header:
    """Read a NIfTI, NRRD or MetaImage header.

    Raises:
        DataError: if the file is missing or is not such a file, or has other than three spatial dimensions.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file")
    try:
        return _nifti_header(path) if is_nifti(path) else _itk_header(path)
    except DataError:
        raise
    except Exception as error:  # of the operating system, nibabel, zlib, struct or ITK
        raise DataError(f"{path}: cannot be read as a volume ({reason(error)}); copy it again") from error


def is_nifti(path: str | Path) -> bool:
    """Say whether nibabel reads this file; ITK reads the others."""
    return Path(path).name.lower().endswith((".nii", ".nii.gz"))


def _nifti_header(path: str | Path) -> Header:
    image = nibabel.load(path)
    if len(image.shape) not in (3, 4):
        raise DataError(f"{path}: has the shape {image.shape}; give a 3-D volume, or 4-D with the channels last")
    return Header(image.shape[:3], 1 if len(image.shape) == 3 else image.shape[3], np.asarray(image.affine))


def _itk_header(path: str | Path) -> Header:
    reader = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    if reader is None:
        raise ValueError("it has no known format")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    if reader.GetNumberOfDimensions() != 3:
        raise DataError(f"{path}: has {reader.GetNumberOfDimensions()} dimensions; give a 3-D volume")
    axes = range(3)
    lps = np.eye(4)
    lps[:3, :3] = np.array([reader.GetDirection(axis) for axis in axes]).T * [reader.GetSpacing(axis) for axis in axes]
    lps[:3, 3] = [reader.GetOrigin(axis) for axis in axes]
    shape = tuple(int(reader.GetDimensions(axis)) for axis in axes)
    return Header(shape, int(reader.GetNumberOfComponents()), RAS_FROM_LPS @ lps)
