# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from medssl_components.data import DataError
from medssl_components.data.split_file import OWN_FOLDERS, find_split, read_split

THREE_DOMAINS = {  # those of training, and that of test
    "hippocampus_three_domains": (["original", "inverted"], "shaded"),
    "hippocampus_three_domains_to_inverted": (["original", "shaded"], "inverted"),
    "hippocampus_three_domains_to_original": (["inverted", "shaded"], "original"),
}
SCENARIOS = ("hippocampus_two_domains", *THREE_DOMAINS)
TABLE = "domains is no table of names; give each case its domain, "


def write(path: Path, **content: object) -> Path:
    lists = {"training": ["a", "b"], "validation": ["c"], "test": ["d"]}
    path.write_text(json.dumps({**lists, **content}))
    return path


def test_auto_is_the_split_of_the_folder_if_it_has_one(tmp_path: Path) -> None:
    assert find_split("auto", tmp_path) is None
    path = write(tmp_path / "split.json")
    assert find_split("auto", tmp_path) == path


def test_a_split_of_the_package_goes_by_its_name_and_any_other_by_its_path(tmp_path: Path) -> None:
    assert find_split("la_uamt", tmp_path) == OWN_FOLDERS[0] / "la_uamt.json"
    assert find_split("hippocampus_two_domains", tmp_path) == OWN_FOLDERS[1] / "hippocampus_two_domains.json"
    assert find_split("mine/split.json", tmp_path) == Path("mine/split.json")


def test_a_split_of_the_folder_goes_before_that_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "splits").mkdir()
    path = write(tmp_path / "splits" / "la_uamt.json")  # such as one without the cases that are not there
    assert find_split("la_uamt", tmp_path) == path


def test_the_split_of_the_folder_goes_by_the_name_that_it_gives_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "split.json", name="la_uamt")  # as `prepare` writes it
    assert find_split("la_uamt", tmp_path) == path
    assert find_split("la_mcf_fold0", tmp_path) == OWN_FOLDERS[0] / "la_mcf_fold0.json"
    path.write_text("[]")
    assert find_split("la_uamt", tmp_path) == OWN_FOLDERS[0] / "la_uamt.json"


def test_no_two_splits_of_the_package_have_one_name() -> None:
    names = [path.stem for folder in OWN_FOLDERS for path in folder.glob("*.json")]
    assert len(names) == len(set(names)) > len(SCENARIOS)


def test_what_a_split_says(tmp_path: Path) -> None:
    domains = {"a": "mr", "b": "ct", "c": "ct", "d": "ct", "of another split": "mr"}
    split = read_split(write(tmp_path / "s.json", domains=domains, labeled={"source": ["a"]}))
    assert split.lists == {"training": ["a", "b"], "validation": ["c"], "test": ["d"]}
    assert (split.domains, split.labeled) == (domains, {"source": ["a"]})


def test_a_count_of_labels_names_the_first_training_cases(tmp_path: Path) -> None:
    assert read_split(write(tmp_path / "s.json", labeled_counts={"50%": 1})).labeled == {"50%": ["a"]}


@pytest.mark.parametrize("content", [{}, {"domains": {}}, {"labeled": 3}, {"labeled": {"5%": 3}}])
def test_without_domains_and_lists_of_labelled_cases_there_are_none(tmp_path: Path, content: dict) -> None:
    split = read_split(write(tmp_path / "s.json", **content))
    assert (split.domains, split.labeled) == ({}, {})


@pytest.mark.parametrize(
    ("domains", "expected"),
    [
        (["mr"], TABLE),
        ({"a": 1}, TABLE),
        ({"a": ""}, TABLE),
        ({"a": "mr", "b": "mr", "c": "ct"}, "domains has no entry for 'd'; give every case of the split a domain"),
        ({"x": "mr"}, "domains has no entry for 'a', 'b', 'c' and 1 more; give every case of the split a domain"),
    ],
)
def test_domains_of_some_cases_only_are_an_error(tmp_path: Path, domains: object, expected: str) -> None:
    path = write(tmp_path / "s.json", domains=domains)
    with pytest.raises(DataError) as caught:
        read_split(path)
    assert str(caught.value).startswith(f"{path}: {expected}") and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_are_whole(name: str, tmp_path: Path) -> None:
    path = find_split(name, tmp_path)
    split, counts = read_split(path), json.loads(path.read_text())["counts"]
    cases = [case for names in split.lists.values() for case in names]
    assert len(cases) == len(set(cases)) == 200 and set(split.domains) == set(cases)
    sizes = {key: len(names) for key, names in split.lists.items()}
    assert {**sizes, "labeled": {key: len(names) for key, names in split.labeled.items()}} == counts
    assert sizes == {"training": 160, "validation": 0, "test": 40}


def test_the_lists_of_the_result_tables_keep_the_test_cases_of_the_literature_for_a_final_score() -> None:
    lists, published = (read_split(find_split(name, Path())).lists for name in ("la_60_20", "la_uamt"))
    assert lists["training"] + lists["test"] == published["training"] and len(lists["test"]) == 20
    lists, adapted = (read_split(find_split(f"hippocampus_{name}", Path())) for name in ("160_40", "two_domains"))
    assert lists.lists == adapted.lists and not lists.domains


def domains_of(name: str) -> dict[str, list[str]]:
    split = read_split(find_split(name, Path()))
    lists = {"labeled": split.lists["training"][:8], "unlabeled": split.lists["training"][8:], **split.labeled}
    return {key: [split.domains[case] for case in cases] for key, cases in {**lists, **split.lists}.items()}


def test_two_domains_are_an_adaptation() -> None:
    domains = domains_of("hippocampus_two_domains")
    assert domains["labeled"] == domains["source"] == ["original"] * 8
    assert domains["unlabeled"] == domains["target_all"] == ["shaded"] * 152
    assert domains["target"] == ["shaded"] * 8
    assert domains["test"] == ["shaded"] * 40


@pytest.mark.parametrize("name", THREE_DOMAINS)
def test_of_three_domains_each_is_left_out_once(name: str) -> None:
    domains = domains_of(name)
    known, unknown = THREE_DOMAINS[name]
    assert domains["labeled"] == domains["5%"] == known * 4
    assert domains["unlabeled"] == known * 76
    assert domains["test"] == [unknown] * 40


def test_cases_of_all_three_folds_are_the_same() -> None:
    folds = [read_split(find_split(name, Path())) for name in THREE_DOMAINS]
    assert all(fold.lists == folds[0].lists and fold.labeled == folds[0].labeled for fold in folds)
