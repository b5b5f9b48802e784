# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from medssl_components.data.planning import find_anomalies

NORMAL = "abcde"


def lines(make_fingerprint, *cases, modality: str = "mr", class_names=("background", "organ")) -> list[str]:
    return find_anomalies(make_fingerprint(*cases, class_names=class_names), modality, (32, 32, 32), (1, 1, 1))


def test_nothing_is_odd_about_usual_cases(make_case, make_fingerprint) -> None:
    cases = [make_case(name) for name in NORMAL]
    assert lines(make_fingerprint, *cases, make_case("u", labelled=False)) == []


@pytest.mark.parametrize(
    ("odd", "line"),
    [
        ({"boxes": {}, "voxels": {0: 9}, "foreground": [[]]}, "labelsTr/x.nii.gz: is background alone"),
        ({"percentiles": ((7, 7),)}, "imagesTr/x.nii.gz: nearly all voxels of a channel have one value"),
        ({"percentiles": ((-1000, 9),)}, "imagesTr/x.nii.gz: its values look like Hounsfield units, from -1000"),
        (
            {"spacing": (1, 1, 3.5), "shape": (100, 100, 30)},
            "imagesTr/x.nii.gz: has voxels of 1 x 1 x 3.5 mm, the median is 1 x 1 x 1",
        ),
        ({"shape": (100, 100, 301)}, "imagesTr/x.nii.gz: is 100 x 100 x 301 mm large, the median is 100 x 100 x 100"),
        ({"shape": (40, 40, 10)}, "imagesTr/x.nii.gz: is 40 x 40 x 10 mm large, less than half a patch"),
    ],
)
def test_each_odd_thing_names_its_file(make_case, make_fingerprint, odd: dict, line: str) -> None:
    assert line in lines(make_fingerprint, *(make_case(name) for name in NORMAL), make_case("x", **odd))


def test_a_class_that_is_nowhere(make_case, make_fingerprint) -> None:
    names = ("background", "organ", "tumour")
    assert lines(make_fingerprint, make_case(), class_names=names) == [
        "no label has the class 2 tumour; it cannot be learned"
    ]


def test_values_are_odd_only_among_others(make_case, make_fingerprint) -> None:
    """A folder of CT whose crops have no air in them is not odd."""
    cases = [make_case(name) for name in NORMAL]
    assert lines(make_fingerprint, *cases, modality="ct") == []
    mixed = [*(make_case(name, percentiles=((-1000, 300),)) for name in NORMAL), make_case("x")]
    assert lines(make_fingerprint, *mixed, modality="ct") == [
        "imagesTr/x.nii.gz: its values look like no Hounsfield units, from 0"
    ]
