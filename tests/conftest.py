# SPDX-License-Identifier: Apache-2.0
"""Small data set folders that look like medicine, for all tests."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import itk
import nibabel
import numpy as np
import pytest

# On tensors this small a second thread costs more than it does; processes that tests start inherit this. It must be set
# before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

FLIP_XY = np.diag([-1.0, -1.0, 1.0, 1.0])
SPACING = (1.2, 0.9, 2.0)


def _write_volume(path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
    """Write `(X, Y, Z)`, or `(X, Y, Z, channels)`, with an affine to RAS mm in the format that the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii", ".nii.gz")):
        nibabel.save(nibabel.Nifti1Image(array, affine), path)
        return path
    axes = (2, 1, 0) if array.ndim == 3 else (2, 1, 0, 3)
    image = itk.image_from_array(np.ascontiguousarray(array.transpose(axes)), is_vector=array.ndim == 4)
    lps = FLIP_XY @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing([float(side) for side in spacing])
    image.SetOrigin([float(value) for value in lps[:3, 3]])
    image.SetDirection(itk.matrix_from_array(lps[:3, :3] / spacing))
    itk.imwrite(image, str(path))
    return path


def _blobs(
    shape: tuple[int, ...], num_classes: int, channels: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a volume `(X, Y, Z, channels)` of noisy ellipsoids, and their classes `(X, Y, Z)`; each class is there."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij"))
    label = np.zeros(shape, np.uint8)
    blobs = max(3, num_classes - 1)
    for blob in range(blobs):
        angle = 2 * np.pi * (blob / blobs + rng.uniform(-0.02, 0.02))
        centre = np.array([0.5 * np.cos(angle), 0.5 * np.sin(angle), rng.uniform(-0.2, 0.2)])
        radii = rng.uniform(0.3, 0.4, size=3)
        inside = (((grid - centre[:, None, None, None]) / radii[:, None, None, None]) ** 2).sum(axis=0) <= 1
        label[inside] = 1 + blob % max(1, num_classes - 1)
    contrast = 100.0 * np.arange(1, channels + 1)
    image = label[..., None] * contrast + rng.normal(0, 20, (*shape, channels))
    return image.astype(np.int16), label


def _make_folder(
    path: Path,
    labeled: int = 3,
    unlabeled: int = 2,
    test: int = 2,
    shape: tuple[int, int, int] = (24, 20, 18),
    channels: int = 1,
    num_classes: int = 2,
    suffix: str = ".nii.gz",
    split: bool = False,
) -> Path:
    affine = np.diag([*SPACING, 1.0])
    affine[0, 0] *= -1
    names = [f"case_{number:02d}" for number in range(1, labeled + unlabeled + test + 1)]
    for number, name in enumerate(names):
        part = "Ts" if number >= labeled + unlabeled and not split else "Tr"
        image, label = _blobs(shape, num_classes, channels, np.random.default_rng(number))
        affine[:3, 3] = (90.0 - 3 * number, -70.0, 12.5 * number)
        for channel in range(channels):
            tail = f"_{channel:04d}" if channels > 1 else ""
            _write_volume(path / f"images{part}" / f"{name}{tail}{suffix}", image[..., channel], affine)
        if not labeled <= number < labeled + unlabeled:
            _write_volume(path / f"labels{part}" / f"{name}{suffix}", label, affine)
    if split:
        training, scored = names[: labeled + unlabeled], names[labeled + unlabeled :]
        content = {"training": training, "validation": scored[: test // 2], "test": scored[test // 2 :]}
        (path / "split.json").write_text(json.dumps(content))
    return path


@pytest.fixture(scope="session")
def make_folder() -> Callable[..., Path]:
    """Return a function that writes a small data set, the same one every time, and returns its folder.

    `make_folder(path, labeled=3, unlabeled=2, test=2, shape=(24, 20, 18), channels=1, num_classes=2, suffix=".nii.gz",
    split=False) -> Path`

    The cases are `case_01`, `case_02`, ...: first the labelled ones, then the unlabelled, then the test cases. A volume
    holds about three noisy blobs, lies off the origin, has voxels of 1.2 x 0.9 x 2.0 mm and runs from right to left.
    Without a split the test cases go to `imagesTs/` and `labelsTs/`; with one all go to `imagesTr/` and `labelsTr/`,
    and `split.json` makes the first half of the test cases, rounded down, the validation cases. Two or more channels
    are files `case_01_0000`, `case_01_0001`, ...; the suffix is `.nii.gz`, `.nii`, `.nrrd`, `.mha` or `.mhd`.
    """
    return _make_folder


@pytest.fixture(scope="session")
def write_volume() -> Callable[..., Path]:
    """Return a function `write_volume(path, array, affine) -> Path` for one volume in RAS, see `make_folder`."""
    return _write_volume


@pytest.fixture(scope="session")
def fake_downloads() -> ModuleType:
    """Return the package `data/preparation/fake_downloads`, whose modules write small trees that look like downloads.

    `fake_downloads.amos.download(source, cases) -> Path`, and so on for every data set that `prepare` knows.
    """
    path = Path(__file__).parent / "data" / "preparation" / "fake_downloads" / "__init__.py"
    spec = importlib.util.spec_from_file_location("fake_downloads", path)
    package = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return package
