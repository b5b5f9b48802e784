# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from medssl_components.data import DataError
from medssl_components.data.preparation import DATA_SETS, load_split, published_splits, restrict_split

SIZES = {
    "la_uamt": (80, 0, 20),
    **{f"la_mcf_fold{fold}": (80, 0, 20) for fold in range(5)},
    "brats2019_ssl4mis": (250, 25, 60),
    "synapse_skcdf": (20, 4, 6),
    "synapse_ad": (20, 4, 6),
    "synapse_dhc_2023": (20, 4, 6),
    "amos22_skcdf": (216, 24, 120),
}


def test_every_published_split_has_the_published_sizes() -> None:
    assert set(published_splits()) == set(SIZES)
    assert {
        name: tuple(len(load_split(name)[key]) for key in ("training", "validation", "test")) for name in SIZES
    } == SIZES
    assert all(load_split(name)["source"] for name in SIZES)


def test_every_split_belongs_to_one_data_set() -> None:
    assert sorted(split for data_set in DATA_SETS.values() for split in data_set.splits) == published_splits()


def test_known_facts_of_the_lists() -> None:
    la = load_split("la_uamt")
    assert la["training"] == sorted(la["training"]) and la["training"][0] == "06SR5RBREL16DQ6M8LWS"
    assert la["training"].index("0RZDK210BSMWAA6467LU") == 1
    assert load_split("la_mcf_fold0")["training"] == la["training"]
    assert load_split("brats2019_ssl4mis")["training"][0] == "BraTS19_TCIA02_370_1"
    assert load_split("synapse_skcdf")["labeled"]["10%"] == ["0007", "0030"]
    assert set(load_split("synapse_skcdf")["labeled"]["10%"]) <= set(load_split("synapse_ad")["validation"])
    amos = load_split("amos22_skcdf")
    assert {key: len(names) for key, names in amos["labeled"].items()} == {"2%": 4, "5%": 10, "10%": 21}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": ["a"]}, "the case 'a' is in training and again in test"),
        ({"training": ["a", "b", "b"]}, "the case 'b' is in training and again in training"),
        ({"training": []}, "has no training cases"),
        ({"counts": {"test": 2}}, "test has 1 cases, but counts says 2"),
        ({"labeled": {"10%": ["c"]}}, "labeled 10% names 'c'"),
        ({"labeled": {"10%": ["a"]}, "counts": {"labeled": {"10%": 2}}}, "labeled has .* but counts says"),
        ({"labeled_counts": {"10%": 3}}, "labeled_counts 10% is 3 of 2 training cases"),
        ({"training": 5}, "cannot be read as a split"),
    ],
)
def test_a_broken_split_is_one_line(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"training": ["a", "b"], "validation": [], "test": ["c"], **change}))
    with pytest.raises(DataError, match=message) as caught:
        load_split(str(path))
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_an_unknown_split_shows_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="split is 'la_uamnt'; give amos22_skcdf, .*la_uamt.* or the path"):
        load_split("la_uamnt")
    with pytest.raises(DataError, match="split is 'synapse_ad'; give la_uamt or the path"):
        load_split("synapse_ad", ["la_uamt"])
    with pytest.raises(DataError, match="nowhere.json"):
        load_split(str(tmp_path / "nowhere.json"))


def test_missing_cases_shrink_the_numbers_of_labelled_ones(tmp_path: Path, tools: dict[str, Callable]) -> None:
    path = tools["write_split"](
        tmp_path / "s.json",
        ["c", "a", "d", "b"],
        ["v"],
        ["t"],
        labeled_counts={"25%": 1, "50%": 2, "75%": 3},
        labeled={"x": ["a", "b"]},
        notes="n",
    )
    split = restrict_split(load_split(str(path)), {"c", "b", "t", "d"})
    assert split == {
        "name": "s",
        "notes": "n",
        "training": ["c", "d", "b"],
        "validation": [],
        "test": ["t"],
        "labeled_counts": {"25%": 1, "50%": 1, "75%": 2},
        "labeled": {"x": ["b"]},
        "counts": {"training": 3, "validation": 0, "test": 1},
        "missing": ["a", "v"],
    }
