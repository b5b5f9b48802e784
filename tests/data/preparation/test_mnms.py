# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.ndimage import zoom

from medssl_components.data import CaseFolder, DataError, case_name
from medssl_components.data.preparation import load_split, prepare_folder


@pytest.fixture
def fake(fake_downloads: ModuleType) -> ModuleType:
    """The fakes of this data set."""
    return fake_downloads.mnms


@pytest.fixture
def tree(tmp_path: Path, fake: ModuleType) -> Path:
    return fake.download(tmp_path / "OpenDataset")


def run(tree: Path, out: Path, **options: object) -> dict:
    return prepare_folder("mnms", tree, out, **{"recipe": "none", "partial": True, **options})


def message(tree: Path, out: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        run(tree, out, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_splits_have_every_labelled_frame_once_and_a_domain_for_each() -> None:
    sizes = {"A": 190, "B": 250, "C": 100, "D": 100}
    for vendor, size in sizes.items():
        two, five = (load_split(f"mnms_ad_to{vendor}_{share}p") for share in (2, 5))
        assert set(two["test"]) == set(five["test"]) and len(two["test"]) == size
        for split in (two, five):
            assert {split["domains"][case] for case in split["test"]} == {vendor}
            assert {split["domains"][case] for case in split["training"]} == set(sizes) - {vendor}
            assert len(split["domains"]) == len(split["training"]) + size == 640


def test_a_subject_gives_the_two_frames_of_the_table(fake, tree, tmp_path, tools) -> None:
    report = run(tree, tmp_path / "out")
    assert report["counts"] == {
        "training": 6,
        "validation": 0,
        "test": 4,
        "for_other_splits": 0,
        "missing": 630,
        "not_used": 0,
    }
    names = {f"{code}_sa_{frame}" for code in fake.SUBJECTS if code != "A2E3W4" for frame in fake.frames(code)}
    assert set(report["cases"]) == names and len(names) == 10
    for name in names:
        code, frame = name.split("_sa_")
        part = "Ts" if code in ("A0S9V9", "A1E9Q1") else "Tr"
        image, affine = tools["load"](tmp_path / "out" / f"images{part}" / f"{name}.nii.gz")
        expected = np.broadcast_to(np.arange(fake.SHAPE[0])[:, None, None] + 100 * int(frame), fake.SHAPE[:3])
        assert np.array_equal(image, expected)
        assert np.allclose(affine, fake.SHEARED if code == "A6B7Y4" else fake.AFFINE)
        found, affine = tools["load"](tmp_path / "out" / f"labels{part}" / f"{name}.nii.gz")
        assert np.array_equal(found, fake.label(int(frame))) and set(np.unique(found)) == {0, 1, 2, 3}
    case = report["cases"]["A5D0G0_sa_10"]
    assert [case[key] for key in ("subject", "phase", "frame", "vendor", "centre", "domain")] == [
        "A5D0G0",
        "ES",
        10,
        "B",
        "2",
        "B",
    ]
    assert report["cases"]["D3K5Q2_sa_11"]["phase"] == "ED"
    assert report["cases"]["A0S9V9_sa_9"]["spacing"] == [1.25, 1.5, 9.0]
    assert set(case["sources"]) == {
        "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv",
        "Validation/A5D0G0/A5D0G0_sa.nii.gz",
        "Validation/A5D0G0/A5D0G0_sa_gt.nii.gz",
    }


def test_one_folder_serves_all_splits_with_their_domains(tree, tmp_path) -> None:
    run(tree, tmp_path / "out")
    others = tmp_path / "out" / "splits"
    assert len(list(others.iterdir())) == 7
    lists = {}
    for split in ("auto", str(others / "mnms_ad_toB_2p.json")):
        folder = CaseFolder(str(tmp_path / "out"), split=split)
        lists[split] = [{case_name(case["image"]): case["domain"] for case in folder.test}, len(folder.labeled)]
    assert list(lists.values()) == [
        [{"A0S9V9_sa_0": "A", "A0S9V9_sa_9": "A", "A1E9Q1_sa_9": "A", "A1E9Q1_sa_0": "A"}, 6],
        [{"A5D0G0_sa_10": "B", "A5D0G0_sa_0": "B"}, 8],
    ]
    split = json.loads((tmp_path / "out" / "split.json").read_text())
    assert split["domains"]["A6B7Y4_sa_1"] == "D" and split["labeled"] == {"2%": ["A5D0G0_sa_10", "A5D0G0_sa_0"]}


def test_recipe_crops_and_zooms_as_published(fake, tree, tmp_path, tools) -> None:
    """Arrays are z, y, x there: 32 x 144 x 144; slices 1 to 4 are labelled, the last one is lost."""
    report = run(tree, tmp_path / "out", recipe="ad")
    assert any(note.startswith("given-ROI protocol") for note in report["notes"])
    box = np.s_[1:4, 3:15, 4:16]  # 18 // 2 -+ 18 // 3, 20 // 2 -+ 20 // 3
    image = np.broadcast_to(np.arange(fake.SHAPE[0])[:, None, None] + 1000, fake.SHAPE[:3]).transpose(2, 1, 0)[box]
    for kind, volume in (("images", image), ("labels", fake.label(10).transpose(2, 1, 0)[box])):
        expected = zoom(volume, (32 / 3, 144 / 12, 144 / 12), order=0)
        found, affine = tools["load"](tmp_path / "out" / f"{kind}Tr" / "A5D0G0_sa_10.nii.gz")
        assert np.array_equal(found.transpose(2, 1, 0), expected)
        assert np.allclose(np.linalg.norm(affine[:3, :3], axis=0), [1.25 * 11 / 143, 1.5 * 11 / 143, 9 * 2 / 31])
        assert np.allclose(affine, np.diag(affine.diagonal())) and (affine.diagonal() > 0).all()


def test_odd_headers_and_labels_in_other_frames_are_reported(fake, tree, tmp_path, tools) -> None:
    path = tree / "Testing" / "D3K5Q2" / "D3K5Q2_sa_gt.nii.gz"
    truth = np.zeros(fake.SHAPE, np.uint8)
    truth[7, 8, 3, 11] = 1
    truth[7, 8, 3, 3] = 1
    tools["write_nifti"](path, truth, fake.AFFINE + np.eye(4, k=3))
    lines = run(tree, tmp_path / "out")["warnings"]
    assert "A6B7Y4_sa_1: its axes are 1.9 degrees from right angles; they stay so" in lines
    where = "D3K5Q2_sa_gt.nii.gz: its labels are in the frames 3, 11, the table names 0, 11, which are taken"
    grid = "D3K5Q2_sa_gt.nii.gz: its grid is 1 mm from the image's, whose grid it now has"
    for name in ("D3K5Q2_sa_11", "D3K5Q2_sa_0"):
        assert f"{name}: {where}" in lines and f"{name}: {grid}" in lines
    assert "D3K5Q2_sa_0: its label is empty" in lines and "D3K5Q2_sa_11: its label has one slice only" in lines
    assert message(tree, tmp_path / "ad", recipe="ad").startswith(f"{path}: the label is empty")


def test_a_vendor_that_the_split_does_not_say_is_reported(fake, tree, tmp_path) -> None:
    path = fake.table(tree)
    path.write_text(path.read_text().replace("Canon,D,5", "Canon,C,5"))
    text = "its files say that it is of the domain 'C', the split says 'D'"
    lines = [line for line in run(tree, tmp_path / "out")["warnings"] if text in line]
    assert sorted(lines) == [f"A6B7Y4_sa_10: {text}", f"A6B7Y4_sa_1: {text}"]


def test_a_split_of_ones_own_gets_the_domains_of_the_table(tree, tmp_path, tools) -> None:
    split = tools["write_split"](tmp_path / "mine.json", ["A5D0G0_sa_0"], [], ["A0S9V9_sa_9"])
    report = run(tree, tmp_path / "out", split=str(split), partial=False)
    assert set(report["cases"]) == {"A5D0G0_sa_0", "A0S9V9_sa_9"} and not (tmp_path / "out" / "splits").exists()
    written = json.loads((tmp_path / "out" / "split.json").read_text())
    assert written["domains"] == {"A5D0G0_sa_0": "B", "A0S9V9_sa_9": "A"}


def test_broken_scans_are_one_line_that_names_the_file(fake, tree, tmp_path, tools) -> None:
    folder = tree / "Validation" / "A5D0G0"
    truth = np.zeros(fake.SHAPE, np.uint8)
    truth[2, 2, 2, (0, 10)] = (4, 1)
    path = tools["write_nifti"](folder / "A5D0G0_sa_gt.nii.gz", truth, fake.AFFINE)
    assert message(tree, tmp_path / "out") == f"{path}: 1 voxel(s) have the label 4, which is none of 0, 1, 2, 3"
    tools["write_nifti"](path, truth.transpose(1, 0, 2, 3), fake.AFFINE)
    assert message(tree, tmp_path / "out").startswith(f"{path}: has the shape (18, 20, 6, 12), but its image has (20,")
    for role in ("sa", "sa_gt"):
        tools["write_nifti"](folder / f"A5D0G0_{role}.nii.gz", np.zeros(fake.SHAPE[:3] + (8,), np.uint8), fake.AFFINE)
    image = folder / "A5D0G0_sa.nii.gz"
    assert message(tree, tmp_path / "out").startswith(f"{image}: has 8 frames, but the table names 10")
    tools["write_nifti"](image, np.zeros(fake.SHAPE[:3], np.uint8), fake.AFFINE)
    assert message(tree, tmp_path / "out").startswith(f"{image}: has the shape (20, 18, 6); a 4-D file")
    fake.write_subject(folder, "A5D0G0")
    image.write_bytes(image.read_bytes()[:-200])
    assert message(tree, tmp_path / "out").startswith(f"{image}: cannot be read")
    fake.write_subject(folder, "A5D0G0")
    fake.write_subject(tree / "copy", "A5D0G0")
    assert f"another image of the case 'A5D0G0' is {image}" in message(tree, tmp_path / "out")


def test_missing_labels_and_whole_splits_say_which_frame(tree, tmp_path) -> None:
    (tree / "Validation" / "A5D0G0" / "A5D0G0_sa_gt.nii.gz").unlink()
    text = (
        "632 of the 640 cases of the split mnms_ad_toA_2p are not complete, for example there is no frame A5D0G0_sa_10"
    )
    assert f"{text} of SUBJECT/SUBJECT_sa_gt.nii.gz; add the files" in message(tree, tmp_path / "out", partial=False)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda text: text.replace("Vendor,Centre", "Maker,Centre"), "has no column 'Vendor'; take the table"),
        (
            lambda text: text.replace("Philips,B,2.0,0,10", "Philips,B,2.0,0,10.5"),
            "ES of the subject 'A5D0G0' is '10.5'",
        ),
        (lambda text: text.replace("Philips,B,2.0,0,10", "Philips,B,2.0,,10"), "ED of the subject 'A5D0G0' is ''"),
        (lambda text: text + text.splitlines()[1] + "\n", "has two rows of the subject 'A0S9V9'"),
    ],
    ids=["column", "half a frame", "no frame", "twice"],
)
def test_a_broken_table_is_one_line_that_names_it(fake, tree, tmp_path, change, text) -> None:
    fake.table(tree).write_text(change(fake.table(tree).read_text(encoding="utf-8-sig")))
    assert message(tree, tmp_path / "out").startswith(f"{fake.table(tree)}: {text}")


def test_scans_without_their_table_or_their_row(fake, tree, tmp_path, tools) -> None:
    fake.write_subject(tree / "Testing" / "Z9Z9Z9", "A0S9V9")
    for role in ("sa", "sa_gt"):
        path = tree / "Testing" / "Z9Z9Z9" / f"A0S9V9_{role}.nii.gz"
        path.rename(path.with_name(f"Z9Z9Z9_{role}.nii.gz"))
    assert message(tree, tmp_path / "out").startswith(f"{tree / 'Testing' / 'Z9Z9Z9' / 'Z9Z9Z9_sa'}")
    text = fake.table(tree).read_text()
    fake.table(tree).unlink()
    assert message(tree, tmp_path / "out") == f"{tree}: holds scans of M&Ms and no {fake.table(tree).name}; add it"
    for folder in ("a", "b"):
        (tree / folder).mkdir()
        (tree / folder / fake.table(tree).name).write_text(text)
    assert "holds scans of M&Ms and 2 tables" in message(tree, tmp_path / "out")
    with pytest.raises(DataError, match="holds no image of mnms, frame CASE of SUBJECT/SUBJECT_sa"):
        prepare_folder("mnms", tmp_path / "OpenDataset" / "a", tmp_path / "out")
