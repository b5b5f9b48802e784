# SPDX-License-Identifier: Apache-2.0
"""One case from its download to the prepared folder."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Randomizable

from ..errors import DataError
from ..file_hash import sha256_of
from .data_set import Form, ImportedCase, RawCase
from .find_cases import walk
from .registry import find_data_set

UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class CaseTask:
    """What a worker has to know to prepare one case.

    Args:
        raw: the case.
        data_set: name of the data set.
        form: name of the form it was downloaded in.
        recipe: name of the recipe.
        part: "Tr" or "Ts", the folders that the case goes to.
        source: the folder of the download.
        output: the folder to write to.
        seed: what the recipe draws depends on this number and on the case's name alone.
        record: what an earlier run noted of the case.
    """

    raw: RawCase
    data_set: str
    form: str
    recipe: str
    part: str
    source: Path
    output: Path
    seed: int
    record: Mapping[str, Any] | None = None


def prepare_case(task: CaseTask) -> tuple[dict[str, Any], bool]:
    """Prepare one case, or leave it if an earlier run did and its files are the same.

    Returns:
        record: the source files with their SHA-256, the grid, and what was odd.
        made: whether anything was written.

    Raises:
        DataError: one line that names the file, for whatever is wrong with the case.
    """
    form = find_data_set(task.data_set).forms[task.form]
    files = sorted(set(task.raw.files.values()))
    sources = {path.relative_to(task.source).as_posix(): _digest(path) for path in files}
    images, labels = (task.output / f"{kind}{task.part}" / f"{task.raw.name}.nii.gz" for kind in ("images", "labels"))
    if task.record and task.record.get("sources") == sources and images.is_file() and labels.is_file():
        return dict(task.record), False
    imported = (form.recipes[task.recipe].read or form.read)(task.raw)
    record = {"part": task.part, "sources": sources, **imported.details}
    if imported.domain:
        record["domain"] = imported.domain
    record["label_sha256"] = label_digest(imported.label)
    image, label = _apply(task, form, imported)
    record["shape"] = list(label.shape[1:])
    record["spacing"] = [round(float(side), 6) for side in np.linalg.norm(_affine(label)[:3, :3], axis=0)]
    record["warnings"] = list(imported.warnings) + _odd(imported)
    _write({images: (_compact(image), _affine(image)), labels: (_voxels(label, np.uint8), _affine(label))}, task.output)
    return record, True


def label_digest(label: np.ndarray) -> str:
    """Return a hash of the label inside its own box, which tells one acquisition that is there twice."""
    voxels = np.argwhere(label)
    if not len(voxels):
        return ""
    box = label[tuple(slice(low, high + 1) for low, high in zip(voxels.min(0), voxels.max(0), strict=True))]
    return hashlib.sha256(repr(box.shape).encode() + np.ascontiguousarray(box).tobytes()).hexdigest()


def _apply(task: CaseTask, form: Form, imported: ImportedCase) -> tuple[MetaTensor, MetaTensor]:
    recipe = form.recipes[task.recipe]
    transforms = ConfigParser({"transforms": [dict(entry) for entry in recipe.transforms]}).get_parsed_content(
        "transforms"
    )
    item = {
        "image": MetaTensor(torch.tensor(np.asarray(imported.image, np.float32))[None], affine=imported.affine),
        "label": MetaTensor(torch.tensor(imported.label)[None], affine=imported.affine),
    }
    # The order in which workers take the cases must not matter.
    digest = hashlib.sha256(f"{task.seed}/{task.raw.name}".encode()).digest()
    for transform in transforms:
        if isinstance(transform, Randomizable):
            transform.set_random_state(int.from_bytes(digest[:4], "big"))
        try:
            item = transform(item)
        except DataError as error:
            raise DataError(f"{task.raw.files['label']}: {error}; copy the case again") from error
    return item["image"], item["label"]


def _odd(imported: ImportedCase) -> list[str]:
    if not imported.label.any():
        return ["its label is empty"]
    return ["its image has one value only"] if np.ptp(imported.image) == 0 else []


def _affine(volume: MetaTensor) -> np.ndarray:
    return np.asarray(volume.affine, float)


def _voxels(volume: MetaTensor, dtype: type) -> np.ndarray:
    return volume.as_tensor()[0].numpy().astype(dtype)


def _compact(image: MetaTensor) -> np.ndarray:
    """Return the image as 16-bit integers where that loses nothing, else as float32."""
    array = _voxels(image, np.float32)
    limits = np.iinfo(np.int16)
    fits = limits.min <= array.min() and array.max() <= limits.max and np.array_equal(array, np.rint(array))
    return array.astype(np.int16) if fits else array


def _write(volumes: Mapping[Path, tuple[np.ndarray, np.ndarray]], output: Path) -> None:
    """Write all volumes aside and then move them into place, so that none is ever there by half."""
    (output / UNFINISHED).mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=output / UNFINISHED))
    try:
        aside = {folder / f"{number}.nii.gz": path for number, path in enumerate(volumes)}
        for temporary, path in aside.items():
            _save(temporary, *volumes[path])
        for temporary, path in aside.items():
            path.parent.mkdir(exist_ok=True)
            os.replace(temporary, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    volume = nibabel.Nifti1Image(array, affine)
    volume.header.set_xyzt_units("mm")
    # With both forms set, readers that trust either of them agree; a sheared grid has the second form only.
    volume.set_qform(affine, code=1, strip_shears=True)
    volume.set_sform(affine, code=1)
    # Its bytes depend on the volume alone, not on the time.
    path.write_bytes(gzip.compress(volume.to_bytes(), compresslevel=6, mtime=0))


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and the SHA-256 of all files of a folder."""
    if not path.is_dir():
        return _sha256(path)
    lines = [f"{_sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in walk(path)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); copy it again") from error
