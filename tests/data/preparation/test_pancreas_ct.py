# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from medssl_components.data import CaseFolder, DataError, case_name
from medssl_components.data.preparation import load_split, prepare_folder

SHAPE = (24, 20, 10)
# Columns to the left every 0.7 mm, rows to anterior every 0.8 mm, slices downwards every 1.5 mm.
AFFINE = np.array([[-0.7, 0, 0, 10.5], [0, 0.8, 0, -20.25], [0, 0, -1.5, -100.5], [0, 0, 0, 1]])
NAMES = ("PANCREAS_0001", "PANCREAS_0002", "PANCREAS_0026")
LONG = ("OB", "OW")
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


def element(tag: tuple[int, int], kind: str, value: str | int | bytes) -> bytes:
    """One DICOM element in explicit little-endian form."""
    if isinstance(value, int):
        value = struct.pack("<H", value)
    elif isinstance(value, str):
        value = value.encode()
    value += (b"\0" if kind in ("UI", *LONG) else b" ") * (len(value) % 2)
    length = struct.pack("<HI", 0, len(value)) if kind in LONG else struct.pack("<H", len(value))
    return struct.pack("<HH", *tag) + kind.encode() + length + value


def write_slice(path: Path, pixels: np.ndarray, number: int, z: float, **tags: str) -> Path:
    """Write a CT slice by hand; `pixels` are columns, then rows, in HU, `tags` replace some of what it says."""
    tags = {"patient": "PANCREAS_0001", "modality": "CT", "series": "1.2.3", "slope": "1", "intercept": "-1024", **tags}
    tags = {"spacing": "0.8\\0.7", **tags}
    uid = f"{tags['series']}.{number}"
    meta = element((2, 1), "OB", b"\0\1") + element((2, 2), "UI", CT_STORAGE) + element((2, 3), "UI", uid)
    meta += element((2, 0x10), "UI", "1.2.840.10008.1.2.1") + element((2, 0x12), "UI", "1.2.3.4")
    raw = np.rint((pixels - float(tags["intercept"])) / float(tags["slope"])).astype("<u2")
    content = [
        ((8, 0x16), "UI", CT_STORAGE),
        ((8, 0x18), "UI", uid),
        ((8, 0x60), "CS", tags["modality"]),
        ((0x10, 0x20), "LO", tags["patient"]),
        ((0x18, 0x50), "DS", "2.5"),
        ((0x20, 0x0D), "UI", "1.2"),
        ((0x20, 0x0E), "UI", tags["series"]),
        ((0x20, 0x13), "IS", str(number)),
        ((0x20, 0x32), "DS", f"-10.5\\20.25\\{z}"),
        ((0x20, 0x37), "DS", "1\\0\\0\\0\\-1\\0"),
        ((0x28, 2), "US", 1),
        ((0x28, 4), "CS", "MONOCHROME2"),
        ((0x28, 0x10), "US", pixels.shape[1]),
        ((0x28, 0x11), "US", pixels.shape[0]),
        ((0x28, 0x30), "DS", tags["spacing"]),
        ((0x28, 0x100), "US", 16),
        ((0x28, 0x101), "US", 16),
        ((0x28, 0x102), "US", 15),
        ((0x28, 0x103), "US", 0),
        ((0x28, 0x1052), "DS", tags["intercept"]),
        ((0x28, 0x1053), "DS", tags["slope"]),
        ((0x7FE0, 0x10), "OW", raw.T.tobytes()),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    start = b"\0" * 128 + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta)) + meta
    path.write_bytes(start + b"".join(element(*one) for one in content))
    return path


def pancreas(name: str, tools) -> np.ndarray:
    """A body that no flip leaves in its place, and one voxel that tells the case."""
    label = tools["corner"](SHAPE)
    label[int(name[-1]) + 5, 3, 1] = 1
    return label


def scan(name: str, tools) -> np.ndarray:
    """Soft tissue of 100 HU in air, with a little pattern that tells every voxel's neighbours apart."""
    x, y, z = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    return np.where(pancreas(name, tools) > 0, 100, -900) + (x + 2 * y + 3 * z) % 7


def series_of(source: Path, name: str) -> Path:
    return source / "manifest-1" / "Pancreas-CT" / name / "11-24-2015-PANCREAS0001-Pancreas-18957" / "Pancreas-99667"


def write_series(folder: Path, image: np.ndarray, name: Callable[[int], str] = "1-{}.dcm".format, **tags: str) -> Path:
    """File names without zeros in front, so that their order is not that of the slices."""
    for k in range(image.shape[2]):
        write_slice(folder / name(k + 1), image[..., k], k + 1, -100.5 - 1.5 * k, **tags)
    return folder


@pytest.fixture
def tree(tmp_path: Path, tools) -> Path:
    """Three scans and five labels, two of which are of scans that are not there."""
    source = tmp_path / "download"
    for name in NAMES:
        write_series(series_of(source, name), scan(name, tools), patient=name)
    for number in (1, 2, 25, 26, 70):
        name = f"PANCREAS_{number:04d}"
        path = source / "TCIA_pancreas_labels-02-05-2017" / f"label{number:04d}.nii.gz"
        tools["write_nifti"](path, pancreas(name, tools), np.diag([-0.7, 0.8, -1.5, 1]))
    (source / "metadata.csv").write_text("a,b")
    (series_of(source, NAMES[0]) / "LICENSE").write_text("CC BY 3.0")
    return source


@pytest.fixture
def split(tmp_path: Path, tools) -> str:
    lists = [NAMES[2], "PANCREAS_0070", NAMES[0]], [], [NAMES[1], "PANCREAS_0025"]
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


def test_slices_are_in_the_order_of_their_numbers_and_the_label_lies_on_them(tree, split, tmp_path, tools) -> None:
    """Columns are x and 0.7 mm wide, rows y and 0.8 mm; SliceThickness, 2.5 mm, is not believed."""
    report = run(tree, tmp_path / "out", split)
    for name in NAMES:
        part = "Ts" if name == NAMES[1] else "Tr"
        image, affine = tools["load"](tmp_path / "out" / f"images{part}" / f"{name}.nii.gz")
        assert np.array_equal(image, scan(name, tools)) and image.dtype == np.int16
        assert np.allclose(affine, AFFINE)
        label, affine = tools["load"](tmp_path / "out" / f"labels{part}" / f"{name}.nii.gz")
        assert np.array_equal(label, pancreas(name, tools)) and np.allclose(affine, AFFINE)
        assert image[label > 0].min() >= 100
        assert report["cases"][name]["spacing"] == [0.7, 0.8, 1.5]
        assert report["cases"][name]["label_on_soft_tissue"] == 1
    folder = series_of(tree, NAMES[0]).relative_to(tree).as_posix()
    assert folder in report["cases"][NAMES[0]]["sources"]


def test_withdrawn_cases_are_listed_and_the_numbers_recounted(tree, split, tmp_path) -> None:
    report = run(tree, tmp_path / "out", split)
    assert set(report["missing"]) == {"PANCREAS_0070", "PANCREAS_0025"}
    assert report["missing"]["PANCREAS_0070"].startswith("PANCREAS_0070/STUDY/SERIES/*.dcm")
    assert "labelled cases are missing: 67% is --labeled 1, not 2" in report["warnings"]
    assert report["notes"] == ["two withdrawn"]
    written = json.loads((tmp_path / "out" / "split.json").read_text())
    assert written["labeled_counts"] == {"67%": 1} and written["counts"] == {"training": 2, "validation": 0, "test": 1}
    folder = CaseFolder(str(tmp_path / "out"), labeled=1)
    assert [case_name(case["image"]) for case in folder.labeled] == [NAMES[2]]


def test_a_withdrawn_case_that_is_there_is_reported(tree, split, tmp_path, tools) -> None:
    write_series(series_of(tree, "PANCREAS_0025"), scan("PANCREAS_0025", tools))
    lines = run(tree, tmp_path / "out", split)["warnings"]
    assert "PANCREAS_0025: was withdrawn by its owners; it is in test" in lines


def test_names_of_files_and_folders_do_not_matter(tree, split, tmp_path, tools) -> None:
    """Shuffled file names; a folder that only its PatientID tells; another modality beside it."""
    run(tree, tmp_path / "out", split)
    other = tmp_path / "other"
    (tree / "TCIA_pancreas_labels-02-05-2017").rename(other / "labels") if other.mkdir() is None else None
    shuffled = "{:02d}.DCM".format
    write_series(other / "1.2.3.4", scan(NAMES[0], tools), lambda k: shuffled(k * 7 % 11), patient=NAMES[0])
    write_series(other / "DOI" / f'"{NAMES[1]}"' / "a", scan(NAMES[1], tools), patient="x")
    write_series(other / NAMES[2] / "a", scan(NAMES[2], tools), patient="x")
    write_series(other / NAMES[2] / "b", scan(NAMES[2], tools), patient="x", modality="SEG")
    write_series(other / "c", scan(NAMES[2], tools), patient="OTHER_0001")
    run(other, tmp_path / "again", split)
    for name in NAMES:
        part = "Ts" if name == NAMES[1] else "Tr"
        for kind in ("images", "labels"):
            before, after = (tmp_path / out / f"{kind}{part}" / f"{name}.nii.gz" for out in ("out", "again"))
            assert before.read_bytes() == after.read_bytes()


def test_slope_and_intercept_of_the_slices_give_hounsfield_units(tree, split, tmp_path, tools) -> None:
    write_series(series_of(tree, NAMES[0]), scan(NAMES[0], tools), slope="0.5", intercept="-1000.5")
    run(tree, tmp_path / "out", split)
    image, _ = tools["load"](tmp_path / "out" / "imagesTr" / f"{NAMES[0]}.nii.gz")
    assert np.abs(image - scan(NAMES[0], tools)).max() <= 0.5


def test_a_scan_in_one_file_gives_the_same_by_its_header(tree, split, tmp_path, tools) -> None:
    """A converter has turned the rows around and stacked the slices upwards; the label follows the headers."""
    run(tree, tmp_path / "out", split)
    folder = series_of(tree, NAMES[0])
    for path in folder.iterdir():
        path.unlink()
    turned = AFFINE @ np.array([[1, 0, 0, 0], [0, -1, 0, SHAPE[1] - 1], [0, 0, -1, SHAPE[2] - 1], [0, 0, 0, 1]])
    image = scan(NAMES[0], tools)[:, ::-1, ::-1].astype(np.int16)
    path = tools["write_nifti"](tree / f"{NAMES[0]}.nii.gz", image, turned)
    run(tree, tmp_path / "again", split)
    for kind in ("images", "labels"):
        before, _ = tools["load"](tmp_path / "out" / f"{kind}Tr" / f"{NAMES[0]}.nii.gz")
        after, affine = tools["load"](tmp_path / "again" / f"{kind}Tr" / f"{NAMES[0]}.nii.gz")
        assert np.array_equal(after, before[:, ::-1, ::-1]) and np.allclose(affine, turned)
    write_series(folder, scan(NAMES[0], tools))
    assert broken(tree, tmp_path / "c", split).startswith(f"{folder}: another image of the case '{NAMES[0]}' is {path}")


def test_a_label_of_another_header_is_reported_and_taken_by_its_slices(tree, split, tmp_path, tools) -> None:
    path = tree / "TCIA_pancreas_labels-02-05-2017" / "label0001.nii.gz"
    tools["write_nifti"](path, pancreas(NAMES[0], tools), np.diag([-0.7, 0.8, 1, 1]))
    lines = run(tree, tmp_path / "out", split)["warnings"]
    text = "label0001.nii.gz: its header says"
    assert f"{NAMES[0]}: {text} that its axes are LAS, those of the series are LAI, which it has now" in lines
    assert f"{NAMES[0]}: {text} 0.7 x 0.8 x 1 mm, the series 0.7 x 0.8 x 1.5 mm, which it has now" in lines
    found, _ = tools["load"](tmp_path / "out" / "labelsTr" / f"{NAMES[0]}.nii.gz")
    assert np.array_equal(found, pancreas(NAMES[0], tools))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_label_is_refused(tree, split, tmp_path, tools, axis: int) -> None:
    path = tree / "TCIA_pancreas_labels-02-05-2017" / "label0001.nii.gz"
    tools["write_nifti"](path, np.flip(pancreas(NAMES[0], tools), axis), np.diag([-0.7, 0.8, -1.5, 1]))
    message = broken(tree, tmp_path / "out", split)
    assert message.startswith(f"{path}: ") and f"100.0% if it were flipped along {'xyz'[axis]}; it does" in message


def test_recipe_resamples_windows_crops_and_normalises(tree, tmp_path, tools) -> None:
    """A scan wide enough to be cropped: 160 x 150 x 10 voxels of 0.875 x 0.9 x 1.5 mm become 140 x 135 x 15."""
    x, y, z = np.meshgrid(np.arange(160), np.arange(150), np.arange(10), indexing="ij")
    label = np.zeros((160, 150, 10), np.uint8)
    label[62:90, 55:80, 2:4] = 1
    label[62:70, 55:70, 2:6] = 1
    image = np.rint(60 * np.sin(x / 9) + 50 * np.cos(y / 8) + 4 * z + np.where(label > 0, 20, 0)) - 40
    image[label == 0] -= 150
    write_series(series_of(tree, NAMES[0]), image, spacing="0.9\\0.875")
    path = tree / "TCIA_pancreas_labels-02-05-2017" / "label0001.nii.gz"
    tools["write_nifti"](path, label, np.diag([-0.875, 0.9, -1.5, 1]))
    split = str(tools["write_split"](tmp_path / "one.json", [NAMES[0]], [], []))
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
        found, affine = tools["load"](tmp_path / recipe / "imagesTr" / f"{NAMES[0]}.nii.gz")
        expected = window[crop]
        if recipe == "mcnet":
            expected = (expected - expected.mean()) / expected.std()
        else:
            expected = (expected - window.min()) / (window.max() - window.min())
        assert found.shape == expected.shape and np.allclose(found, expected, atol=2e-4)
        assert np.array_equal(tools["load"](tmp_path / recipe / "labelsTr" / f"{NAMES[0]}.nii.gz")[0], truth[crop])
        assert np.allclose(np.abs(affine[:3, :3]), np.eye(3))
        start = [one.start or 0 for one in crop]
        assert np.allclose(affine[:3, 3], [10.5 - start[0], -20.25 + start[1], -100.5 - start[2]], atol=1e-4)


def test_a_gap_or_a_slice_too_many_names_the_slice(tree, split, tmp_path, tools) -> None:
    folder, image = series_of(tree, NAMES[0]), scan(NAMES[0], tools)
    (folder / "1-5.dcm").unlink()
    text = "lies 3 mm from 1-4.dcm, the slice before it, where 1.5 mm are usual; copy the series again"
    assert broken(tree, tmp_path / "out", split).startswith(f"{folder / '1-6.dcm'}: {text}")
    write_series(folder, image)
    extra = write_slice(folder / "2-1.dcm", image[..., 3], 4, -105.0, series="1.2.4")
    text = "has the SeriesInstanceUID 1.2.4, where 10 of 11 slices have 1.2.3; move it out of the folder"
    assert broken(tree, tmp_path / "out", split).startswith(f"{extra}: {text}")
    write_slice(extra, image[..., 3], 4, -105.0)
    message = broken(tree, tmp_path / "out", split)
    assert message == f"{extra}: has the InstanceNumber 4, as 1-4.dcm has; remove one of the two"
    extra.unlink()
    (folder / "1-10.dcm").unlink()
    label = tree / "TCIA_pancreas_labels-02-05-2017" / "label0001.nii.gz"
    assert broken(tree, tmp_path / "out", split).startswith(f"{label}: has the shape (24, 20, 10), but the image")


@pytest.mark.parametrize(
    ("tags", "what"),
    [
        ({"intercept": "-1000"}, "slope and intercept (1.0, -1000.0)"),
        ({"slope": "2"}, "slope and intercept (2.0, -1024.0)"),
        ({"spacing": "0.8\\0.75"}, "pixel spacing and directions"),
    ],
)
def test_a_slice_unlike_the_others_is_named(tree, split, tmp_path, tools, tags: dict, what: str) -> None:
    path = series_of(tree, NAMES[0]) / "1-7.dcm"
    write_slice(path, scan(NAMES[0], tools)[..., 6], 7, -100.5 - 1.5 * 6, **tags)
    assert broken(tree, tmp_path / "out", split).startswith(f"{path}: has {what}")
    write_slice(path, scan(NAMES[0], tools)[:20, :, 6], 7, -100.5 - 1.5 * 6)
    assert broken(tree, tmp_path / "out", split).startswith(f"{path}: has the shape (20, 20), where 9 of 10")


def test_unreadable_slices_and_labels_are_named(tree, split, tmp_path, tools) -> None:
    for number in (1, 4):
        path = series_of(tree, NAMES[0]) / f"1-{number}.dcm"
        whole = path.read_bytes()
        for content in (whole[:-100], b"", b"no DICOM" * 99):
            path.write_bytes(content)
            assert broken(tree, tmp_path / "out", split).startswith(f"{path}: cannot be read as a DICOM file")
        path.write_bytes(whole)
    label = tree / "TCIA_pancreas_labels-02-05-2017" / "label0001.nii.gz"
    body = pancreas(NAMES[0], tools)
    body[0, 0, :2] = 3
    tools["write_nifti"](label, body, AFFINE)
    assert broken(tree, tmp_path / "out", split) == f"{label}: 2 voxel(s) have the label 3, which is none of 0, 1"
    label.unlink()
    text = "there is no label with the number of PANCREAS_0001, such as label0001.nii.gz; add the files"
    assert text in broken(tree, tmp_path / "out", split)


def test_two_series_of_one_patient_are_named(tree, split, tmp_path, tools) -> None:
    again = write_series(tree / "again" / NAMES[0] / "b", scan(NAMES[0], tools))
    message = broken(tree, tmp_path / "out", split)
    assert f"another image of the case '{NAMES[0]}' is " in message and str(again) in message
