# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from medssl_components.data.planning import choose_augmentation

OVERLAYS = Path(__file__).resolve().parents[3] / "bundles" / "supervised" / "configs" / "datasets"
CUBE = ((1, 1, 1), (32, 32, 32))


def targets(*names: str, grid: tuple = CUBE) -> list[str]:
    return [entry["_target_"] for entry in choose_augmentation(names, *grid).transforms["transforms"]]


def test_as_the_overlays_that_were_made_by_hand() -> None:
    la = json.loads((OVERLAYS / "la_cpu.json").read_text())
    assert choose_augmentation(la["class_names"], la["spacing"], la["patch_size"]).transforms == la["augmentation"]
    hippocampus = json.loads((OVERLAYS / "hippocampus.json").read_text())
    chosen = choose_augmentation(hippocampus["class_names"], (1, 1, 1), hippocampus["patch_size"])
    assert chosen.transforms == hippocampus["augmentation"]


@pytest.mark.parametrize("grid", [((1, 1, 1), (48, 32, 32)), ((1, 1.1, 1), (32, 32, 32))])
def test_no_rotation_of_what_is_no_square(grid: tuple) -> None:
    chosen = choose_augmentation(("background", "organ"), *grid)
    assert [entry["spatial_axis"] for entry in chosen.transforms["transforms"]] == [0, 1]


@pytest.mark.parametrize(
    "names",
    [
        ("left_kidney", "right_kidney"),
        ("Kidney right", "liver", "Kidney left"),
        ("LeftLung", "RightLung"),
        ("lung-L", "lung-R"),
    ],
)
def test_no_flip_where_two_classes_differ_in_the_side(names: tuple) -> None:
    assert targets("background", *names) == []


@pytest.mark.parametrize(
    "names", [("left_atrium", "right_ventricle"), ("left_lung", "heart"), ("bright", "left"), ("a1", "a2")]
)
def test_a_flip_where_they_differ_in_more(names: tuple) -> None:
    assert targets("background", *names) == ["RandFlipd"]
