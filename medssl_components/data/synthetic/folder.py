# SPDX-License-Identifier: Apache-2.0
"""The folders of the built-in data sets, made on the first call."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from ..errors import DataError
from .many_organs import ManyOrgansRecipe
from .one_organ import OneOrganRecipe
from .recipe import Recipe

FEW_LABELS: dict[str, Recipe] = {"one_organ": OneOrganRecipe(), "many_organs": ManyOrgansRecipe()}
RECIPES: dict[str, Recipe] = FEW_LABELS | {
    f"{name}_all_labels": replace(recipe, labeled=recipe.training) for name, recipe in FEW_LABELS.items()
}


def synthetic_case(
    index: int, seed: int = 0, recipe: Recipe = RECIPES["one_organ"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make one scan: image, label and affine, a function of the arguments alone.

    Args:
        index: number of the case, from 0.
        seed: number of the set of cases, from 0.
        recipe: numbers of the scans.

    Returns:
        image: (W, H, D) float32, from 0 to about 2000.
        label: (W, H, D) uint8, classes as in the recipe's `class_names`.
        affine: (4, 4) float64, from voxels to mm, right-anterior-superior; its directions are orthonormal.
    """
    image, label, affine = recipe.draw(np.random.default_rng([seed, index]))
    return image.astype(np.float32), label.astype(np.uint8), affine


def synthetic_folder(name: str = "one_organ", cache_dir: str | Path | None = None) -> Path:
    """Return the folder of a built-in data set, made on the first call.

    It has `imagesTr/`, `labelsTr/` (labels for few of the training cases, as a user's folder has; the data sets called
    `..._all_labels` have the same scans and all labels, for upper bounds), `dataset.json` as nnU-Net has it and
    `split.json`. It is never half made: it is written under another name and then renamed, so
    several processes may ask for it at once.

    Args:
        name: name of the data set.
        cache_dir: folder to keep it in; by default the environment variable MEDSSL_CACHE, else `medssl_components` in
            the user's cache folder.

    Raises:
        DataError: if there is no such data set, or if its folder is there without its files.
    """
    if name not in RECIPES:
        raise DataError(f"{name!r} is no built-in data set; there is {', '.join(sorted(RECIPES))}")
    cache = Path(cache_dir) if cache_dir is not None else _default_cache()
    folder = cache / f"{name}_v{RECIPES[name].version}"
    if _is_complete(folder):
        return folder
    if folder.exists():
        raise DataError(f"{folder}: holds no split.json; delete this folder, and the built-in scans are made anew")
    temporary = cache / f".{folder.name}_{uuid.uuid4().hex}"
    try:
        _write_folder(temporary, RECIPES[name])
        os.replace(temporary, folder)
    except OSError:
        # Another process may have been first, and its folder, whose files are the same, cannot be replaced.
        if not _is_complete(folder):
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _default_cache() -> Path:
    """Return the folder for caches that the environment or the platform names."""
    if chosen := os.environ.get("MEDSSL_CACHE"):
        return Path(chosen)
    home = Path.home()
    folders = {
        "darwin": home / "Library" / "Caches",
        "win32": Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"),
    }
    usual = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return folders.get(sys.platform, usual) / "medssl_components"


def _is_complete(folder: Path) -> bool:
    """Say whether the data set is there; its split is written last."""
    return (folder / "split.json").is_file()


def _write_folder(folder: Path, recipe: Recipe) -> None:
    """Write all files of a data set."""
    names = [f"scan_{number:02d}" for number in range(1, recipe.training + recipe.validation + recipe.test + 1)]
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for index, name in enumerate(names):
        image, label, affine = synthetic_case(index, recipe=recipe)
        _write_volume(folder / "imagesTr" / f"{name}.nii.gz", np.rint(image).astype(np.int16), affine)
        if not recipe.labeled <= index < recipe.training:
            _write_volume(folder / "labelsTr" / f"{name}.nii.gz", label, affine)
    dataset = {
        "name": "synthetic scans of medssl_components",
        "channel_names": {"0": "MR"},
        "labels": {class_name: number for number, class_name in enumerate(recipe.class_names)},
        "numTraining": len(names),
        "file_ending": ".nii.gz",
    }
    split = {
        "description": f"Built-in synthetic scans; the first {recipe.labeled} for training have a label.",
        "training": names[: recipe.training],
        "validation": names[recipe.training : recipe.training + recipe.validation],
        "test": names[recipe.training + recipe.validation :],
    }
    for file_name, content in (("dataset.json", dataset), ("split.json", split)):
        (folder / file_name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_volume(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write a NIfTI file whose bytes depend on the array and the affine alone, not on the time."""
    volume = nib.Nifti1Image(array, affine)
    volume.header.set_xyzt_units("mm")
    # With both forms set, readers that trust either of them agree.
    volume.set_qform(affine, code=1)
    volume.set_sform(affine, code=1)
    path.write_bytes(gzip.compress(volume.to_bytes(), compresslevel=6, mtime=0))
