# SPDX-License-Identifier: Apache-2.0
"""The folders of the built-in scans: the same at every call, and never half made."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medssl_components.data.synthetic import RECIPES, synthetic_case, synthetic_folder
from medssl_components.data.synthetic import folder as folders

SMALL = replace(
    RECIPES["one_organ"],
    training=2,
    labeled=1,
    validation=1,
    test=1,
    in_plane_size=(40, 44),
    through_plane_size=(28, 32),
)


@pytest.fixture(scope="module", autouse=True)
def small_recipe():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "small", SMALL)
        yield


@pytest.fixture(scope="module")
def folder(small_recipe, tmp_path_factory):
    return synthetic_folder("small", tmp_path_factory.mktemp("cache"))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_folder_is_complete(folder):
    split = json.loads((folder / "split.json").read_text())
    lists = [split[key] for key in ("training", "validation", "test")]
    assert [len(names) for names in lists] == [2, 1, 1]
    names = sum(lists, [])
    assert len(set(names)) == 4
    images, labels = ({path.name for path in (folder / part).iterdir()} for part in ("imagesTr", "labelsTr"))
    assert images == {f"{name}.nii.gz" for name in names}
    assert images - labels == {"scan_02.nii.gz"}  # the first training case alone is labelled
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["labels"] == {"background": 0, "atrium": 1} and dataset["channel_names"] == {"0": "MR"}
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("name", ["one_organ", "many_organs"])
def test_few_scans_have_a_label_and_in_the_other_set_all(name):
    few, every = RECIPES[name], RECIPES[f"{name}_all_labels"]
    assert few.labeled == 4 and every == replace(few, labeled=few.training)


def test_files_hold_the_cases(folder):
    image, label, affine = synthetic_case(2, recipe=SMALL)
    stored = nib.load(folder / "imagesTr" / "scan_03.nii.gz")
    assert stored.get_data_dtype() == np.int16
    np.testing.assert_allclose(stored.get_fdata(), image, atol=0.5)
    np.testing.assert_array_equal(nib.load(folder / "labelsTr" / "scan_03.nii.gz").get_fdata(), label)
    np.testing.assert_allclose(stored.get_qform(), affine, atol=1e-3)
    np.testing.assert_allclose(stored.get_sform(), affine, atol=1e-3)


def test_itk_reads_the_same_grid(folder):
    itk = pytest.importorskip("itk")
    path = folder / "imagesTr" / "scan_01.nii.gz"
    image, affine = itk.imread(str(path)), nib.load(path).affine
    to_lps = np.diag([-1, -1, 1])
    matrix = itk.array_from_matrix(image.GetDirection()) * np.array(image.GetSpacing())
    np.testing.assert_allclose(matrix, to_lps @ affine[:3, :3], atol=1e-4)
    np.testing.assert_allclose(image.GetOrigin(), to_lps @ affine[:3, 3], atol=1e-3)


def test_two_folders_have_the_same_bytes(folder, tmp_path):
    assert digests(folder) == digests(synthetic_folder("small", tmp_path))
    assert len(digests(folder)) == 4 + 3 + 2  # images, labels, dataset.json and split.json


def test_bytes_do_not_depend_on_the_time(tmp_path, monkeypatch):
    for name, now in (("a.nii.gz", 1.0e9), ("b.nii.gz", 1.5e9)):
        monkeypatch.setattr("time.time", lambda now=now: now)
        folders._write_volume(tmp_path / name, np.zeros((2, 2, 2), np.int16), np.eye(4))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_the_second_call_writes_nothing(folder, monkeypatch):
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    monkeypatch.setattr(folders, "synthetic_case", lambda *args, **kwargs: pytest.fail("made a case anew"))
    assert synthetic_folder("small", folder.parent) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times


def test_a_new_version_is_a_new_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_write_folder", lambda folder, recipe: write_split(folder))
    first = synthetic_folder("small", tmp_path)
    monkeypatch.setitem(RECIPES, "small", replace(SMALL, version=SMALL.version + 1))
    assert synthetic_folder("small", tmp_path) != first


def test_nobody_sees_a_half_made_folder(tmp_path, monkeypatch):
    def write(folder, recipe):
        write_split(folder)
        assert not (tmp_path / f"small_v{SMALL.version}").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(folders, "_write_folder", write)
    with pytest.raises(KeyboardInterrupt):
        synthetic_folder("small", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_of_two_processes_at_once_both_get_the_folder(tmp_path, monkeypatch):
    def write(folder, recipe):
        write_split(folder, "first" if calls else "second")
        calls.append(folder)
        if len(calls) == 1:
            results.append(synthetic_folder("small", tmp_path))

    calls, results = [], []
    monkeypatch.setattr(folders, "_write_folder", write)
    results.append(synthetic_folder("small", tmp_path))
    assert results[0] == results[1] and len(set(calls)) == 2
    assert (results[0] / "split.json").read_text() == "first"
    assert list(tmp_path.iterdir()) == [results[0]]


def test_where_the_folder_goes(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("MEDSSL_CACHE", raising=False)
    assert folders._default_cache() == tmp_path / "xdg" / "medssl_components"
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "mine"))
    assert folders._default_cache() == tmp_path / "mine"


def test_errors_are_one_line(tmp_path):
    known = "many_organs, many_organs_all_labels, one_organ, one_organ_all_labels, small"
    with pytest.raises(ValueError, match=f"'two_organs' is no built-in data set; there is {known}$"):
        synthetic_folder("two_organs", tmp_path)
    folder = tmp_path / f"small_v{SMALL.version}"
    folder.mkdir()
    with pytest.raises(ValueError, match="delete this folder"):
        synthetic_folder("small", tmp_path)


def write_split(folder: Path, text: str = "") -> None:
    folder.mkdir(parents=True)
    (folder / "split.json").write_text(text)
