# SPDX-License-Identifier: Apache-2.0
"""What `diff` of two bundles shows is the method: all other blocks are the same, word for word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

BUNDLES = sorted(path.parent for path in Path(__file__).resolve().parents[2].glob("bundles/*/configs"))
YARDSTICK = next(path for path in BUNDLES if path.name == "supervised")
OWN = {"bundle_root", "batch_size", "method", "network_def", "displayable_configs"}
OWN_OF = {  # and of one bundle alone
    "skcdf": {"learning_rate"},  # its moving averages need a higher one
    "dtlp": {"published"},  # its second teacher
}
RECIPE = {"batch_size", "max_epochs", "learning_rate"}  # what a data set's overlay may have of its own: the paper's


def load(bundle, name):
    return json.loads((bundle / "configs" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(params=[path for path in BUNDLES if path != YARDSTICK], ids=lambda path: path.name)
def bundle(request):
    return request.param


def test_training_differs_in_the_method_alone(bundle):
    ours, theirs = load(bundle, "train"), load(YARDSTICK, "train")
    shared = [key for key in theirs if key not in OWN | OWN_OF.get(bundle.name, set())]
    assert {key: ours[key] for key in shared} == {key: theirs[key] for key in shared}
    order = [key for key in ours if key in theirs]
    assert order == list(theirs)


@pytest.mark.parametrize("name", ["evaluate", "multi_gpu_train", "multi_gpu_evaluate", "multi_gpu_inference"])
def test_evaluation_and_many_gpus_are_the_same(bundle, name):
    assert load(bundle, name) == load(YARDSTICK, name)


def test_what_a_radiologist_may_change_differs_in_the_weights_of_the_method_alone(bundle):
    ours, theirs = (load(path, "train")["displayable_configs"] for path in (bundle, YARDSTICK))
    assert list(ours)[: len(theirs)] == list(theirs)
    assert all(ours[key] == f"@{key}" and (key in theirs or key.endswith("_weight")) for key in ours)


def test_inference_differs_in_folder_and_network_alone(bundle):
    ours, theirs = load(bundle, "inference"), load(YARDSTICK, "inference")
    assert {key for key in theirs if ours[key] != theirs[key]} <= {"bundle_root", "network_def"}
    assert ours["network_def"] == load(bundle, "train")["network_def"]
    assert list(ours) == list(theirs)


def test_overlays_are_those_of_the_yardstick_but_for_batch_and_length(bundle):
    names = {path.name for path in (YARDSTICK / "configs" / "datasets").glob("*.json")}
    assert {path.name for path in (bundle / "configs" / "datasets").glob("*.json")} == names
    for name in names:
        ours, theirs = (load(path, f"datasets/{name.removesuffix('.json')}") for path in (bundle, YARDSTICK))
        assert {key for key in theirs if ours[key] != theirs[key]} <= RECIPE, name


def test_logging_and_licence_are_the_same(bundle):
    for name in ("LICENSE", "configs/logging.conf", "docs/data_license.txt"):
        assert (bundle / name).read_bytes() == (YARDSTICK / name).read_bytes(), name
