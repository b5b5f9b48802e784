# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from medssl_components.data import CaseFolder, DataError, case_name
from medssl_components.data.preparation import load_split, prepare_folder


@pytest.fixture
def fake(fake_downloads: ModuleType) -> ModuleType:
    """The fakes of this data set."""
    return fake_downloads.pancreas_ct


@pytest.fixture
def tree(tmp_path: Path, fake: ModuleType) -> Path:
    return fake.download(tmp_path / "download", withdrawn=("PANCREAS_0025", "PANCREAS_0070"))


@pytest.fixture
def split(fake, tmp_path: Path, tools) -> str:
    lists = [fake.NAMES[2], "PANCREAS_0070", fake.NAMES[0]], [], [fake.NAMES[1], "PANCREAS_0025"]
    more = {"labeled_counts": {"67%": 2}, "withdrawn": ["PANCREAS_0025", "PANCREAS_0070"], "notes": "two withdrawn"}
    return str(tools["write_split"](tmp_path / "s.json", *lists, **more))


def run(tree: Path, out: Path, split: str, **options: object) -> dict:
    return prepare_folder("pancreas_ct", tree, out, split=split, **{"recipe": "none", **options})


def broken(tree: Path, out: Path, split: str, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        run(tree, out, split, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_published_splits_know_the_withdrawn_cases() -> None:
    gone = {"PANCREAS_0025", "PANCREAS_0070"}
    for fold in ("mcnet", "mcf_fold0", "mcf_fold1", "mcf_fold2", "mcf_fold3"):
        split = load_split(f"pancreas_{fold}")
        assert set(split["withdrawn"]) == gone <= {*split["training"], *split["test"]}
    assert not gone & set(sum((load_split("pancreas_coranet80")[key] for key in ("training", "test")), []))
    assert load_split("pancreas_mcnet")["training"].index("PANCREAS_0070") == 10
    assert load_split("pancreas_mcnet")["test"].index("PANCREAS_0025") == 16


def test_slices_are_in_the_order_of_their_numbers_and_the_label_lies_on_them(
    fake, tree, split, tmp_path, tools
) -> None:
    """Columns are x and 0.7 mm wide, rows y and 0.8 mm; SliceThickness, 2.5 mm, is not believed."""
    report = run(tree, tmp_path / "out", split)
    for name in fake.NAMES:
        part = "Ts" if name == fake.NAMES[1] else "Tr"
        image, affine = tools["load"](tmp_path / "out" / f"images{part}" / f"{name}.nii.gz")
        assert np.array_equal(image, fake.scan(name)) and image.dtype == np.int16
        assert np.allclose(affine, fake.AFFINE)
        label, affine = tools["load"](tmp_path / "out" / f"labels{part}" / f"{name}.nii.gz")
        assert np.array_equal(label, fake.pancreas(name)) and np.allclose(affine, fake.AFFINE)
        assert image[label > 0].min() >= 100
        assert report["cases"][name]["spacing"] == [0.7, 0.8, 1.5]
        assert report["cases"][name]["label_on_soft_tissue"] == 1
    folder = fake.series_of(tree, fake.NAMES[0]).relative_to(tree).as_posix()
    assert folder in report["cases"][fake.NAMES[0]]["sources"]


def test_withdrawn_cases_are_listed_and_the_numbers_recounted(fake, tree, split, tmp_path) -> None:
    report = run(tree, tmp_path / "out", split)
    assert set(report["missing"]) == {"PANCREAS_0070", "PANCREAS_0025"}
    assert report["missing"]["PANCREAS_0070"].startswith("PANCREAS_0070/STUDY/SERIES/*.dcm")
    text = "labelled cases are missing: 67% has 1, not 2; --labeled 2 takes PANCREAS_0001 in their place"
    assert text in report["warnings"]
    assert report["notes"] == ["two withdrawn"]
    written = json.loads((tmp_path / "out" / "split.json").read_text())
    assert written["labeled_counts"] == {"67%": 1} and written["counts"] == {"training": 2, "validation": 0, "test": 1}
    folder = CaseFolder(str(tmp_path / "out"), labeled=1)
    assert [case_name(case["image"]) for case in folder.labeled] == [fake.NAMES[2]]


def test_a_withdrawn_case_that_is_there_is_reported(fake, tree, split, tmp_path, tools) -> None:
    fake.write_series(fake.series_of(tree, "PANCREAS_0025"), fake.scan("PANCREAS_0025"))
    lines = run(tree, tmp_path / "out", split)["warnings"]
    assert "PANCREAS_0025: was withdrawn by its owners; it is in test" in lines


def test_names_of_files_and_folders_do_not_matter(fake, tree, split, tmp_path, tools) -> None:
    """Shuffled file names; a folder that only its PatientID tells; another modality beside it."""
    run(tree, tmp_path / "out", split)
    other = tmp_path / "other"
    (tree / "TCIA_pancreas_labels-02-05-2017").rename(other / "labels") if other.mkdir() is None else None
    shuffled = "{:02d}.DCM".format
    fake.write_series(
        other / "1.2.3.4", fake.scan(fake.NAMES[0]), lambda k: shuffled(k * 7 % 11), patient=fake.NAMES[0]
    )
    fake.write_series(other / "DOI" / f'"{fake.NAMES[1]}"' / "a", fake.scan(fake.NAMES[1]), patient="x")
    fake.write_series(other / fake.NAMES[2] / "a", fake.scan(fake.NAMES[2]), patient="x")
    fake.write_series(other / fake.NAMES[2] / "b", fake.scan(fake.NAMES[2]), patient="x", modality="SEG")
    fake.write_series(other / "c", fake.scan(fake.NAMES[2]), patient="OTHER_0001")
    run(other, tmp_path / "again", split)
    for name in fake.NAMES:
        part = "Ts" if name == fake.NAMES[1] else "Tr"
        for kind in ("images", "labels"):
            before, after = (tmp_path / out / f"{kind}{part}" / f"{name}.nii.gz" for out in ("out", "again"))
            assert before.read_bytes() == after.read_bytes()


def test_slope_and_intercept_of_the_slices_give_hounsfield_units(fake, tree, split, tmp_path, tools) -> None:
    fake.write_series(fake.series_of(tree, fake.NAMES[0]), fake.scan(fake.NAMES[0]), slope="0.5", intercept="-1000.5")
    run(tree, tmp_path / "out", split)
    image, _ = tools["load"](tmp_path / "out" / "imagesTr" / f"{fake.NAMES[0]}.nii.gz")
    assert np.abs(image - fake.scan(fake.NAMES[0])).max() <= 0.5


def test_a_scan_in_one_file_gives_the_same_by_its_header(fake, tree, split, tmp_path, tools) -> None:
    """A converter has turned the rows around and stacked the slices upwards; the label follows the headers."""
    run(tree, tmp_path / "out", split)
    folder = fake.series_of(tree, fake.NAMES[0])
    for path in folder.iterdir():
        path.unlink()
    turned = fake.AFFINE @ np.array(
        [[1, 0, 0, 0], [0, -1, 0, fake.SHAPE[1] - 1], [0, 0, -1, fake.SHAPE[2] - 1], [0, 0, 0, 1]]
    )
    image = fake.scan(fake.NAMES[0])[:, ::-1, ::-1].astype(np.int16)
    path = tools["write_nifti"](tree / f"{fake.NAMES[0]}.nii.gz", image, turned)
    run(tree, tmp_path / "again", split)
    for kind in ("images", "labels"):
        before, _ = tools["load"](tmp_path / "out" / f"{kind}Tr" / f"{fake.NAMES[0]}.nii.gz")
        after, affine = tools["load"](tmp_path / "again" / f"{kind}Tr" / f"{fake.NAMES[0]}.nii.gz")
        assert np.array_equal(after, before[:, ::-1, ::-1]) and np.allclose(affine, turned)
    fake.write_series(folder, fake.scan(fake.NAMES[0]))
    assert broken(tree, tmp_path / "c", split).startswith(
        f"{folder}: another image of the case '{fake.NAMES[0]}' is {path}"
    )


def test_a_label_of_another_header_is_reported_and_taken_by_its_slices(fake, tree, split, tmp_path, tools) -> None:
    path = fake.label_of(tree, fake.NAMES[0])
    tools["write_nifti"](path, fake.pancreas(fake.NAMES[0]), np.diag([-0.7, 0.8, 1, 1]))
    lines = run(tree, tmp_path / "out", split)["warnings"]
    text = "label0001.nii.gz: its header says"
    assert f"{fake.NAMES[0]}: {text} that its axes are LAS, those of the series are LAI, which it has now" in lines
    assert f"{fake.NAMES[0]}: {text} 0.7 x 0.8 x 1 mm, the series 0.7 x 0.8 x 1.5 mm, which it has now" in lines
    found, _ = tools["load"](tmp_path / "out" / "labelsTr" / f"{fake.NAMES[0]}.nii.gz")
    assert np.array_equal(found, fake.pancreas(fake.NAMES[0]))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_label_is_refused(fake, tree, split, tmp_path, tools, axis: int) -> None:
    path = fake.label_of(tree, fake.NAMES[0])
    tools["write_nifti"](path, np.flip(fake.pancreas(fake.NAMES[0]), axis), np.diag([-0.7, 0.8, -1.5, 1]))
    message = broken(tree, tmp_path / "out", split)
    assert message.startswith(f"{path}: ") and f"100.0% if it were flipped along {'xyz'[axis]}; it does" in message


def test_recipe_resamples_windows_crops_and_normalises(fake, tree, tmp_path, tools) -> None:
    """A scan wide enough to be cropped: 160 x 150 x 10 voxels of 0.875 x 0.9 x 1.5 mm become 140 x 135 x 15."""
    x, y, z = np.meshgrid(np.arange(160), np.arange(150), np.arange(10), indexing="ij")
    label = np.zeros((160, 150, 10), np.uint8)
    label[62:90, 55:80, 2:4] = 1
    label[62:70, 55:70, 2:6] = 1
    image = np.rint(60 * np.sin(x / 9) + 50 * np.cos(y / 8) + 4 * z + np.where(label > 0, 20, 0)) - 40
    image[label == 0] -= 150
    fake.write_series(fake.series_of(tree, fake.NAMES[0]), image, spacing="0.9\\0.875")
    path = fake.label_of(tree, fake.NAMES[0])
    tools["write_nifti"](path, label, np.diag([-0.875, 0.9, -1.5, 1]))
    split = str(tools["write_split"](tmp_path / "one.json", [fake.NAMES[0]], [], []))
    grid = np.stack(np.meshgrid(*map(np.arange, (140, 135, 15)), indexing="ij")) / np.reshape(
        [0.875, 0.9, 1.5], (3, 1, 1, 1)
    )
    whole = map_coordinates(image, grid, order=3, mode="mirror")
    truth = label[tuple(np.minimum(np.rint(grid).astype(int), np.reshape(label.shape, (3, 1, 1, 1)) - 1))]
    window = np.clip((whole + 125) / 400, 0, 1)
    first, last = np.argwhere(truth).min(0), np.argwhere(truth).max(0)
    pad = [max(96 - (high - low), 0) // 2 for low, high in zip(first, last, strict=True)]
    box = [
        slice(max(a - 25 - p, 0), min(b + 25 + p, side))
        for a, b, p, side in zip(first, last, pad, truth.shape, strict=True)
    ]
    assert [one.stop - one.start for one in box][:2] != list(truth.shape[:2])
    for recipe, crop in (("mcnet", (*box[:2], slice(None))), ("coranet", tuple(box))):
        report = run(tree, tmp_path / recipe, split, recipe=recipe)
        assert any(note.startswith("given-ROI protocol") for note in report["notes"])
        found, affine = tools["load"](tmp_path / recipe / "imagesTr" / f"{fake.NAMES[0]}.nii.gz")
        expected = window[crop]
        if recipe == "mcnet":
            expected = (expected - expected.mean()) / expected.std()
        else:
            expected = (expected - window.min()) / (window.max() - window.min())
        assert found.shape == expected.shape and np.allclose(found, expected, atol=2e-4)
        assert np.array_equal(tools["load"](tmp_path / recipe / "labelsTr" / f"{fake.NAMES[0]}.nii.gz")[0], truth[crop])
        assert np.allclose(np.abs(affine[:3, :3]), np.eye(3))
        start = [one.start or 0 for one in crop]
        assert np.allclose(affine[:3, 3], [10.5 - start[0], -20.25 + start[1], -100.5 - start[2]], atol=1e-4)


def test_a_gap_or_a_slice_too_many_names_the_slice(fake, tree, split, tmp_path, tools) -> None:
    folder, image = fake.series_of(tree, fake.NAMES[0]), fake.scan(fake.NAMES[0])
    (folder / "1-5.dcm").unlink()
    text = "lies 3 mm from 1-4.dcm, the slice before it, where 1.5 mm are usual; copy the series again"
    assert broken(tree, tmp_path / "out", split).startswith(f"{folder / '1-6.dcm'}: {text}")
    fake.write_series(folder, image)
    extra = fake.write_slice(folder / "2-1.dcm", image[..., 3], 4, -105.0, series="1.2.4")
    text = "has the SeriesInstanceUID 1.2.4, where 10 of 11 slices have 1.2.3; move it out of the folder"
    assert broken(tree, tmp_path / "out", split).startswith(f"{extra}: {text}")
    fake.write_slice(extra, image[..., 3], 4, -105.0)
    message = broken(tree, tmp_path / "out", split)
    assert message == f"{extra}: has the InstanceNumber 4, as 1-4.dcm has; remove one of the two"
    extra.unlink()
    (folder / "1-10.dcm").unlink()
    label = fake.label_of(tree, fake.NAMES[0])
    assert broken(tree, tmp_path / "out", split).startswith(f"{label}: has the shape (24, 20, 10), but the image")


@pytest.mark.parametrize(
    ("tags", "what"),
    [
        ({"intercept": "-1000"}, "slope and intercept (1.0, -1000.0)"),
        ({"slope": "2"}, "slope and intercept (2.0, -1024.0)"),
        ({"spacing": "0.8\\0.75"}, "pixel spacing and directions"),
    ],
)
def test_a_slice_unlike_the_others_is_named(fake, tree, split, tmp_path, tools, tags: dict, what: str) -> None:
    path = fake.series_of(tree, fake.NAMES[0]) / "1-7.dcm"
    fake.write_slice(path, fake.scan(fake.NAMES[0])[..., 6], 7, -100.5 - 1.5 * 6, **tags)
    assert broken(tree, tmp_path / "out", split).startswith(f"{path}: has {what}")
    fake.write_slice(path, fake.scan(fake.NAMES[0])[:20, :, 6], 7, -100.5 - 1.5 * 6)
    assert broken(tree, tmp_path / "out", split).startswith(f"{path}: has the shape (20, 20), where 9 of 10")


def test_unreadable_slices_and_labels_are_named(fake, tree, split, tmp_path, tools) -> None:
    for number in (1, 4):
        path = fake.series_of(tree, fake.NAMES[0]) / f"1-{number}.dcm"
        whole = path.read_bytes()
        for content in (whole[:-100], b"", b"no DICOM" * 99):
            path.write_bytes(content)
            assert broken(tree, tmp_path / "out", split).startswith(f"{path}: cannot be read as a DICOM file")
        path.write_bytes(whole)
    label = fake.label_of(tree, fake.NAMES[0])
    body = fake.pancreas(fake.NAMES[0])
    body[0, 0, :2] = 3
    tools["write_nifti"](label, body, fake.AFFINE)
    assert broken(tree, tmp_path / "out", split) == f"{label}: 2 voxel(s) have the label 3, which is none of 0, 1"
    label.unlink()
    text = "there is no label with the number of PANCREAS_0001, such as label0001.nii.gz; add the files"
    assert text in broken(tree, tmp_path / "out", split)


def test_two_series_of_one_patient_are_named(fake, tree, split, tmp_path, tools) -> None:
    again = fake.write_series(tree / "again" / fake.NAMES[0] / "b", fake.scan(fake.NAMES[0]))
    message = broken(tree, tmp_path / "out", split)
    assert f"another image of the case '{fake.NAMES[0]}' is " in message and str(again) in message
