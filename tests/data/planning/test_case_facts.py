# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medssl_components.data import DataError
from medssl_components.data.planning import read_case_facts

# The array's axes run to the back (2 mm), to the left (1 mm) and to the feet (3 mm).
AFFINE = np.array([[0, -1, 0, 5], [-2, 0, 0, 6], [0, 0, -3, 7], [0, 0, 0, 1]], float)


@pytest.fixture
def case(tmp_path: Path, write_volume) -> dict[str, str]:
    """4 x 5 x 6 voxels: the image counts them, 8 of them are class 1 and one is class 3."""
    image = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    label = np.zeros((4, 5, 6), np.uint8)
    label[1:3, 0:4, 2] = 1
    label[3, 4, 5] = 3
    write_volume(tmp_path / "imagesTr" / "a.nii.gz", image, AFFINE)
    write_volume(tmp_path / "labelsTr" / "a.nii.gz", label, AFFINE)
    return {"image": str(tmp_path / "imagesTr" / "a.nii.gz"), "label": str(tmp_path / "labelsTr" / "a.nii.gz")}


def test_grid_and_boxes_are_in_ras_order(case: dict) -> None:
    facts = read_case_facts(case, num_classes=4)
    assert facts.name == "a" and facts.label_file == case["label"]
    np.testing.assert_allclose(facts.spacing, [1, 2, 3])
    np.testing.assert_array_equal(facts.shape, [5, 4, 6])
    assert facts.class_voxels == {0: 111, 1: 8, 3: 1}
    np.testing.assert_allclose(facts.class_boxes[1], [4, 4, 3])  # 4 voxels of 1 mm, 2 of 2 mm, 1 of 3 mm
    np.testing.assert_allclose(facts.class_boxes[3], [1, 2, 3])
    assert set(facts.class_boxes) == {1, 3}


def test_samples_are_spaced_evenly_and_always_the_same(case: dict) -> None:
    facts = read_case_facts(case, num_classes=4, samples=3)
    # Of the nine voxels of the foreground, in stored order, the first, the middle and the last.
    np.testing.assert_array_equal(facts.foreground, [[32, 62, 119]])
    np.testing.assert_array_equal(facts.foreground, read_case_facts(case, 4, 3).foreground)
    many = read_case_facts(case, num_classes=4, samples=1000)
    assert many.foreground.shape == (1, 1000)
    assert set(many.foreground[0]) == {32, 38, 44, 50, 62, 68, 74, 80, 119}
    np.testing.assert_allclose(many.percentiles, [[0.5, 118.5]], atol=0.6)


def test_an_unlabelled_case_has_no_foreground(case: dict) -> None:
    facts = read_case_facts({"image": case["image"]}, num_classes=4)
    assert facts.label_file == "" and facts.foreground.shape == (1, 0)
    assert not facts.class_voxels and not facts.class_boxes


def test_the_box_of_what_is_not_zero(case: dict, write_volume) -> None:
    image = np.zeros((4, 5, 6), np.int16)
    image[0, 0, 0] = image[1, 4, 2] = -3
    write_volume(Path(case["image"]), image, AFFINE)
    assert read_case_facts(case, 4).nonzero_share == pytest.approx(2 * 5 * 3 / 120)
    write_volume(Path(case["image"]), 0 * image, AFFINE)
    assert read_case_facts(case, 4).nonzero_share == 0


def test_channels_of_several_files_and_of_one(tmp_path: Path, write_volume) -> None:
    both = np.arange(48, dtype=np.int16).reshape(2, 3, 4, 2)
    paths = [tmp_path / f"a_{channel:04d}.nii.gz" for channel in range(2)]
    for channel, path in enumerate(paths):
        write_volume(path, both[..., channel], np.eye(4))
    write_volume(tmp_path / "b.nii.gz", both, np.eye(4))
    files, whole = (
        read_case_facts({"image": image}, 2) for image in (list(map(str, paths)), str(tmp_path / "b.nii.gz"))
    )
    assert files.name == "a"
    np.testing.assert_array_equal(files.percentiles, whole.percentiles)
    assert files.percentiles.shape == (2, 2)


def test_errors_name_the_file(case: dict) -> None:
    with pytest.raises(DataError, match=r"labelsTr/a\.nii\.gz: label values 0, 1, 3 are not all in 0\.\.2"):
        read_case_facts(case, num_classes=3)
    content = Path(case["image"]).read_bytes()
    Path(case["image"]).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"imagesTr/a\.nii\.gz: cannot be read"):
        read_case_facts(case, num_classes=4)
