# SPDX-License-Identifier: Apache-2.0
"""One line that names the file for whatever is wrong with a download of NIfTI files, image and label a case."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from medssl_components.data import DataError
from medssl_components.data.preparation import prepare_folder

CASES = {"brats2019": "BraTS19_CBICA_AAB_1", "synapse": "0007", "amos": "amos_0001", "mmwhs": "ct_train_1001"}
FILES = {
    "brats2019": ("{}_flair.nii.gz", "{}_seg.nii.gz"),
    "synapse": ("img{}.nii.gz", "label{}.nii.gz"),
    "amos": ("imagesTr/{}.nii.gz", "labelsTr/{}.nii.gz"),
    "mmwhs": ("{}_image.nii.gz", "{}_label.nii.gz"),
}


@pytest.fixture(params=CASES)
def data_set(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tree(data_set: str, fake_downloads: ModuleType, tmp_path: Path) -> Path:
    return getattr(fake_downloads, data_set).download(tmp_path / "source")


@pytest.fixture
def files(data_set: str, tree: Path) -> tuple[Path, Path]:
    """Image and label of one case."""
    image, label = (next(tree.rglob(name.format(CASES[data_set]))) for name in FILES[data_set])
    return image, label


def message(data_set: str, tree: Path, partial: bool = True) -> str:
    out = tree.parent / "out"
    with pytest.raises(DataError) as caught:
        prepare_folder(data_set, tree, out, recipe="none", partial=partial)
    assert "\n" not in str(caught.value)
    assert not list(out.glob(f"*/{CASES[data_set]}.nii.gz"))
    return str(caught.value)


@pytest.mark.parametrize("which", [0, 1], ids=["image", "label"])
def test_a_missing_file(data_set, tree, files, which) -> None:
    files[which].unlink()
    name = FILES[data_set][which].format(CASES[data_set])
    text = message(data_set, tree, partial=False).split("for example there is no ")[1]
    assert text.split(" or ")[0].split(";")[0].endswith(name)


@pytest.mark.parametrize("which", [0, 1], ids=["image", "label"])
def test_a_truncated_file(data_set, tree, files, which) -> None:
    files[which].write_bytes(files[which].read_bytes()[:-60])
    assert message(data_set, tree).startswith(f"{files[which]}: cannot be read")


@pytest.mark.parametrize("which", [0, 1], ids=["image", "label"])
def test_a_file_too_many(data_set, tree, files, which) -> None:
    (tree / "zzz").mkdir()
    folder = tree / "zzz" / files[which].parent.name
    folder.mkdir()
    twin = shutil.copy(files[which], folder)
    role = ("image", "label")[which]
    assert message(data_set, tree).startswith(
        f"{twin}: another {role} of the case '{CASES[data_set]}' is {files[which]}"
    )


def test_a_wrong_value_a_wrong_shape_and_another_grid(data_set, tree, files, tools) -> None:
    label, affine = tools["load"](files[1])
    wrong = label.astype(np.int16)
    wrong[0, 0, :2] = 99
    tools["write_nifti"](files[1], wrong, affine)
    assert message(data_set, tree).startswith(f"{files[1]}: 2 voxel(s) have the label 99, which is none of 0, ")
    tools["write_nifti"](files[1], label.astype(np.float32) + 0.5, affine)
    assert message(data_set, tree).startswith(f"{files[1]}: label values are not whole numbers, for example ")
    tools["write_nifti"](files[1], label.transpose(1, 0, 2), affine)
    assert message(data_set, tree).startswith(f"{files[1]}: has the shape ")
    tools["write_nifti"](files[1], label, affine @ np.diag([1, 1, 1.5, 1]))
    assert message(data_set, tree).startswith(f"{files[1]}: its spacing or directions differ from those of ")
