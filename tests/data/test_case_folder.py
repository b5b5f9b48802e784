# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medssl_components.data import CaseFolder, DataError, case_name, find_split, read_split

PARTS = ("labeled", "unlabeled", "validation", "test")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, make_folder: Callable[..., Path]) -> Path:
    return make_folder(tmp_path_factory.mktemp("source") / "data", shape=(4, 4, 3))


@pytest.fixture
def folder(tmp_path: Path, source: Path) -> Path:
    """A folder with case_01 to case_03 labelled, case_04 and case_05 unlabelled, case_06 and case_07 for test."""
    return shutil.copytree(source, tmp_path / "data")


@pytest.fixture
def split_folder(folder: Path) -> Path:
    """The same cases, all in imagesTr/, with case_06 for validation and case_07 for test."""
    for kind in ("images", "labels"):
        for path in (folder / f"{kind}Ts").iterdir():
            path.rename(folder / f"{kind}Tr" / path.name)
    write_split(folder / "split.json")
    return folder


def names(*numbers: int) -> list[str]:
    return [f"case_{number:02d}" for number in numbers]


def write_split(
    path: Path,
    training: tuple = (1, 2, 3, 4, 5),
    validation: tuple = (6,),
    test: tuple = (7,),
    extra: tuple = (),
    **content: object,
) -> None:
    lists = {"training": names(*training), "validation": names(*validation), "test": [*names(*test), *extra]}
    path.write_text(json.dumps({**lists, **content}))


def case_names(folder: Path, **options: object) -> dict[str, list[str]]:
    cases = CaseFolder(str(folder), **options)
    return {part: [case_name(case["image"]) for case in getattr(cases, part)] for part in PARTS}


def message(folder: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        len(CaseFolder(str(folder), **options).labeled)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(folder), "DIR")


def test_without_a_split_the_folders_make_the_lists(folder: Path) -> None:
    assert case_names(folder) == {
        "labeled": names(1, 2, 3),
        "unlabeled": names(4, 5),
        "validation": [],
        "test": names(6, 7),
    }


def test_items_hold_paths_and_an_unlabelled_one_has_no_label(folder: Path) -> None:
    cases = CaseFolder(str(folder), labeled=2)
    assert cases.labeled[0] == {
        "image": str(folder / "imagesTr/case_01.nii.gz"),
        "label": str(folder / "labelsTr/case_01.nii.gz"),
    }
    assert [set(case) for case in cases.unlabeled] == [{"image"}] * 3
    assert [set(case) for case in (*cases.test, *cases.validation)] == [{"image", "label"}] * 2


def test_a_test_scan_without_a_label_is_in_no_list(folder: Path) -> None:
    (folder / "labelsTs/case_06.nii.gz").unlink()
    assert case_names(folder)["test"] == names(7)
    assert case_names(folder)["unlabeled"] == names(4, 5)


def test_a_split_makes_the_lists(split_folder: Path) -> None:
    assert case_names(split_folder) == {
        "labeled": names(1, 2, 3),
        "unlabeled": names(4, 5),
        "validation": names(6),
        "test": names(7),
    }


def test_a_case_outside_of_the_split_is_in_no_list(split_folder: Path) -> None:
    write_split(split_folder / "split.json", training=(3, 5))
    lists = case_names(split_folder)
    assert (lists["labeled"], lists["unlabeled"]) == (names(3), names(5))


def test_a_split_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    write_split(tmp_path / "other.json", training=(2, 4), validation=(3,), test=(6,))
    lists = case_names(folder, split=str(tmp_path / "other.json"))
    assert lists == {"labeled": names(2), "unlabeled": names(4), "validation": names(3), "test": names(6)}


def test_labels_are_kept_in_the_order_of_the_split(split_folder: Path) -> None:
    write_split(split_folder / "split.json", training=(3, 4, 2, 1, 5))
    lists = case_names(split_folder, labeled=2)
    assert lists["labeled"] == names(3, 2)
    assert lists["unlabeled"] == names(4, 1, 5)


def test_items_have_the_domains_of_the_split(split_folder: Path) -> None:
    domains = dict(zip(names(1, 2, 3, 4, 5, 6, 7), ["mr", "mr", "ct", "ct", "mr", "ct", "pet"], strict=True))
    write_split(split_folder / "split.json", domains=domains)
    cases = CaseFolder(str(split_folder))
    assert cases.labeled[0] == {
        "image": str(split_folder / "imagesTr/case_01.nii.gz"),
        "label": str(split_folder / "labelsTr/case_01.nii.gz"),
        "domain": "mr",
    }
    assert {part: [case["domain"] for case in getattr(cases, part)] for part in PARTS} == {
        "labeled": ["mr", "mr", "ct"],
        "unlabeled": ["ct", "mr"],
        "validation": ["ct"],
        "test": ["pet"],
    }
    assert [set(case) for case in cases.unlabeled] == [{"image", "domain"}] * 2


def test_without_domains_in_the_split_items_have_none(split_folder: Path) -> None:
    cases = CaseFolder(str(split_folder))
    assert cases.domains == CaseFolder(str(split_folder)).domains == {}
    assert all("domain" not in case for part in PARTS for case in getattr(cases, part))


def test_domains_that_do_not_fit_the_cases(split_folder: Path) -> None:
    domains = dict.fromkeys(names(1, 2, 3, 4, 5, 6, 7), "mr")
    write_split(split_folder / "split.json", domains={**domains, "case_99": "mr"})
    assert message(split_folder) == "DIR/split.json: domains names 'case_99', which has no image in DIR"
    del domains["case_04"], domains["case_06"]
    write_split(split_folder / "split.json", domains=domains)
    assert message(split_folder) == (
        "DIR/split.json: domains has no entry for 'case_04', 'case_06'; give every case of the split a domain, or none"
    )


def test_labeled_names_a_list_of_the_split(split_folder: Path) -> None:
    write_split(split_folder / "split.json", labeled={"2%": names(3), "5%": names(2, 1)})
    assert case_names(split_folder, labeled="5%")["labeled"] == names(2, 1)
    lists = case_names(split_folder, labeled="2%")
    assert (lists["labeled"], lists["unlabeled"]) == (names(3), names(1, 2, 4, 5))
    assert message(split_folder, labeled="3%") == (
        "labeled is '3%'; give \"all\", a number or a list of case names, or one of the split's lists: 2%, 5%"
    )
    write_split(split_folder / "split.json", labeled={"all": names(3)})
    assert case_names(split_folder)["labeled"] == names(1, 2, 3)


def test_a_split_of_the_package_goes_by_its_name(folder: Path) -> None:
    path = find_split("hippocampus_two_domains", folder)
    first = read_split(path).lists["training"][0]
    assert message(folder, split="hippocampus_two_domains") == (
        f"{path}: training names {first!r}, which has no image in DIR"
    )


@pytest.mark.parametrize(
    ("labeled", "expected"), [("all", (1, 2, 3)), (1, (1,)), (3, (1, 2, 3)), (["case_03", "case_01"], (3, 1))]
)
def test_labeled_says_whose_labels_are_kept(folder: Path, labeled: object, expected: tuple[int, ...]) -> None:
    lists = case_names(folder, labeled=labeled)
    assert lists["labeled"] == names(*expected)
    assert set(lists["unlabeled"]) == set(names(1, 2, 3, 4, 5)) - set(names(*expected))


@pytest.mark.parametrize("labeled", ["all", 1, ["case_02"]])
@pytest.mark.parametrize("split", [False, True])
def test_no_case_is_in_two_lists(request: pytest.FixtureRequest, labeled: object, split: bool) -> None:
    cases = CaseFolder(str(request.getfixturevalue("split_folder" if split else "folder")), labeled=labeled)
    for one, two in itertools.combinations(PARTS, 2):
        for key in (lambda case: case_name(case["image"]), lambda case: os.path.realpath(case["image"])):
            assert not set(map(key, getattr(cases, one))) & set(map(key, getattr(cases, two)))


@pytest.mark.parametrize(
    ("labeled", "expected"),
    [
        (4, "labeled is 4, but 3 training cases of DIR have a label"),
        (0, "labeled is 0, but 3 training cases of DIR have a label"),
        ("some", "labeled is 'some'; give \"all\", a number or a list of case names"),
        (["case_04"], "labeled names 'case_04', which has no label in DIR/labelsTr"),
        (["case_06"], "labeled names 'case_06', which is no training case of DIR"),
        (["case_01", "case_01"], "DIR: the case 'case_01' is twice in the list labeled; keep it once"),
    ],
)
def test_labels_that_cannot_be_kept(folder: Path, labeled: object, expected: str) -> None:
    assert message(folder, labeled=labeled) == expected


@pytest.mark.parametrize("number", [1, 4])
def test_a_case_in_two_lists_of_the_split_is_an_error_with_or_without_its_label(
    split_folder: Path, number: int
) -> None:
    write_split(split_folder / "split.json", validation=())
    (split_folder / "labelsTr/case_04.nii.gz").write_bytes((split_folder / "labelsTr/case_01.nii.gz").read_bytes())
    write_split(split_folder / "split.json", test=(7, number))
    expected = f"DIR/split.json: the case 'case_0{number}' is in two lists, training and test; keep it in one"
    assert message(split_folder, labeled=["case_02"]) == expected


@pytest.mark.parametrize("linked", [1, 4])
def test_a_twin_by_a_link_is_an_error(folder: Path, linked: int) -> None:
    twin = folder / "imagesTs/case_07.nii.gz"
    twin.unlink()
    twin.symlink_to(folder / f"imagesTr/case_0{linked}.nii.gz")
    part = "labeled" if linked == 1 else "unlabeled"
    expected = f"DIR: the cases 'case_0{linked}' ({part}) and 'case_07' (test) are one file; leave one of them out"
    assert message(folder) == expected


def test_a_name_in_both_folders_is_an_error(folder: Path) -> None:
    shutil.copy(folder / "imagesTr/case_04.nii.gz", folder / "imagesTs/case_04.nii.gz")
    assert message(folder) == (
        "DIR/imagesTs/case_04.nii.gz: another image of the case 'case_04' is DIR/imagesTr/case_04.nii.gz; "
        "rename one of the two"
    )


def test_two_labels_of_one_case_are_an_error(folder: Path) -> None:
    shutil.copy(folder / "labelsTr/case_01.nii.gz", folder / "labelsTr/case_01.nrrd")
    assert message(folder) == (
        "DIR/labelsTr/case_01.nrrd: another label of the case 'case_01' is DIR/labelsTr/case_01.nii.gz; "
        "remove one of the two"
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            {"train": ["case_01"]},
            "DIR/split.json: is no split file; give it the lists training, validation and test of case names",
        ),
        (
            ["case_01"],
            "DIR/split.json: is no split file; give it the lists training, validation and test of case names",
        ),
        (
            {"training": ["case_01"], "test": "case_07"},
            "DIR/split.json: is no split file; give it the lists training, validation and test of case names",
        ),
        ({"training": ["case_99"]}, "DIR/split.json: training names 'case_99', which has no image in DIR"),
        (
            {"training": ["case_01"], "test": ["case_04"]},
            "DIR/split.json: test names 'case_04', which has no label in DIR",
        ),
    ],
)
def test_splits_that_cannot_be_used(folder: Path, content: object, expected: str) -> None:
    (folder / "split.json").write_text(json.dumps(content))
    assert message(folder) == expected


def test_a_split_that_is_no_json_or_not_there(folder: Path) -> None:
    assert message(folder, split=str(folder / "gone.json")).startswith(
        "DIR/gone.json: cannot be read as a split file ("
    )
    (folder / "split.json").write_text("{")
    assert message(folder).startswith("DIR/split.json: cannot be read as a split file (Expecting")


def test_no_match_shows_one_name_of_each_folder(folder: Path) -> None:
    for path in list((folder / "labelsTr").iterdir()):
        path.rename(path.with_name(f"seg_{path.name}"))
    shutil.rmtree(folder / "labelsTs")
    assert message(folder) == (
        "DIR: no training image has a label, for example image 'case_01' and label 'seg_case_01'; "
        "a label has the name of its image"
    )


def test_no_label_at_all(folder: Path) -> None:
    shutil.rmtree(folder / "labelsTr")
    shutil.rmtree(folder / "labelsTs")
    assert message(folder) == (
        "DIR/labelsTr: no labelled case, for example none for the image 'case_01'; a label has the name of its image"
    )


def test_empty_and_missing_folders(tmp_path: Path) -> None:
    assert message(tmp_path) == "DIR/imagesTr: holds no NIfTI, NRRD or MetaImage file; put the training scans there"
    assert message(tmp_path / "gone") == "dataset_dir 'DIR' is not a folder; give one that has imagesTr/ in it"


def test_a_label_without_an_image_is_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "imagesTr/case_02.nii.gz").unlink()
    assert case_names(folder)["labeled"] == names(1, 3)
    expected = f"{folder / 'labelsTr/case_02.nii.gz'}: no image of this name; the label is left out"
    assert [record.getMessage() for record in caplog.records] == [expected]


def test_nothing_is_read_before_a_list_is_used(tmp_path: Path) -> None:
    cases = CaseFolder(str(tmp_path / "gone"))
    lists = [getattr(cases, part) for part in PARTS]
    assert "gone" in repr(lists[0])
    with pytest.raises(DataError):
        len(lists[0])


def test_other_files_and_hidden_copies_are_left_alone(folder: Path) -> None:
    (folder / "imagesTr/._case_01.nii.gz").write_bytes(b"x")
    (folder / "imagesTr/notes.txt").write_text("x")
    assert case_names(folder)["labeled"] == names(1, 2, 3)


def test_channel_files_become_one_image(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    folder = make_folder(tmp_path / "data", shape=(4, 4, 3), channels=2)
    cases = CaseFolder(str(folder), in_channels=2)
    assert cases.labeled[0]["image"] == [str(folder / f"imagesTr/case_01_000{channel}.nii.gz") for channel in (0, 1)]
    assert case_names(folder, in_channels=2)["unlabeled"] == names(4, 5)


def test_a_list_reaches_another_process(folder: Path) -> None:
    cases = CaseFolder(str(folder)).labeled
    assert list(pickle.loads(pickle.dumps(cases))) == list(cases)


def test_a_folder_of_test_cases_alone_can_be_scored_but_not_trained_on(make_folder, tmp_path: Path) -> None:
    folder = CaseFolder(str(make_folder(tmp_path, labeled=0, unlabeled=0, test=2)))
    assert len(folder.test) == 2
    with pytest.raises(DataError, match="imagesTr: holds no NIfTI, NRRD or MetaImage file"):
        len(folder.labeled)


def test_no_test_case_is_an_error_when_they_are_asked_for(make_folder, tmp_path: Path) -> None:
    folder = CaseFolder(str(make_folder(tmp_path, labeled=2, unlabeled=1, test=0)))
    assert (len(folder.labeled), len(folder.unlabeled)) == (2, 1)
    with pytest.raises(DataError, match="no test case; list some in split.json"):
        len(folder.test)
