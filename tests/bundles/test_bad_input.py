# SPDX-License-Identifier: Apache-2.0
"""What a user sees when data or options are at fault: one line, before anything is trained."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from medssl_components.engines import user_error_line

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "bundles/supervised/configs/train.json"
TINY = {
    "patch_size": [16, 16, 16],
    "spacing": "native",
    "max_epochs": 1,
    "iterations_per_epoch": 1,
    "batch_size": {"labeled": 2, "unlabeled": 0},
    "network_def::base_channels": 2,
    "num_workers": 0,
    "precision": "fp32",
}
Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, make_folder: Callable[..., Path]) -> Path:
    return make_folder(tmp_path_factory.mktemp("source") / "data", shape=(20, 18, 16))


@pytest.fixture
def folder(tmp_path: Path, source: Path) -> Path:
    return shutil.copytree(source, tmp_path / "data")


@pytest.fixture(autouse=True)
def quiet_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in the repository with one thread, and keep the hook for uncaught errors that a bundle sets out of pytest."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    paths = {"dataset_dir": folder, "ckpt_dir": folder.parent / "models", "output_dir": folder.parent / "eval"}
    return {**{key: str(path) for key, path in paths.items()}, **TINY, **changes}


def train(folder: Path, **changes: Any) -> None:
    workflow = ConfigWorkflow(CONFIG, logging_file=False, workflow_type="train", **options(folder, **changes))
    workflow.initialize()
    workflow.run()


def line_of(folder: Path, **changes: Any) -> str | None:
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011 - whatever MONAI makes of it
        train(folder, **changes)
    assert not list(folder.parent.glob("models/*"))
    line = user_error_line(caught.value)
    return line and line.replace(str(folder), "DIR").replace(str(folder.parent), "TMP")


def rewrite(path: Path, voxels: Callable[[np.ndarray], np.ndarray] = lambda array: array, move: float = 0.0) -> None:
    volume = nibabel.load(path)
    affine = volume.affine.copy()
    affine[0, 3] += move
    nibabel.save(nibabel.Nifti1Image(voxels(np.asarray(volume.dataobj)), affine), path)


def change(name: str, voxels: Callable[[np.ndarray], np.ndarray] = lambda array: array, move: float = 0.0) -> Change:
    return lambda folder: rewrite(folder / name, voxels, move)


def put(value: float, kind: type) -> Callable[[np.ndarray], np.ndarray]:
    """Put a value into the middle of a volume, where every crop of these tests could find it."""

    def edit(array: np.ndarray) -> np.ndarray:
        array = array.astype(kind)
        array[10, 9, 8] = value
        return array

    return edit


def text(name: str, content: str) -> Change:
    return lambda folder: (folder / name).write_text(content) and None


def split(**lists: list[int]) -> Change:
    names = {key: [f"case_{number:02d}" for number in numbers] for key, numbers in lists.items()}
    return text("split.json", json.dumps(names))


def cut(name: str, part: float) -> Change:
    def edit(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(part * len(content))])

    return edit


def cut_uncompressed(folder: Path) -> None:
    volume = nibabel.load(folder / "imagesTr/case_02.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.asarray(volume.dataobj), volume.affine), folder / "imagesTr/case_02.nii")
    (folder / "imagesTr/case_02.nii.gz").unlink()
    cut("imagesTr/case_02.nii", 0.5)(folder)


def two_channels(folder: Path) -> None:
    rewrite(folder / "imagesTr/case_04.nii.gz", lambda array: np.stack([array, array], axis=-1))


def without(*names: str) -> Change:
    return lambda folder: [shutil.rmtree(folder / name) for name in names] and None


def rename_labels(folder: Path) -> None:
    for path in sorted(folder.glob("labels*/*")):
        path.rename(path.with_name(f"seg_{path.name}"))


def link_twin(folder: Path) -> None:
    (folder / "imagesTr/case_05.nii.gz").unlink()
    (folder / "imagesTr/case_05.nii.gz").symlink_to(folder / "imagesTr/case_01.nii.gz")


BAD_FOLDERS: dict[str, tuple[Change, str]] = {
    "unreadable": (
        text("imagesTr/case_02.nii.gz", "no volume"),
        "DIR/imagesTr/case_02.nii.gz: cannot be read as a volume (File DIR/imagesTr/case_02.nii.gz is not a gzip file)"
        "; copy it again",
    ),
    "unreadable and unlabelled": (
        text("imagesTr/case_05.nii.gz", ""),
        "DIR/imagesTr/case_05.nii.gz: cannot be read as a volume (Empty file: 'DIR/imagesTr/case_05.nii.gz'); "
        "copy it again",
    ),
    "truncated .nii.gz": (
        cut("imagesTr/case_02.nii.gz", 0.5),
        "DIR/imagesTr/case_02.nii.gz: cannot be read, it may be truncated (Compressed file ended before the "
        "end-of-stream marker was reached); copy it again",
    ),
    "truncated label": (
        cut("labelsTr/case_02.nii.gz", 0.8),
        "DIR/labelsTr/case_02.nii.gz: cannot be read, it may be truncated (Compressed file ended before the "
        "end-of-stream marker was reached); copy it again",
    ),
    "truncated .nii": (
        cut_uncompressed,
        "DIR/imagesTr/case_02.nii: cannot be read, it may be truncated (Expected 11520 bytes, got 5584 bytes from "
        "DIR/imagesTr/case_02.nii); copy it again",
    ),
    "image and label of two shapes": (
        change("labelsTr/case_02.nii.gz", lambda array: array[1:]),
        "DIR/labelsTr/case_02.nii.gz: has the shape (19, 18, 16), but DIR/imagesTr/case_02.nii.gz has (20, 18, 16); "
        "resample one",
    ),
    "image and label in two places": (
        change("labelsTr/case_02.nii.gz", move=1.0),
        "DIR/labelsTr/case_02.nii.gz: lies elsewhere in space than DIR/imagesTr/case_02.nii.gz (another affine); "
        "resample one of them",
    ),
    "label out of range": (
        change("labelsTr/case_03.nii.gz", put(2, np.uint8)),
        "DIR/labelsTr/case_03.nii.gz: label values 0, 1, 2 are not all in 0..1; correct the label or num_classes",
    ),
    "label not whole": (
        change("labelsTr/case_03.nii.gz", put(0.5, np.float32)),
        "DIR/labelsTr/case_03.nii.gz: label values are not whole numbers, for example 0.5; use class indices",
    ),
    "NaN": (
        change("imagesTr/case_02.nii.gz", put(np.nan, np.float32)),
        "DIR/imagesTr/case_02.nii.gz: 1 voxel(s) are not finite (NaN or infinite); replace them",
    ),
    "channels": (two_channels, "DIR/imagesTr/case_04.nii.gz: the case has 2 channel(s), but in_channels is 1"),
    "no labelled case": (
        without("labelsTr", "labelsTs"),
        "DIR/labelsTr: no labelled case, for example none for the image 'case_01'; a label has the name of its image",
    ),
    "no image matches a label": (
        rename_labels,
        "DIR: no training image has a label, for example image 'case_01' and label 'seg_case_01'; "
        "a label has the name of its image",
    ),
    "case in two lists": (
        split(training=[1, 2, 3, 4], validation=[3], test=[6]),
        "DIR/split.json: the case 'case_03' is in two lists, training and validation; keep it in one",
    ),
    "case in two lists by a link": (
        link_twin,
        "DIR: the cases 'case_01' (labeled) and 'case_05' (unlabeled) are one file; leave one of them out",
    ),
    "split with a missing case": (
        split(training=[1, 2, 9]),
        "DIR/split.json: training names 'case_09', which has no image in DIR",
    ),
    "empty folder": (
        without("imagesTr", "imagesTs", "labelsTr", "labelsTs"),
        "DIR/imagesTr: holds no NIfTI, NRRD or MetaImage file; put the training scans there",
    ),
    "missing folder": (shutil.rmtree, "dataset_dir 'DIR' is not a folder; give one that has imagesTr/ in it"),
}


@pytest.mark.parametrize(("spoil", "expected"), BAD_FOLDERS.values(), ids=list(BAD_FOLDERS))
def test_bad_data(folder: Path, spoil: Change, expected: str) -> None:
    spoil(folder)
    assert line_of(folder) == expected


BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "misspelt option": ({"dataset_dri": "x"}, "unknown option 'dataset_dri'; did you mean 'dataset_dir'?"),
    "unknown option": (
        {"zzz": 1},
        "unknown option 'zzz'; bundles/supervised/configs/train.json lists the options",
    ),
    "patch side": (
        {"patch_size": [16, 16, 20]},
        "patch_size (16, 16, 20) does not fit the network's strides: axis 2 has side 20, which is not a multiple of "
        "16: use 16 or 32",
    ),
    "more labels than there are": (
        {"labeled": 4},
        "labeled is 4, but 3 training cases of DIR have a label",
    ),
    "in_channels": (
        {"in_channels": 2},
        "DIR/imagesTr/case_01.nii.gz: the case has 1 channel(s), but in_channels is 2",
    ),
    "resume without a checkpoint": (
        {"resume": True},
        "resume: no run with a checkpoint.pt in TMP/eval; leave --resume out to start one",
    ),
    "cache": ({"cache": 2}, 'cache is 2; give "auto", a fraction from 0 to 1 or a folder'),
}


@pytest.mark.parametrize(("changes", "expected"), BAD_OPTIONS.values(), ids=list(BAD_OPTIONS))
def test_bad_options(folder: Path, changes: dict[str, Any], expected: str) -> None:
    assert line_of(folder, **changes) == expected


def test_a_worker_process_names_the_file_as_well(folder: Path) -> None:
    for number in (1, 2, 3):
        rewrite(folder / f"labelsTr/case_{number:02d}.nii.gz", put(7, np.uint8))
    line = line_of(folder, cache=0, num_workers=1)
    assert line.startswith("DIR/labelsTr/case_0")
    assert line.endswith(".nii.gz: label values 0, 1, 7 are not all in 0..1; correct the label or num_classes")


def test_a_label_without_an_image_is_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "imagesTr/case_02.nii.gz").unlink()
    train(folder)
    assert f"{folder}/labelsTr/case_02.nii.gz: no image of this name; the label is left out" in caplog.messages
    assert (folder.parent / "models/model.pt").is_file()


def test_a_volume_smaller_than_the_patch_is_padded(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    train(make_folder(tmp_path / "data", labeled=2, unlabeled=1, shape=(9, 20, 11)))
    assert (tmp_path / "models/model.pt").is_file()


@pytest.mark.parametrize("name", ["label out of range", "missing folder", "misspelt option"])
def test_the_real_command_ends_with_that_line(folder: Path, name: str) -> None:
    if name in BAD_FOLDERS:
        spoil, expected = BAD_FOLDERS[name]
        spoil(folder)
        given = options(folder)
    else:
        changes, expected = BAD_OPTIONS[name]
        given = options(folder, **changes)
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", CONFIG]
    command += [part for key, value in given.items() for part in (f"--{key}", str(value))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: {expected}".replace("DIR", str(folder))
    assert "Traceback" not in done.stderr
    assert not list(folder.parent.glob("models/*"))
