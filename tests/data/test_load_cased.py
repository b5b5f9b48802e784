# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from medssl_components.data import DataError, LoadCased

SHAPE = (7, 6, 5)
AFFINE = np.array([[-1.2, 0, 0, 90.0], [0, 0.9, 0, -70.0], [0, 0, 2.0, 12.5], [0, 0, 0, 1]])
Write = Callable[..., Path]


def load(num_classes: int = 3, **case: object) -> dict:
    return LoadCased(["image", "label"], num_classes)({key: path for key, path in case.items()})


def message(**case: object) -> str:
    with pytest.raises(DataError) as caught:
        load(**case)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def label(tmp_path: Path, write_volume: Write) -> Callable[..., str]:
    """Write a label of zeros with the given values in its first voxels."""

    def write(*values: float, suffix: str = ".nii.gz", dtype: type = np.float32) -> str:
        array = np.zeros(SHAPE, dtype)
        array.flat[: len(values)] = values
        return str(write_volume(tmp_path / f"label{suffix}", array, AFFINE))

    return write


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_voxels_type_shape_grid_and_name(
    tmp_path: Path, write_volume: Write, label: Callable[..., str], array: np.ndarray, suffix: str
) -> None:
    image = str(write_volume(tmp_path / f"la_01{suffix}", array, AFFINE))
    item = load(image=image, label=label(1, 2, suffix=suffix))
    assert (item["image"].dtype, item["label"].dtype) == (torch.float32, torch.uint8)
    assert item["image"].shape == item["label"].shape == (1, *SHAPE)
    np.testing.assert_array_equal(item["image"][0].numpy(), array)
    assert item["label"].flatten()[:3].tolist() == [1, 2, 0]
    np.testing.assert_allclose(item["image"].affine, AFFINE, atol=1e-6)
    assert item["image"].meta["case_name"] == "la_01"


def test_an_unlabelled_case_gets_no_label(tmp_path: Path, write_volume: Write, array: np.ndarray) -> None:
    assert set(load(image=str(write_volume(tmp_path / "a.nii.gz", array, AFFINE)))) == {"image"}


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_channel_files_and_a_file_of_channels_are_alike(
    tmp_path: Path, write_volume: Write, array: np.ndarray, suffix: str
) -> None:
    channels = np.stack([array, array + 1], axis=-1)
    files = [
        str(write_volume(tmp_path / f"a_000{channel}{suffix}", channels[..., channel], AFFINE)) for channel in (0, 1)
    ]
    whole = str(write_volume(tmp_path / f"a{suffix}", channels, AFFINE))
    one, two = load(image=files)["image"], load(image=whole)["image"]
    np.testing.assert_array_equal(one.numpy(), np.moveaxis(channels, -1, 0))
    np.testing.assert_array_equal(one.numpy(), two.numpy())
    np.testing.assert_array_equal(one.affine, two.affine)
    assert one.meta["case_name"] == two.meta["case_name"] == "a"


@pytest.mark.parametrize(
    ("suffix", "reason"),
    [
        (".nii.gz", "Compressed file ended before the end-of-stream marker was reached"),
        (".nii", "Expected 32000 bytes, got 22294 bytes from "),
        (".nrrd", "fread got only "),
        (".mha", "ITK cannot read its voxels"),
    ],
)
@pytest.mark.parametrize("channel", [0, 1])
def test_a_truncated_file_is_named_whichever_channel_it_is(
    tmp_path: Path, write_volume: Write, suffix: str, reason: str, channel: int
) -> None:
    array = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    files = [write_volume(tmp_path / f"a_000{number}{suffix}", array, AFFINE) for number in (0, 1)]
    content = files[channel].read_bytes()
    files[channel].write_bytes(content[: int(len(content) * 0.7)])
    line = message(image=list(map(str, files)))
    assert line.startswith(f"{files[channel]}: cannot be read, it may be truncated ({reason}")
    assert line.endswith("); copy it again")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite(tmp_path: Path, write_volume: Write, array: np.ndarray, value: float) -> None:
    good = str(write_volume(tmp_path / "a_0000.nii.gz", array, AFFINE))
    array[3, 2, 1] = value
    bad = str(write_volume(tmp_path / "a_0001.nii.gz", array, AFFINE))
    assert message(image=[good, bad]) == f"{bad}: 1 voxel(s) are not finite (NaN or infinite); replace them"


def test_label_values_out_of_range(label: Callable[..., str]) -> None:
    path = label(1, 2, 3)
    assert (
        message(label=path) == f"{path}: label values 0, 1, 2, 3 are not all in 0..2; correct the label or num_classes"
    )
    path = label(-1)
    assert message(label=path) == f"{path}: label values -1, 0 are not all in 0..2; correct the label or num_classes"
    path = label(255, dtype=np.uint8)
    assert message(label=path) == f"{path}: label values 0, 255 are not all in 0..2; correct the label or num_classes"


def test_label_values_that_are_not_whole(label: Callable[..., str]) -> None:
    path = label(1, 0.5)
    assert message(label=path) == f"{path}: label values are not whole numbers, for example 0.5; use class indices"
    path = label(np.nan)
    assert message(label=path) == f"{path}: 1 voxel(s) are not finite (NaN or infinite); replace them"


def test_a_label_of_whole_floats_is_fine(label: Callable[..., str]) -> None:
    assert load(label=label(1.0, 2.0))["label"].dtype == torch.uint8


def test_a_label_with_channels(tmp_path: Path, write_volume: Write) -> None:
    path = str(write_volume(tmp_path / "a.nii.gz", np.zeros((*SHAPE, 2), np.uint8), AFFINE))
    assert message(label=path) == f"{path}: a label has one channel, this one has 2; use class indices"


def test_the_item_that_came_in_is_left_as_it_was(tmp_path: Path, write_volume: Write, array: np.ndarray) -> None:
    case = {"image": str(write_volume(tmp_path / "a.nii.gz", array, AFFINE))}
    LoadCased("image", 2)(case)
    assert case == {"image": str(tmp_path / "a.nii.gz")}
