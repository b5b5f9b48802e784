# SPDX-License-Identifier: Apache-2.0
"""A data set from its download to a folder to train on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from ..errors import DataError
from .data_set import DataSet, Form, RawCase
from .find_cases import find_cases
from .prepare_case import UNFINISHED, CaseTask, prepare_case
from .published_split import LISTS, load_split, restrict_split
from .registry import find_data_set
from .report import REPORT, dataset_json, earlier_cases, odd_things, write_json
from .split_files import other_splits, write_splits

ROLES = ("image", "label")


def prepare_folder(
    name: str,
    source: str | Path,
    output: str | Path,
    recipe: str = "auto",
    split: str = "auto",
    partial: bool = False,
    processes: int = 1,
    seed: int = 0,
    progress: Callable[[Iterator, int], Iterator] = lambda done, total: done,
) -> dict[str, Any]:
    """Make `imagesTr/`, `labelsTr/`, `imagesTs/`, `labelsTs/`, `split.json` and `dataset.json` from a download.

    Training and validation cases of the split go to `...Tr/`, its test cases to `...Ts/`. Where one folder serves all
    splits of the set, the cases of the others go to `...Tr/` too and the other splits to `splits/`. What was done is in
    `prepare.json`; with it a run that was stopped, or that lacked cases, goes on: cases that are done and whose source
    files are the same are left, and so are done cases whose source files are gone.

    Args:
        name: name of the data set.
        source: folder of the unpacked download.
        output: folder to write to; new, empty, or one that an earlier run with the same settings wrote.
        recipe: name of one of the set's recipes; "auto" takes the usual one of the form that is in `source`.
        split: name of one of the set's published splits, or the path of such a file; "auto" takes the usual one.
        partial: whether cases of the split may be missing; they are left out of `split.json`.
        processes: number of cases that are worked on at a time.
        seed: what a recipe draws depends on this number and on the case's name alone.
        progress: takes an iterator over the cases as they are done, and their number, and passes the items on.

    Returns:
        What `prepare.json` holds.

    Raises:
        DataError: one line that names the file or option, for whatever is wrong with them.
    """
    data_set = find_data_set(name)
    source, output = Path(source), Path(output)
    _check_folders(source, output)
    wanted = load_split(data_set.splits[0] if split == "auto" else split, data_set.splits)
    form, recipe, found = _choose(data_set, source, recipe)
    described = data_set.forms[form].recipes[recipe]
    settings = {
        "data_set": name,
        "form": form,
        "recipe": recipe,
        "transforms": [dict(entry) for entry in described.transforms],
        "split": wanted["name"],
        "split_sha256": sha256(json.dumps([wanted[key] for key in LISTS]).encode()).hexdigest(),
        "seed": seed,
    }
    before = earlier_cases(output, settings)
    whole = {case: raw for case, raw in found.items() if set(ROLES) <= set(raw.files)}
    there = {*whole, *(case for case, record in before.items() if record["done"])}
    missing = _missing(data_set.forms[form], wanted, found, there, source, partial)
    chosen = restrict_split(wanted, there)
    if not chosen["training"]:
        raise DataError(f"{source}: holds no training case of the split {wanted['name']}; choose another --split")
    others = other_splits(data_set, wanted, there)
    parts = {case: "Ts" if key == "test" else "Tr" for key in LISTS for case in chosen[key]}
    extra = dict.fromkeys(case for other in others for key in LISTS for case in other[key] if case not in parts)
    parts |= dict.fromkeys(extra, "Tr")
    records = {case: before.get(case, {"done": False}) for case in parts}
    tasks = [
        CaseTask(
            raw=whole[case],
            data_set=name,
            form=form,
            recipe=recipe,
            part=parts[case],
            source=source,
            output=output,
            seed=seed,
            record=record if record["done"] else None,
        )
        for case, record in records.items()
        if case in whole
    ]
    report = {
        **settings,
        "title": data_set.title,
        "description": described.description,
        "notes": [*described.notes, *([wanted["notes"]] if "notes" in wanted else [])],
        "finished": False,
        "counts": {
            **chosen["counts"],
            **({"for_other_splits": len(extra)} if others else {}),
            "missing": len(missing),
            "not_used": len(set(found) - set(records)),
        },
        "missing": missing,
        "warnings": [],
        "cases": records,
    }
    output.mkdir(parents=True, exist_ok=True)
    # Before anything else is written: the files of the cases that it names are this run's own, also after a stop.
    write_json(output / REPORT, report)
    try:
        for case, record, made in progress(_work(tasks, processes), len(tasks)):
            records[case] = {**record, "done": True}
            if made:
                write_json(output / REPORT, report)
    finally:
        shutil.rmtree(output / UNFINISHED, ignore_errors=True)
    gone = [case for case in records if case not in whole]
    report.update(finished=True, warnings=odd_things(records, wanted, chosen, gone))
    write_json(output / "dataset.json", dataset_json(data_set, records))
    write_splits(output, chosen, others, records)
    write_json(output / REPORT, report)
    return report


def _check_folders(source: Path, output: Path) -> None:
    if not source.is_dir():
        raise DataError(f"source {str(source)!r} is not a folder; give the folder of the unpacked download")
    if output.exists() and not output.is_dir():
        raise DataError(f"output {str(output)!r} is a file; give a folder")
    inner, outer = output.resolve(), source.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise DataError(f"output {str(output)!r} and source {str(source)!r} lie in each other; give another --output")


def _choose(data_set: DataSet, source: Path, recipe: str) -> tuple[str, str, dict[str, RawCase]]:
    """Return the form, the recipe and the cases that were found."""
    if recipe != "auto":
        if recipe not in data_set.recipes:
            raise DataError(f"recipe is {recipe!r}; for {data_set.name} give {', '.join(data_set.recipes)}")
        form = data_set.recipes[recipe]
        forms = {form: data_set.forms[form]}
    else:
        forms = data_set.forms
    found = {form: (content.find or find_cases)(source, content) for form, content in forms.items()}
    found = {form: cases for form, cases in found.items() if any("image" in raw.files for raw in cases.values())}
    if not found:
        files = " or ".join(data_set.forms[form].expected["image"].format(name="CASE") for form in forms)
        raise DataError(
            f"{source}: holds no image of {data_set.name}, {files}; give the folder of the unpacked download"
        )
    if len(found) > 1:
        raise DataError(f"{source}: holds {data_set.name} as {' and as '.join(found)}; give --recipe to say which")
    form, cases = next(iter(found.items()))
    return form, next(iter(data_set.forms[form].recipes)) if recipe == "auto" else recipe, cases


def _missing(
    form: Form,
    split: Mapping[str, Any],
    found: Mapping[str, RawCase],
    there: Set[str],
    source: Path,
    partial: bool,
) -> dict[str, str]:
    """Return the cases of the split that are not there, each with the file that it lacks."""
    missing = {}
    for case in (case for key in LISTS for case in split[key] if case not in there):
        role = next(role for role in ROLES if case not in found or role not in found[case].files)
        missing[case] = form.expected[role].format(name=case)
    needed = [case for case in missing if case not in split.get("withdrawn", [])]
    if needed and not partial:
        total = sum(len(split[key]) for key in LISTS)
        # A case of which a part is there says more than one that was not downloaded.
        case = next((case for case in needed if case in found), needed[0])
        raise DataError(
            f"{source}: {len(needed)} of the {total} cases of the split {split['name']} are not complete, for example "
            f"there is no {missing[case]}; add the files, or --partial true to go without them"
        )
    return missing


def _work(tasks: Sequence[CaseTask], processes: int) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Do the tasks and yield, as each is done, the case's name, what is noted of it, and whether it was made now."""
    if processes < 2:
        for task in tasks:
            yield task.raw.name, *prepare_case(task)
        return
    # One thread each: the cases are what is worked on in parallel.
    with ProcessPoolExecutor(processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = {pool.submit(prepare_case, task): task.raw.name for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures[future], *future.result()
        except BrokenProcessPool as error:
            raise DataError(f"a process was ended from outside; give fewer --processes than {processes}") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
