# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medssl_components.data import DataError
from medssl_components.data.planning import describe_fingerprint, take_fingerprint


@pytest.fixture
def folder(tmp_path: Path, make_folder) -> Path:
    return make_folder(tmp_path / "data", labeled=3, unlabeled=2, test=1, shape=(12, 10, 8), num_classes=3)


def message(folder: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        take_fingerprint(str(folder), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(folder), "DIR")


def affine_of(folder: Path, number: int) -> np.ndarray:
    return nibabel.load(folder / "imagesTr" / f"case_{number:02d}.nii.gz").affine


def label_all(folder: Path, write_volume, *values: int) -> None:
    """Give the labelled cases a cube of one value each."""
    for number, value in enumerate(values, start=1):
        label = np.zeros((12, 10, 8), np.uint8)
        label[2:6, 2:6, 2:6] = value
        write_volume(folder / "labelsTr" / f"case_{number:02d}.nii.gz", label, affine_of(folder, number))


def test_all_training_cases_and_no_test_case(folder: Path) -> None:
    found = take_fingerprint(str(folder))
    assert [case.name for case in found.cases] == [f"case_{number:02d}" for number in range(1, 6)]
    assert [case.name for case in found.labelled] == ["case_01", "case_02", "case_03"]
    assert found.counts == {"labeled": 3, "unlabeled": 2, "validation": 0, "test": 1}
    assert found.class_names == ("background", "class_1", "class_2") and found.in_channels == 1
    np.testing.assert_allclose(found.spacings, np.tile([1.2, 0.9, 2.0], (5, 1)), rtol=1e-6)
    assert found.foreground.shape == (1, 30_000)
    assert sum(found.class_share(index) for index in range(3)) == pytest.approx(1)
    # The objects of the folder have the value 100 or 200 over noise of 20.
    assert 60 < found.foreground_percentiles[0, 1] < 140


def test_the_number_of_threads_changes_nothing(folder: Path) -> None:
    one, three = (take_fingerprint(str(folder), num_threads=number) for number in (1, 3))
    np.testing.assert_array_equal(one.foreground, three.foreground)
    assert describe_fingerprint(one) == describe_fingerprint(three)


def test_labels_that_are_not_used_are_not_looked_at(folder: Path) -> None:
    """Neither by the statistics nor by the checks: case_03 is unlabelled here, whatever lies in labelsTr/."""
    (folder / "labelsTr" / "case_03.nii.gz").write_bytes(b"no label")
    found = take_fingerprint(str(folder), labeled=2)
    assert [case.name for case in found.labelled] == ["case_01", "case_02"]
    assert found.counts["unlabeled"] == 3
    assert "case_03.nii.gz" in message(folder)


def test_names_come_from_the_decathlons_file(folder: Path) -> None:
    labels = {"0": "background", "1": "Anterior", "2": "Posterior", "3": "Rest"}
    (folder / "dataset.json").write_text(json.dumps({"modality": {"0": "MRI"}, "labels": labels}))
    found = take_fingerprint(str(folder))
    assert found.class_names == tuple(labels.values()) and found.channels == ("MRI",)
    assert found.class_share(3) == 0
    (folder / "dataset.json").write_text(
        json.dumps({"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "a"}})
    )
    assert message(folder).startswith("DIR/labelsTr/case_01.nii.gz: label values 0, 1, 2 are not all in 0..1")


def test_a_gap_between_the_labels_is_an_error_without_names(folder: Path, write_volume) -> None:
    label_all(folder, write_volume, 1, 255, 1)
    assert message(folder) == (
        "DIR/labelsTr/case_02.nii.gz: has the label 255, but no label has 2; number the classes from 1 to 2, or name "
        "all of them in dataset.json"
    )


def test_labels_without_any_object_are_an_error(folder: Path, write_volume) -> None:
    label_all(folder, write_volume, 0, 0, 0)
    assert message(folder).startswith("DIR/labelsTr/case_01.nii.gz: is background alone")


def test_broken_folders(folder: Path, write_volume, tmp_path: Path) -> None:
    assert message(tmp_path / "nothing").startswith("dataset_dir 'DIR' is not a folder")
    image = folder / "imagesTr" / "case_04.nii.gz"
    content = image.read_bytes()
    image.write_bytes(content[:-200])
    assert message(folder).startswith("DIR/imagesTr/case_04.nii.gz: cannot be read")
    write_volume(image, np.full((12, 10, 8), np.nan, np.float32), affine_of(folder, 5))
    assert message(folder).startswith("DIR/imagesTr/case_04.nii.gz: 960 voxel(s) are not finite")
    write_volume(image, np.zeros((12, 10, 8, 2), np.int16), affine_of(folder, 5))
    assert message(folder) == "DIR/imagesTr/case_04.nii.gz: the case has 2 channel(s), but in_channels is 1"


def test_two_channels_in_files_of_their_own(tmp_path: Path, make_folder) -> None:
    folder = make_folder(tmp_path / "data", labeled=2, unlabeled=1, test=0, shape=(12, 10, 8), channels=2)
    found = take_fingerprint(str(folder))
    assert found.in_channels == 2 and found.foreground.shape == (2, 20_000)
    assert found.cases[0].file.endswith("case_01_0000.nii.gz")
    low, high = found.foreground_percentiles[:, 1]
    assert high > 1.5 * low  # the second channel has twice the contrast


def test_the_description_has_a_line_for_everything(folder: Path) -> None:
    lines = describe_fingerprint(take_fingerprint(str(folder)))
    assert lines[0] == "cases: 3 labelled, 2 unlabelled, 0 validation, 1 test"
    assert lines[1:5] == [
        "channels: 1",
        "voxels (mm): 1.2 x 0.9 x 2 in all",
        "shapes: 12 x 10 x 8 in all",
        "extent (mm): 14.4 x 9 x 16 in all",
    ]
    assert lines[5].startswith("foreground, channel 0: 0.5, 50 and 99.5 percentiles ")
    assert [line.split(":")[0] for line in lines[6:]] == ["class 0 background", "class 1 class_1", "class 2 class_2"]
    assert "in 3 of 3 labels, median " in lines[7]
