# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from medssl_components.data import DataError, check_outputs


@pytest.fixture
def cases(tmp_path: Path) -> list[dict]:
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("a.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz", "c.nrrd"):
        (folder / name).write_bytes(b"x")
    channels = [str(folder / f"b_000{channel}.nii.gz") for channel in (0, 1)]
    return [{"image": str(folder / "a.nii.gz")}, {"image": channels}, {"image": str(folder / "c.nrrd")}]


def test_a_folder_without_predictions_passes_and_is_not_made(cases: list[dict], tmp_path: Path) -> None:
    check_outputs(cases, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_an_earlier_prediction_is_replaced_on_request_only(cases: list[dict], tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.nii.gz"
    path.write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        check_outputs(cases, str(tmp_path))
    assert str(caught.value) == f"{path}: is there already; give another --output_dir, or --overwrite true"
    check_outputs(cases, str(tmp_path), overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_input_is_never_replaced(cases: list[dict], tmp_path: Path, overwrite: bool) -> None:
    with pytest.raises(DataError) as caught:
        check_outputs(cases, str(tmp_path / "scans"), overwrite)
    path = tmp_path / "scans/a.nii.gz"
    assert str(caught.value) == f"{path}: the prediction would replace an image; give another --output_dir"


def test_nor_is_an_input_of_another_case_or_behind_a_link(cases: list[dict], tmp_path: Path) -> None:
    (tmp_path / "c.nii.gz").symlink_to(tmp_path / "scans/b_0001.nii.gz")
    with pytest.raises(DataError, match="would replace an image"):
        check_outputs(cases, str(tmp_path), overwrite=True)
