# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, CropForegroundd, EnsureTyped, RandFlipd, RandSpatialCropd

from medssl_components.data import CaseDataset, CaseFolder, DataError, LoadCased, count_classes

KEYS = ["image", "label"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_folder: Callable[..., Path]) -> Path:
    return make_folder(tmp_path_factory.mktemp("count") / "data", labeled=3, shape=(10, 9, 8), num_classes=4)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose voxels were read."""
    names: list[str] = []
    read = LoadCased._read

    def note(self: LoadCased, file: str) -> torch.Tensor:
        names.append(Path(file).name)
        return read(self, file)

    monkeypatch.setattr(LoadCased, "_read", note)
    return names


def dataset(
    folder: Path, part: str = "labeled", grid: tuple = (), random: bool = True, **options: object
) -> CaseDataset:
    crops = [
        RandSpatialCropd(KEYS, roi_size=(2, 2, 2), random_size=False, allow_missing_keys=True),
        RandFlipd(KEYS, prob=0.5, allow_missing_keys=True),
    ]
    typed = EnsureTyped(KEYS, dtype=[torch.float32, torch.uint8], track_meta=False, allow_missing_keys=True)
    chain = Compose([LoadCased(KEYS, num_classes=4), Compose([*grid, typed]), Compose(crops if random else [])])
    return CaseDataset(getattr(CaseFolder(str(folder)), part), chain, **options)


def on_disk(folder: Path) -> list[int]:
    labels = [np.asarray(nibabel.load(folder / f"labelsTr/case_0{k}.nii.gz").dataobj) for k in (1, 2, 3)]
    return [sum(int((label == value).sum()) for label in labels) for value in range(4)]


@pytest.mark.parametrize("cache", ["auto", 0.5, 0])
def test_counts_are_those_of_the_whole_labels(folder: Path, cache: str | float) -> None:
    counts = count_classes(dataset(folder, cache=cache), 4)
    assert counts.dtype == torch.int64
    assert counts.tolist() == on_disk(folder)
    assert counts.sum() == 3 * 10 * 9 * 8


def test_a_class_that_is_absent_counts_zero(folder: Path) -> None:
    assert count_classes(dataset(folder), 6).tolist() == [*on_disk(folder), 0, 0]


def test_chain_without_random_transforms(folder: Path) -> None:
    assert count_classes(dataset(folder, random=False), 4).tolist() == on_disk(folder)


def test_deterministic_transforms_enter(folder: Path) -> None:
    crop = CropForegroundd(KEYS, source_key="label", allow_smaller=True)
    counts = count_classes(dataset(folder, grid=(crop,)), 4).tolist()
    assert counts[1:] == on_disk(folder)[1:] and counts[0] < on_disk(folder)[0]


def test_items_of_training_stay_as_they_are(folder: Path) -> None:
    items = []
    for count in (False, True):
        cases = dataset(folder)
        if count:
            count_classes(cases, 4)
        cases.set_random_state(7)
        items.append(cases[1]["image"])
    assert torch.equal(*items)


def test_a_cache_folder_serves_counting_and_training(folder: Path, tmp_path: Path, reads: list[str]) -> None:
    cases = dataset(folder, cache=str(tmp_path / "cache"))
    count_classes(cases, 4)
    assert len(reads) == 2 * 3
    reads.clear()
    assert count_classes(dataset(folder, cache=str(tmp_path / "cache")), 4).tolist() == on_disk(folder)
    assert cases[0]["label"].shape == (1, 2, 2, 2)
    assert not reads


def test_a_bundle_counts_when_it_is_asked(folder: Path, reads: list[str]) -> None:
    part = {"_target_": "medssl_components.data.count_classes", "_mode_": "callable"}
    config = {"cases": "$None", "counts": {**part, "dataset": "@cases", "num_classes": 4}}
    parser = ConfigParser(config)
    parser["cases"] = dataset(folder)
    count = parser.get_parsed_content("counts")
    assert not reads
    assert count().tolist() == on_disk(folder)


def test_a_case_without_label(folder: Path, reads: list[str]) -> None:
    with pytest.raises(DataError) as error:
        count_classes(dataset(folder, "unlabeled"), 4)
    assert str(error.value) == "case_04: has no label, so its classes cannot be counted; give labelled cases"
    assert not reads


def test_a_label_out_of_range(folder: Path) -> None:
    with pytest.raises(DataError) as error:
        count_classes(dataset(folder), 3)
    assert str(error.value) == "case_01: label values 0, 1, 2, 3 are not all in 0..2; correct num_classes"
