# SPDX-License-Identifier: Apache-2.0
"""With the left atrium's NRRD tree, whatever holds for all data sets."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from medssl_components.data import CaseFolder, DataError, case_name, check_cases
from medssl_components.data.preparation import prepare_case as module
from medssl_components.data.preparation import prepare_folder

FILES = ("imagesTr", "labelsTr", "imagesTs", "labelsTs")


@pytest.fixture
def run(la_tree: Path, la_split: Path, tmp_path: Path) -> Callable[..., dict]:
    def prepare(**options: object) -> dict:
        options = {"recipe": "none", "split": str(la_split), "output": tmp_path / "out", **options}
        return prepare_folder("la", la_tree, **options)

    return prepare


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """The bytes and the time of every file."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def volumes(folder: Path) -> dict[str, bytes]:
    return {name: content for name, (content, _) in snapshot(folder).items() if name.endswith(".nii.gz")}


def message(run: Callable[..., dict], **options: object) -> str:
    with pytest.raises(DataError) as caught:
        run(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_layout_and_files(run, la_tree, tmp_path, tools) -> None:
    report = run()
    out = tmp_path / "out"
    names = tools["la_names"](4)
    present = {part: sorted(path.name for path in (out / part).iterdir()) for part in FILES}
    training, test = [f"{name}.nii.gz" for name in names[:2]], [f"{names[2]}.nii.gz"]
    assert present == {"imagesTr": training, "labelsTr": training, "imagesTs": test, "labelsTs": test}
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, "dataset.json", "prepare.json", "split.json"])
    assert json.loads((out / "prepare.json").read_text()) == report
    assert report["counts"] == {"training": 2, "validation": 0, "test": 1, "missing": 0, "not_used": 1}
    assert (report["recipe"], report["split"], report["finished"]) == ("none", "small", True)
    image = la_tree / "Training Set" / names[1] / "lgemri.nrrd"
    source = image.relative_to(la_tree).as_posix()
    assert report["cases"][names[1]]["sources"][source] == sha256(image.read_bytes()).hexdigest()
    assert report["cases"][names[1]]["shape"] == [40, 36, 12]
    assert report["cases"][names[1]]["spacing"] == [0.625] * 3
    dataset = json.loads((out / "dataset.json").read_text())
    assert dataset["labels"] == {"background": 0, "left_atrium": 1}
    assert dataset["channel_names"] == {"0": "LGE-MRI"}


def test_a_bundle_can_read_the_outcome(run, tmp_path, tools) -> None:
    run()
    names = tools["la_names"](3)
    folder = CaseFolder(str(tmp_path / "out"), labeled=1)
    lists = [folder.labeled, folder.unlabeled, folder.validation, folder.test]
    assert [[case_name(case["image"]) for case in cases] for cases in lists] == [names[:1], names[1:2], [], names[2:]]
    check_cases(*lists, in_channels=1)


def test_a_second_run_leaves_every_volume_and_a_changed_source_is_read_again(run, la_tree, tmp_path, tools) -> None:
    run()
    first = snapshot(tmp_path / "out")
    run()
    again = snapshot(tmp_path / "out")
    assert {name: content for name, content in first.items() if name.endswith(".gz")} == {
        name: content for name, content in again.items() if name.endswith(".gz")
    }
    assert first["prepare.json"][0] == again["prepare.json"][0]
    names = tools["la_names"](3)
    tools["la_case"](la_tree / "Training Set" / names[1], 9)
    run()
    changed = {name for name, content in snapshot(tmp_path / "out").items() if content != again[name]}
    assert {name for name in changed if name.endswith(".gz")} == {
        f"imagesTr/{names[1]}.nii.gz",
        f"labelsTr/{names[1]}.nii.gz",
    }


def test_a_lost_volume_is_made_anew(run, tmp_path, tools) -> None:
    run()
    before = volumes(tmp_path / "out")
    (tmp_path / "out" / "labelsTr" / f"{tools['la_names'](1)[0]}.nii.gz").unlink()
    run()
    assert volumes(tmp_path / "out") == before


def test_a_stopped_run_leaves_whole_cases_and_goes_on(run, tmp_path, tools, monkeypatch) -> None:
    """The disk is full while the second label is written."""
    save, calls = module._save, []

    def fail(path: Path, *content: object) -> None:
        calls.append(path)
        if len(calls) == 4:
            path.write_bytes(b"half")
            raise OSError("no space left")
        save(path, *content)

    monkeypatch.setattr(module, "_save", fail)
    with pytest.raises(OSError, match="no space"):
        run()
    out, names = tmp_path / "out", tools["la_names"](3)
    assert sorted(volumes(out)) == [f"imagesTr/{names[0]}.nii.gz", f"labelsTr/{names[0]}.nii.gz"]
    assert not (out / ".unfinished").exists() and not (out / "split.json").exists()
    report = json.loads((out / "prepare.json").read_text())
    assert not report["finished"]
    assert [report["cases"][name]["done"] for name in names] == [True, False, False]
    done = snapshot(out)
    run()
    whole = snapshot(out)
    assert whole[f"imagesTr/{names[0]}.nii.gz"] == done[f"imagesTr/{names[0]}.nii.gz"]
    assert len(volumes(out)) == 6


def test_a_run_that_was_killed_between_two_files_goes_on(run, tmp_path, tools) -> None:
    """What is left then: an image without its label, not noted as done, and a folder of unfinished files."""
    run()
    out, name = tmp_path / "out", tools["la_names"](1)[0]
    before = volumes(out)
    report = json.loads((out / "prepare.json").read_text())
    report["cases"][name] = {"done": False}
    (out / "prepare.json").write_text(json.dumps(report))
    (out / "labelsTr" / f"{name}.nii.gz").unlink()
    (out / "imagesTr" / f"{name}.nii.gz").write_bytes(b"of an older version")
    (out / ".unfinished" / "x").mkdir(parents=True)
    run()
    assert volumes(out) == before
    assert not (out / ".unfinished").exists()


def test_a_run_that_was_killed_at_its_first_file_goes_on(run, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".prepare.json.new").write_text("{")
    assert run()["finished"]
    assert not (tmp_path / "out" / ".prepare.json.new").exists()


def test_a_process_that_was_ended_is_one_line(run, tmp_path, monkeypatch) -> None:
    def broken(futures: object) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(sys.modules[prepare_folder.__module__], "as_completed", broken)
    assert message(run, processes=2) == "a process was ended from outside; give fewer --processes than 2"
    monkeypatch.undo()
    assert run()["finished"]


def test_processes_give_the_same_files(run, tmp_path) -> None:
    run(recipe="uamt")
    run(recipe="uamt", processes=2, output=tmp_path / "parallel")
    assert volumes(tmp_path / "parallel") == volumes(tmp_path / "out")
    one, two = (json.loads((tmp_path / name / "prepare.json").read_text()) for name in ("out", "parallel"))
    assert one == two and list(one["cases"]) == list(two["cases"])


@pytest.mark.parametrize("processes", [1, 2])
def test_progress_is_told_of_every_case(run, processes: int) -> None:
    seen = []

    def bar(done, total: int):
        for item in done:
            seen.append((item[0], total))
            yield item

    report = run(progress=bar, processes=processes)
    assert sorted(seen) == [(name, 3) for name in sorted(report["cases"])]


def test_nothing_is_written_into_a_folder_of_others(run, tmp_path) -> None:
    out = tmp_path / "out"
    (out / "imagesTr").mkdir(parents=True)
    (out / "imagesTr" / "mine.nii.gz").write_bytes(b"mine")
    before = snapshot(out)
    assert message(run) == f"{out}: is not empty and holds no prepare.json; give a new folder as --output"
    assert snapshot(out) == before


@pytest.mark.parametrize(("option", "value"), [("recipe", "uamt"), ("seed", 1)])
def test_other_settings_need_another_folder(run, tmp_path, option: str, value: object) -> None:
    run()
    before = snapshot(tmp_path / "out")
    assert f"was written with the {option} " in message(run, **{option: value})
    assert snapshot(tmp_path / "out") == before


def test_a_split_of_the_same_name_and_other_lists_needs_another_folder(run, la_split, tools) -> None:
    run()
    names = tools["la_names"](3)
    tools["write_split"](la_split, names[1:], [], names[:1])
    assert "prepare.json: was written with the split_sha256 of another version" in message(run)


def test_a_report_that_is_none_is_named(run, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "prepare.json").write_text('{"cases": 3}')
    assert "prepare.json: is no report of an earlier run" in message(run)


@pytest.mark.parametrize("place", [".", "inside", ".."])
def test_source_and_output_do_not_lie_in_each_other(run, la_tree, place: str) -> None:
    assert "lie in each other" in message(run, output=la_tree / place)


def test_missing_cases_stop_the_run_before_anything_is_written(run, la_tree, tmp_path, tools) -> None:
    names = tools["la_names"](3)
    shutil.rmtree(la_tree / "Training Set" / names[0])
    assert message(run) == (
        f"{la_tree}: 1 of the 3 cases of the split small are not complete, for example there is no "
        f"{names[0]}/lgemri.nrrd; add the files, or --partial true to go without them"
    )
    (la_tree / "Training Set" / names[1] / "laendo.nrrd").unlink()
    assert f"2 of the 3 cases of the split small are not complete, for example there is no {names[1]}/laendo.nrrd" in (
        message(run)
    )
    assert not (tmp_path / "out").exists()


def test_a_partial_download_lists_what_is_missing_and_grows(run, la_tree, tmp_path, tools) -> None:
    names = tools["la_names"](3)
    hidden = {name: tmp_path / name for name in (names[0], names[2])}
    for name, place in hidden.items():
        shutil.move(la_tree / "Training Set" / name, place)
    report = run(partial=True)
    assert report["missing"] == {name: f"{name}/lgemri.nrrd" for name in hidden}
    assert report["warnings"] == [
        "no case of the list test is there",
        f"labelled cases are missing: 50% has 0, not 1; --labeled 1 takes {names[1]} in their place",
    ]
    split = json.loads((tmp_path / "out" / "split.json").read_text())
    assert (split["training"], split["test"], split["missing"]) == ([names[1]], [], [names[0], names[2]])
    first = snapshot(tmp_path / "out")
    for name, place in hidden.items():
        shutil.move(place, la_tree / "Training Set" / name)
    report = run()
    assert (report["missing"], report["warnings"], report["counts"]["training"]) == ({}, [], 2)
    kept = f"imagesTr/{names[1]}.nii.gz"
    assert snapshot(tmp_path / "out")[kept] == first[kept]
    assert "missing" not in json.loads((tmp_path / "out" / "split.json").read_text())


def test_sources_may_go_once_a_case_is_done(run, la_tree, tools) -> None:
    run()
    name = tools["la_names"](1)[0]
    shutil.rmtree(la_tree / "Training Set" / name)
    report = run()
    assert report["counts"]["training"] == 2
    assert report["warnings"] == [f"{name}: its source files are gone; kept as made before"]


def test_withdrawn_cases_may_be_missing(run, la_tree, la_split, tools) -> None:
    names = tools["la_names"](5)
    tools["write_split"](la_split, [names[4], *names[:2]], [], names[2:3], withdrawn=[names[4]])
    report = run()
    assert report["missing"] == {names[4]: f"{names[4]}/lgemri.nrrd"}
    assert report["counts"]["training"] == 2


def test_no_case_of_the_split_at_all(run, la_split, tools) -> None:
    tools["write_split"](la_split, ["X"], [], tools["la_names"](1))
    assert "holds no training case of the split small" in message(run, partial=True)


def test_an_empty_source_says_which_files_are_meant(tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no image of la, CASE/lgemri\.nrrd or CASE/mri_norm2\.h5; give"):
        prepare_folder("la", tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DataError, match="source .*nowhere' is not a folder"):
        prepare_folder("la", tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(DataError, match="'lla' is no data set that can be prepared; there are: la, "):
        prepare_folder("lla", tmp_path / "empty", tmp_path / "out")


def test_an_unknown_recipe_shows_the_known_ones(run) -> None:
    assert message(run, recipe="uam") == "recipe is 'uam'; for la give uamt, none, published"


def test_one_acquisition_that_is_there_twice_is_reported(run, la_tree, tools) -> None:
    names = tools["la_names"](3)
    folder = la_tree / "Training Set"
    shutil.copy(folder / names[0] / "laendo.nrrd", folder / names[2] / "laendo.nrrd")
    line = f"{names[0]} and {names[2]} have the same label, so they are one acquisition twice, in training and in test"
    assert run()["warnings"] == [line]


def test_an_empty_label_is_reported_and_stops_a_crop_around_it(run, la_tree, tmp_path, tools) -> None:
    name = tools["la_names"](1)[0]
    label = la_tree / "Training Set" / name / "laendo.nrrd"
    tools["write_nrrd"](label, np.zeros((40, 36, 12)))
    assert run()["warnings"] == [f"{name}: its label is empty"]
    assert message(run, recipe="uamt", output=tmp_path / "b").startswith(f"{label}: the label is empty")
