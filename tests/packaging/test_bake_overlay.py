# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from medssl_components.data import DataError
from medssl_components.packaging import bake_overlay

BUNDLES = sorted(Path(__file__).resolve().parents[2].glob("bundles/*/configs"))
CONFIGS = {
    "train": {"a": 1, "b": {"c": [1], "d": 2}, "labeled": "all", "only": 5},
    "evaluate": {"labeled": "all", "stride": []},
    "inference": {"a": 1, "b": {"c": [1], "d": 2}, "stride": []},
}


def bake(overlay):
    return bake_overlay(CONFIGS, overlay, "o.json")


def test_an_id_goes_where_it_is_known_and_evaluation_keeps_its_own():
    before = copy.deepcopy(CONFIGS)
    baked = bake({"a": 2, "labeled": 16, "stride": [4]})
    assert baked["train"] == {**CONFIGS["train"], "a": 2, "labeled": 16}
    assert baked["evaluate"] == {"labeled": "all", "stride": [4]}
    assert baked["inference"] == {**CONFIGS["inference"], "a": 2, "stride": [4]}
    assert CONFIGS == before


def test_nested_ids_and_plus_keys_are_merged_as_monai_does():
    baked = bake({"b::d": 3, "+b": {"e": 4}, "b#c#0": 7})
    assert baked["train"]["b"] == baked["inference"]["b"] == {"c": [7], "d": 3, "e": 4}


def test_what_a_new_value_refers_to_comes_along():
    assert bake({"a": "$@only + 1"})["inference"] == {**CONFIGS["inference"], "a": "$@only + 1", "only": 5}
    with pytest.raises(DataError, match="refers to 'nowhere'"):
        bake({"a": "@nowhere"})


@pytest.mark.parametrize(
    ("overlay", "message"),
    [({"labelled": 1}, "did you mean 'labeled'"), ({"b::x::y": 1}, "'b::x::y' does not fit train")],
)
def test_unknown_ids_are_refused(overlay, message):
    with pytest.raises(DataError, match=message):
        bake(overlay)


@pytest.mark.parametrize("configs", BUNDLES, ids=lambda path: path.parent.name)
def test_every_overlay_baked_is_the_overlay_on_top(configs):
    files = {name: json.loads((configs / f"{name}.json").read_text()) for name in ("train", "evaluate", "inference")}
    overlays = sorted([*configs.glob("datasets/*.json"), *configs.glob("ablations/*.json")])
    assert overlays
    for path in overlays:
        baked = bake_overlay(files, json.loads(path.read_text()), path.name)
        assert baked["train"] == ConfigParser.load_config_files([str(configs / "train.json"), str(path)]), path
        assert list(baked["inference"]) == list(files["inference"]), path
        shared = [key for key in files["inference"] if files["inference"][key] == files["train"].get(key)]
        assert {key: baked["inference"][key] for key in shared} == {key: baked["train"][key] for key in shared}, path
        assert baked["evaluate"] == files["evaluate"]
