# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medssl_components.data import CaseFolder, DataError, check_case, check_cases, warn_if_built_in

SHAPE = (7, 6, 5)
AFFINE = np.array([[-1.2, 0, 0, 90.0], [0, 0.9, 0, -70.0], [0, 0, 2.0, 12.5], [0, 0, 0, 1]])
Write = Callable[..., Path]


def message(*arguments: Any, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        (check_case if isinstance(arguments[0], dict) else check_cases)(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def case(tmp_path: Path, write_volume: Write) -> dict[str, str]:
    write_volume(tmp_path / "image.nii.gz", np.zeros(SHAPE, np.float32), AFFINE)
    write_volume(tmp_path / "label.nii.gz", np.zeros(SHAPE, np.uint8), AFFINE)
    return {kind: str(tmp_path / f"{kind}.nii.gz") for kind in ("image", "label")}


def test_a_good_case_passes(case: dict[str, str]) -> None:
    check_case(case, in_channels=1)
    check_case({"image": case["image"]}, in_channels=1)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii"])
def test_image_and_label_may_be_of_two_formats(
    case: dict[str, str], tmp_path: Path, write_volume: Write, suffix: str
) -> None:
    label = write_volume(tmp_path / f"other{suffix}", np.zeros(SHAPE, np.uint8), AFFINE)
    check_case({"image": case["image"], "label": str(label)}, in_channels=1)


def test_another_shape(case: dict[str, str], write_volume: Write) -> None:
    write_volume(Path(case["label"]), np.zeros((7, 6, 4), np.uint8), AFFINE)
    assert message(case, 1) == (
        f"{case['label']}: has the shape (7, 6, 4), but {case['image']} has (7, 6, 5); resample one"
    )


@pytest.mark.parametrize("column", [0, 3])
def test_another_affine(case: dict[str, str], write_volume: Write, column: int) -> None:
    affine = AFFINE.copy()
    affine[0, column] = -affine[0, column]
    write_volume(Path(case["label"]), np.zeros(SHAPE, np.uint8), affine)
    assert message(case, 1) == (
        f"{case['label']}: lies elsewhere in space than {case['image']} (another affine); resample one of them"
    )


@pytest.mark.parametrize(("shift", "passes"), [(0.08, True), (0.1, False)])
def test_a_tenth_of_the_smallest_voxel_side_is_rounding(
    case: dict[str, str], write_volume: Write, shift: float, passes: bool
) -> None:
    affine = AFFINE.copy()
    affine[2, 3] += shift  # the smallest side is 0.9 mm
    write_volume(Path(case["label"]), np.zeros(SHAPE, np.uint8), affine)
    if passes:
        check_case(case, in_channels=1)
    else:
        assert "another affine" in message(case, 1)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_channels_of_one_file_and_of_many(tmp_path: Path, write_volume: Write, suffix: str) -> None:
    path = str(write_volume(tmp_path / f"a{suffix}", np.zeros((*SHAPE, 2), np.float32), AFFINE))
    check_case({"image": path}, in_channels=2)
    check_case({"image": [path, path]}, in_channels=4)
    assert message({"image": path}, 1) == f"{path}: the case has 2 channel(s), but in_channels is 1"
    assert message({"image": [path]}, 3) == f"{path}: the case has 2 channel(s), but in_channels is 3"


def test_channel_files_on_two_grids(case: dict[str, str]) -> None:
    files = [case["image"], case["label"]]
    check_case({"image": files}, in_channels=2)
    Path(files[1]).unlink()
    assert message({"image": files}, 2) == f"{files[1]}: no such file"


def test_a_label_with_channels(case: dict[str, str], write_volume: Write) -> None:
    write_volume(Path(case["label"]), np.zeros((*SHAPE, 2), np.uint8), AFFINE)
    assert message(case, 1) == f"{case['label']}: a label has one channel, this one has 2; use class indices"


def test_no_labelled_case() -> None:
    assert message([], [], in_channels=1) == (
        "no labelled case; put images into imagesTr/ and labels of the same names into labelsTr/"
    )


def test_an_empty_validation_list_is_no_list_to_evaluate_on(tmp_path: Path, make_folder: Write) -> None:
    folder = make_folder(tmp_path, shape=(4, 4, 3))
    assert message(CaseFolder(str(folder)).validation, in_channels=1) == (
        f"{folder}: no validation case; name some in split.json"
    )


def test_one_case_in_two_lists(case: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "twin.nii.gz").symlink_to(case["image"])
    twin = {"image": str(tmp_path / "twin.nii.gz")}
    assert message([case], [], [case], in_channels=1) == (
        "the case 'image' is in two lists, labeled and validation; keep it in one"
    )
    assert message([case], [twin], in_channels=1) == (
        "the cases 'image' (labeled) and 'twin' (unlabeled) are one file; leave one of them out"
    )


def test_the_first_bad_case_of_many_is_the_one_that_is_named(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    folder = make_folder(tmp_path, labeled=6, unlabeled=0, test=0, shape=(4, 4, 3))
    for number in (5, 3, 6):
        (folder / f"imagesTr/case_0{number}.nii.gz").write_bytes(b"")
    for _ in range(5):
        assert message(CaseFolder(str(folder)).labeled, in_channels=1).startswith(str(folder / "imagesTr/case_03"))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_whole_folder_passes(
    tmp_path: Path, make_folder: Callable[..., Path], caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    cases = CaseFolder(str(make_folder(tmp_path, shape=(6, 5, 4), suffix=suffix, channels=2)), in_channels=2)
    with caplog.at_level(logging.INFO):
        check_cases(cases.labeled, cases.unlabeled, cases.validation, cases.test, in_channels=2)
    assert "checked the headers of 3 labeled + 2 unlabeled + 0 validation + 2 test cases" in caplog.messages


def test_only_built_in_scans_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    warn_if_built_in("/data")
    warn_if_built_in([{"image": "a.nii.gz"}])
    warn_if_built_in(CaseFolder("/data").labeled)
    assert not caplog.messages
    warn_if_built_in("builtin:one_organ")
    assert caplog.messages == [
        "no dataset_dir was given: this run is on the built-in synthetic scans, not on your data"
    ]
