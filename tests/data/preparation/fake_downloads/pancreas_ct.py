# SPDX-License-Identifier: Apache-2.0
"""Pancreas-CT: DICOM series that are written by hand, and NIfTI labels."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .volumes import corner, write_nifti

SHAPE = (24, 20, 10)
# Columns to the left every 0.7 mm, rows to anterior every 0.8 mm, slices downwards every 1.5 mm.
AFFINE = np.array([[-0.7, 0, 0, 10.5], [0, 0.8, 0, -20.25], [0, 0, -1.5, -100.5], [0, 0, 0, 1]])
NAMES = ("PANCREAS_0001", "PANCREAS_0002", "PANCREAS_0026")
LONG = ("OB", "OW")
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


def element(tag: tuple[int, int], kind: str, value: str | int | bytes) -> bytes:
    """One DICOM element in explicit little-endian form."""
    if isinstance(value, int):
        value = struct.pack("<H", value)
    elif isinstance(value, str):
        value = value.encode()
    value += (b"\0" if kind in ("UI", *LONG) else b" ") * (len(value) % 2)
    length = struct.pack("<HI", 0, len(value)) if kind in LONG else struct.pack("<H", len(value))
    return struct.pack("<HH", *tag) + kind.encode() + length + value


def write_slice(path: Path, pixels: np.ndarray, number: int, z: float, **tags: str) -> Path:
    """Write a CT slice by hand; `pixels` are columns, then rows, in HU, `tags` replace some of what it says."""
    tags = {"patient": "PANCREAS_0001", "modality": "CT", "series": "1.2.3", "slope": "1", "intercept": "-1024", **tags}
    tags = {"spacing": "0.8\\0.7", **tags}
    uid = f"{tags['series']}.{number}"
    meta = element((2, 1), "OB", b"\0\1") + element((2, 2), "UI", CT_STORAGE) + element((2, 3), "UI", uid)
    meta += element((2, 0x10), "UI", "1.2.840.10008.1.2.1") + element((2, 0x12), "UI", "1.2.3.4")
    raw = np.rint((pixels - float(tags["intercept"])) / float(tags["slope"])).astype("<u2")
    content = [
        ((8, 0x16), "UI", CT_STORAGE),
        ((8, 0x18), "UI", uid),
        ((8, 0x60), "CS", tags["modality"]),
        ((0x10, 0x20), "LO", tags["patient"]),
        ((0x18, 0x50), "DS", "2.5"),
        ((0x20, 0x0D), "UI", "1.2"),
        ((0x20, 0x0E), "UI", tags["series"]),
        ((0x20, 0x13), "IS", str(number)),
        ((0x20, 0x32), "DS", f"-10.5\\20.25\\{z}"),
        ((0x20, 0x37), "DS", "1\\0\\0\\0\\-1\\0"),
        ((0x28, 2), "US", 1),
        ((0x28, 4), "CS", "MONOCHROME2"),
        ((0x28, 0x10), "US", pixels.shape[1]),
        ((0x28, 0x11), "US", pixels.shape[0]),
        ((0x28, 0x30), "DS", tags["spacing"]),
        ((0x28, 0x100), "US", 16),
        ((0x28, 0x101), "US", 16),
        ((0x28, 0x102), "US", 15),
        ((0x28, 0x103), "US", 0),
        ((0x28, 0x1052), "DS", tags["intercept"]),
        ((0x28, 0x1053), "DS", tags["slope"]),
        ((0x7FE0, 0x10), "OW", raw.T.tobytes()),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    start = b"\0" * 128 + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta)) + meta
    path.write_bytes(start + b"".join(element(*one) for one in content))
    return path


def pancreas(name: str) -> np.ndarray:
    """A body that no flip leaves in its place, and one voxel that tells the case."""
    label = corner(SHAPE)
    label[10 + int(name[-1]), 11 + int(name[-2]), 1] = 1
    return label


def scan(name: str) -> np.ndarray:
    """Soft tissue of 100 HU in air, with a little pattern that tells every voxel's neighbours apart."""
    x, y, z = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    return np.where(pancreas(name) > 0, 100, -900) + (x + 2 * y + 3 * z) % 7


def series_of(source: Path, name: str) -> Path:
    """Return the folder of a case's slices."""
    return source / "manifest-1" / "Pancreas-CT" / name / "11-24-2015-PANCREAS0001-Pancreas-18957" / "Pancreas-99667"


def label_of(source: Path, name: str) -> Path:
    """Return the file of a case's label."""
    return source / "TCIA_pancreas_labels-02-05-2017" / f"label{name[-4:]}.nii.gz"


def write_series(folder: Path, image: np.ndarray, name: Callable[[int], str] = "1-{}.dcm".format, **tags: str) -> Path:
    """File names without zeros in front, so that their order is not that of the slices."""
    for k in range(image.shape[2]):
        write_slice(folder / name(k + 1), image[..., k], k + 1, -100.5 - 1.5 * k, **tags)
    return folder


def download(source: Path, cases: Sequence[str] = NAMES, withdrawn: Sequence[str] = ()) -> Path:
    """Write the cases, the labels of some that were withdrawn, and what is beside them."""
    for name in cases:
        write_series(series_of(source, name), scan(name), patient=name)
    for name in (*cases, *withdrawn):
        write_nifti(label_of(source, name), pancreas(name), np.diag([-0.7, 0.8, -1.5, 1]))
    (source / "metadata.csv").write_text("a,b")
    (series_of(source, cases[0]) / "LICENSE").write_text("CC BY 3.0")
    return source
