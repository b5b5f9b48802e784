# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from medssl_components.data.planning import plan_overlay

ROOT = Path(__file__).resolve().parents[3]
BUNDLES = sorted(path.parent for path in ROOT.glob("bundles/*/configs"))
SEVERAL = ("background", "anterior", "posterior")
STRIDE = (16, 16, 16)


def load(bundle: Path, name: str) -> dict:
    return json.loads((bundle / "configs" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture
def supervised() -> dict:
    return load(ROOT / "bundles" / "supervised", "train")


@pytest.fixture
def hippocampus(make_case, make_fingerprint):
    case = make_case(shape=(35, 50, 36), boxes={1: (21, 16, 14), 2: (19, 23, 20)}, voxels={0: 60_000, 1: 1697, 2: 1567})
    return make_fingerprint(case, class_names=SEVERAL)


@pytest.fixture
def left_atrium(make_case, make_fingerprint):
    case = make_case(
        spacing=(0.625,) * 3, shape=(192, 142, 88), boxes={1: (102.5, 58.1, 36.25)}, voxels={0: 10**6, 1: 200_000}
    )
    return make_fingerprint(case, class_names=("background", "left_atrium"))


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_it_sets_the_ids_of_its_neighbours_in_their_order(bundle: Path, hippocampus) -> None:
    train, neighbour = load(bundle, "train"), load(bundle, "datasets/la_cpu")
    overlay = plan_overlay(hippocampus, train, STRIDE, [key for key in train if key in neighbour]).overlay
    assert list(overlay) == list(neighbour)
    assert overlay["batch_size"] == neighbour["batch_size"] == train["batch_size"]
    own = [key for key in neighbour if key not in load(ROOT / "bundles" / "supervised", "datasets/la_cpu")]
    assert {key: overlay[key] for key in own} == {key: train[key] for key in own}


@pytest.mark.parametrize(("data", "overlay"), [("hippocampus", "hippocampus"), ("left_atrium", "la_cpu")])
def test_for_data_with_an_overlay_by_hand_the_plan_is_that_overlay(request, supervised: dict, data: str, overlay: str):
    planned = plan_overlay(request.getfixturevalue(data), supervised, STRIDE, labeled=8).overlay
    by_hand = load(ROOT / "bundles" / "supervised", f"datasets/{overlay}")
    if by_hand["spacing"] == "native":
        by_hand["spacing"] = [1.0, 1.0, 1.0]  # that of all its scans
    by_hand["max_epochs"] = 30  # as long as the tables in benchmarks/results
    assert planned == by_hand


def test_length_split_and_reasons(hippocampus, supervised: dict) -> None:
    planned = plan_overlay(hippocampus, supervised, STRIDE, iterations=250, labeled=["a"], split="mine.json")
    assert (planned.overlay["max_epochs"], planned.overlay["iterations_per_epoch"]) == (3, 100)
    assert planned.overlay["labeled"] == ["a"] and planned.overlay["split"] == "mine.json"
    assert "split" not in plan_overlay(hippocampus, supervised, STRIDE).overlay
    short = plan_overlay(hippocampus, supervised, STRIDE, iterations=2).overlay
    assert (short["max_epochs"], short["iterations_per_epoch"]) == (1, 2)
    assert set(planned.reasons) <= set(planned.overlay)
    assert planned.reasons["patch_size"].startswith("32 x 48 x 32 voxels of a usual scan's 35 x 50 x 36")
    assert planned.anomalies == []


def test_dropout_and_learning_rate_have_a_cause_each(hippocampus, left_atrium, supervised: dict) -> None:
    small, large = (plan_overlay(data, supervised, STRIDE).overlay for data in (hippocampus, left_atrium))
    assert (small["dropout"], small["learning_rate"]) == (0.0, 0.1)
    assert (large["dropout"], large["learning_rate"]) == (supervised["dropout"], supervised["learning_rate"])
    tight = plan_overlay(left_atrium, supervised, STRIDE, memory=0.3).overlay
    assert (tight["dropout"], tight["learning_rate"]) == (0.0, supervised["learning_rate"])
