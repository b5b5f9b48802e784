# SPDX-License-Identifier: Apache-2.0
"""Fingerprints made by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from medssl_components.data.planning import CaseFacts, Fingerprint


def _make_case(
    name: str = "a",
    spacing: Sequence[float] = (1, 1, 1),
    shape: Sequence[int] = (100, 100, 100),
    labelled: bool = True,
    boxes: Mapping[int, Sequence[float]] | None = None,
    voxels: Mapping[int, int] | None = None,
    percentiles: Sequence[Sequence[float]] = ((0, 100),),
    foreground: Sequence[Sequence[float]] = ((10, 20, 30),),
    nonzero_share: float = 1.0,
) -> CaseFacts:
    boxes = {1: (20, 20, 20)} if boxes is None else boxes
    voxels = {0: 1000, **dict.fromkeys(boxes, 500)} if voxels is None else voxels
    return CaseFacts(
        name=name,
        file=f"imagesTr/{name}.nii.gz",
        label_file=f"labelsTr/{name}.nii.gz" if labelled else "",
        spacing=np.array(spacing, float),
        shape=np.array(shape),
        percentiles=np.array(percentiles, float),
        nonzero_share=nonzero_share,
        foreground=np.array(foreground, np.float32) if labelled else np.zeros((len(percentiles), 0), np.float32),
        class_voxels=dict(voxels) if labelled else {},
        class_boxes={key: np.array(box, float) for key, box in boxes.items()} if labelled else {},
    )


def _make_fingerprint(
    *cases: CaseFacts, class_names: Sequence[str] = ("background", "organ"), channels: Sequence[str] = ()
) -> Fingerprint:
    labelled = sum(bool(case.label_file) for case in cases)
    counts = {"labeled": labelled, "unlabeled": len(cases) - labelled, "validation": 0, "test": 0}
    return Fingerprint("DIR", tuple(channels), len(cases[0].percentiles), tuple(class_names), cases, counts)


@pytest.fixture(scope="session")
def make_case() -> Callable[..., CaseFacts]:
    """Return a function that makes the facts of a case of 100 mm with an object of 20 mm, or of what is given."""
    return _make_case


@pytest.fixture(scope="session")
def make_fingerprint() -> Callable[..., Fingerprint]:
    """Return a function `make_fingerprint(*cases, class_names=("background", "organ"), channels=())`."""
    return _make_fingerprint
