# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from medssl_components.data import (
    CaseNameFormatter,
    DataError,
    case_name,
    group_channels,
    image_entry,
    is_volume,
    stem,
)


def paths(*names: str) -> list[Path]:
    return [Path("images") / name for name in names]


def grouped(names: list[str], in_channels: int, labels: tuple[str, ...] = ()) -> dict[str, list[str]]:
    groups = group_channels(paths(*names), in_channels, labels)
    return {case: [path.name for path in files] for case, files in groups.items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("la_01.nii.gz", "la_01"),
        ("la_01.nii", "la_01"),
        ("LA.v2.NII.GZ", "LA.v2"),
        ("scan.nrrd", "scan"),
        ("scan.nhdr", "scan"),
        ("scan.mha", "scan"),
        ("scan.mhd", "scan"),
        ("a_0000.nii.gz", "a_0000"),
    ],
)
def test_stem_takes_off_the_extension_and_nothing_else(name: str, expected: str) -> None:
    assert stem(Path("folder.nii") / name) == expected
    assert is_volume(Path(name))


@pytest.mark.parametrize("name", ["a.png", "a.txt", "a.nii.json", "a.gz", "a.raw", "._a.nii.gz", ".a.nrrd"])
def test_other_and_hidden_files_are_no_volumes(name: str) -> None:
    assert not is_volume(Path(name))


def test_channel_files_of_one_case_are_one_case() -> None:
    names = ["b_0001.nii.gz", "a_0001.nii.gz", "a_0000.nii.gz", "b_0000.nii.gz"]
    assert grouped(names, 2, ("a",)) == {
        "a": ["a_0000.nii.gz", "a_0001.nii.gz"],
        "b": ["b_0000.nii.gz", "b_0001.nii.gz"],
    }


def test_a_single_channel_may_have_its_suffix() -> None:
    assert grouped(["a_0000.nii.gz", "b_0000.nii.gz"], 1, ("a",)) == {"a": ["a_0000.nii.gz"], "b": ["b_0000.nii.gz"]}


@pytest.mark.parametrize("in_channels", [1, 4])
def test_numbered_cases_are_cases_if_a_label_bears_a_full_name(in_channels: int) -> None:
    names = [f"case_{number:04d}.nii.gz" for number in range(4)]
    assert list(grouped(names, in_channels, ("case_0002",))) == [f"case_{number:04d}" for number in range(4)]


def test_numbered_cases_are_cases_if_no_case_would_have_all_channels() -> None:
    names = [f"case_{number:04d}.nii.gz" for number in range(1, 5)]
    assert len(grouped(names, 1)) == 4
    assert len(grouped(names, 2)) == 4


def test_one_image_without_a_suffix_makes_all_of_them_whole_names() -> None:
    assert list(grouped(["a_0000.nii.gz", "b.nii.gz"], 1)) == ["a_0000", "b"]


def test_three_digits_are_no_channel() -> None:
    assert list(grouped(["BRATS_000.nii.gz", "BRATS_001.nii.gz"], 2)) == ["BRATS_000", "BRATS_001"]


def test_a_case_with_a_channel_too_few_is_still_a_case_so_that_the_check_can_name_it() -> None:
    names = ["a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz"]
    assert grouped(names, 2)["b"] == ["b_0000.nii.gz"]


def test_no_images_give_no_cases() -> None:
    assert group_channels([], 1) == {}


def test_two_files_of_one_name_are_an_error() -> None:
    with pytest.raises(DataError) as caught:
        group_channels(paths("a.nii.gz", "a.nrrd"), 1)
    assert str(caught.value) == "images/a.nrrd: another image of this name is images/a.nii.gz; leave one of the two out"


def test_an_entry_is_a_path_or_a_list_of_channels() -> None:
    assert image_entry("a", paths("a.nii.gz")) == "images/a.nii.gz"
    assert image_entry("a", paths("a_0000.nii.gz")) == ["images/a_0000.nii.gz"]
    assert image_entry("a_0000", paths("a_0000.nii.gz")) == "images/a_0000.nii.gz"


@pytest.mark.parametrize("name", ["a", "a_0000", "case.with.dots"])
def test_the_name_of_a_case_survives_the_way_through_its_item(name: str) -> None:
    assert case_name(image_entry(name, paths(f"{name}.nii.gz"))) == name
    assert case_name(image_entry(name, paths(f"{name}_0000.nii.gz", f"{name}_0001.nii.gz"))) == name


@pytest.mark.parametrize("name", ["a", "a_0000", "case.with.dots", "odd.nii"])
def test_a_prediction_is_named_after_its_case(name: str) -> None:
    from monai.data.folder_layout import FolderLayout

    entry = CaseNameFormatter()({"case_name": name}, None)
    layout = FolderLayout("out", extension=".nii.gz", parent=False)
    assert layout.filename(**entry) == str(Path("out") / f"{name}.nii.gz")
