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
    "pancreas_mcnet": (62, 0, 20),
    "pancreas_mcf_fold0": (62, 0, 20),
    "pancreas_mcf_fold1": (62, 0, 20),
    "pancreas_mcf_fold2": (61, 0, 21),
    "pancreas_mcf_fold3": (61, 0, 21),
    "pancreas_coranet80": (62, 0, 18),
    "brats2019_ssl4mis": (250, 25, 60),
    "synapse_skcdf": (20, 4, 6),
    "synapse_ad": (20, 4, 6),
    "synapse_dhc_2023": (20, 4, 6),
    "amos22_skcdf": (216, 24, 120),
    **{f"mmwhs_ad_{way}": (29, 3, 4) for way in ("ct2mr", "mr2ct")},
    **{f"mnms_ad_toA_{share}p": (450, 0, 190) for share in (2, 5)},
    **{f"mnms_ad_toB_{share}p": (390, 0, 250) for share in (2, 5)},
    **{f"mnms_ad_to{vendor}_{share}p": (540, 0, 100) for vendor in "CD" for share in (2, 5)},
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
        ({"test": ["a"]}, "the case 'a' is in two lists, training and test; keep it in one"),
        ({"training": ["a", "b", "b"]}, "the case 'b' is twice in the list training; keep it once"),
        ({"training": []}, "is no split file; give it the lists training, validation and test"),
        ({"counts": {"test": 2}}, "test has 1 cases, but counts says 2"),
        ({"labeled": {"10%": ["c"]}}, "labeled 10% names 'c'"),
        ({"labeled": {"10%": ["a"]}, "counts": {"labeled": {"10%": 2}}}, "labeled has .* but counts says"),
        ({"labeled_counts": {"10%": 3}}, "labeled_counts 10% is 3 of 2 training cases"),
        ({"training": 5}, "is no split file; give it the lists training, validation and test"),
        ({"labeled_counts": {"10%": "all"}}, "labeled_counts 10% is 'all' of 2 training cases"),
        ({"counts": 3}, "counts is no table of numbers"),
        (
            {"domains": {"a": "mr", "b": "ct"}},
            "domains has no entry for 'c'; give every case of the split a domain, or none",
        ),
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
        domains={name: name.upper() for name in "cadbvt"},
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
        "domains": {"c": "C", "d": "D", "b": "B", "t": "T"},
        "counts": {"training": 3, "validation": 0, "test": 1},
        "missing": ["a", "v"],
    }
