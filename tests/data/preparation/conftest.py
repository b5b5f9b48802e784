# SPDX-License-Identifier: Apache-2.0
"""Small trees that look like the downloads, with labels that no flip and no transposition leaves as they are."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest

LA_SHAPE = (40, 36, 12)


def corner(shape: Sequence[int], value: int = 1, dtype: type = np.uint8) -> np.ndarray:
    """Draw a body that differs along all three axes, away from the middle."""
    label = np.zeros(shape, dtype)
    x, y, z = (side // 6 for side in shape)
    label[x : 3 * x, y : 2 * y, z : 2 * z + 1] = value
    label[x : 2 * x, y : 4 * y, z : 2 * z + 1] = value
    label[x : 2 * x, y : 2 * y, z : 4 * z + 1] = value
    return label


def write_nrrd(path: Path, array: np.ndarray, encoding: str = "raw", spacing: float = 1.0) -> Path:
    """Write an 8-bit NRRD file by hand, x fastest."""
    directions = " ".join(f"({','.join(str(spacing * (row == axis)) for axis in range(3))})" for row in range(3))
    header = [
        "NRRD0004",
        "type: unsigned char",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, array.shape))}",
        f"space directions: {directions}",
        "kinds: domain domain domain",
        f"encoding: {encoding}",
        "space origin: (0,0,0)",
    ]
    voxels = array.astype(np.uint8).tobytes(order="F")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join([*header, "", ""]).encode() + (gzip.compress(voxels) if encoding == "gzip" else voxels))
    return path


def la_case(folder: Path, number: int, **options: object) -> Path:
    """Write one case as the challenge has it; every case has a body and a brightness of its own."""
    label = la_label(number) * 255
    image = np.random.default_rng(number).integers(0, 200, LA_SHAPE) + np.arange(LA_SHAPE[0])[:, None, None]
    write_nrrd(folder / "lgemri.nrrd", image, **options)
    write_nrrd(folder / "laendo.nrrd", label, **options)
    write_nrrd(folder / "lawall.nrrd", 255 - label)
    return folder


def la_label(number: int) -> np.ndarray:
    """Draw a body and one voxel whose place tells the cases 0 to 8 apart."""
    label = corner(LA_SHAPE)
    label[0, 0, number % 9] = 1
    return label


def la_names(number: int) -> list[str]:
    return [f"{index:02d}ABCDEFGHIJKLMNOPQR" for index in range(1, number + 1)]


@pytest.fixture
def la_tree(tmp_path: Path) -> Path:
    """The download of the left atrium with three training cases, one test case, and what is beside them."""
    source = tmp_path / "2018_UTAH_MICCAI"
    names = la_names(4)
    la_case(source / "Training Set" / names[0], 1)
    la_case(source / "Training Set" / names[1], 2, encoding="gzip")
    la_case(source / "Training Set" / names[2], 3)
    la_case(source / "Testing Set" / names[3], 4)
    (source / "Training Set" / names[0] / "desktop.ini").write_text("[ViewState]")
    (source / "Training Set" / names[1] / "._lgemri.nrrd").write_bytes(b"\0")
    (source / "Unet.py").write_text("pass")
    return source


@pytest.fixture
def la_split(tmp_path: Path) -> Path:
    """A split of those cases: two to train on, the first of them labelled, and one to test."""
    names = la_names(3)
    return write_split(tmp_path / "small.json", names[:2], [], names[2:], labeled_counts={"50%": 1})


def write_split(path: Path, training: list[str], validation: list[str], test: list[str], **more: object) -> Path:
    content = {"training": training, "validation": validation, "test": test, **more}
    path.write_text(json.dumps(content))
    return path


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    volume = nibabel.load(path)
    return np.asarray(volume.dataobj), volume.affine


@pytest.fixture(scope="session")
def tools() -> dict[str, Callable]:
    """The functions of this file, by name."""
    functions = (corner, write_nrrd, la_case, la_label, la_names, write_split, write_nifti, load)
    return {function.__name__: function for function in functions}
