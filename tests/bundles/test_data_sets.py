# SPDX-License-Identifier: Apache-2.0
"""From the download of a public data set to the first step of a bundle's training on it, by the data set's overlay."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
from monai.bundle import ConfigWorkflow

from medssl_components.data import case_name, find_split, read_split
from medssl_components.data.preparation import load_split, prepare_folder

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "patch_size": [16, 16, 16],
    "network_def::base_channels": 2,
    "precision": "fp32",
    "cache": 0,
    "max_epochs": 1,
    "iterations_per_epoch": 1,
}
PAPERS = {
    "dbisl": ("la", "pancreas_ct", "brats2019"),
    "ugpl": ("la", "pancreas_ct", "brats2019"),
    "skcdf": ("synapse", "amos"),
    "dtlp": ("la", "synapse", "amos", "mmwhs_mr2ct", "mmwhs_ct2mr", "mnms"),
}
OVERLAYS = {  # to the data set and the split
    "la": ("la", "la_uamt"),
    "pancreas_ct": ("pancreas_ct", "pancreas_mcnet"),
    "brats2019": ("brats2019", "brats2019_ssl4mis"),
    "synapse": ("synapse", "synapse_skcdf"),
    "amos": ("amos", "amos22_skcdf"),
    "mmwhs_mr2ct": ("mmwhs", "mmwhs_ad_mr2ct"),
    "mmwhs_ct2mr": ("mmwhs", "mmwhs_ad_ct2mr"),
    "mnms": ("mnms", "mnms_ad_toA_2p"),
}
COMBINATIONS = [(bundle, overlay) for bundle, overlays in PAPERS.items() for overlay in overlays]
COMBINATIONS += [(bundle, overlay) for bundle in ("supervised", "mean_teacher") for overlay in OVERLAYS]


class Prepared(NamedTuple):
    """A `folder` that `prepare` wrote, and the cases of the data set that were there for it."""

    folder: Path
    cases: set[str]


def first(split: str, number: int) -> list[str]:
    """The first training cases, those that were withdrawn left out, and one for validation and for test."""
    lists = load_split(split)
    there = [case for case in lists["training"] if case not in lists.get("withdrawn", [])]
    return [*there[:number], *lists["validation"][:1], *lists["test"][:1]]


def settings(bundle: str, overlay: str) -> dict:
    return json.loads((ROOT / "bundles" / bundle / "configs" / "datasets" / f"{overlay}.json").read_text())


def faked(data_set: str) -> list[str]:
    """The cases of a partial download: the labelled ones of the overlay and, where it names none, two more."""
    if data_set in ("la", "pancreas_ct", "brats2019"):
        split, number = OVERLAYS[data_set][1], settings("supervised", data_set)["labeled"]
        return first(split, 2 + (number if isinstance(number, int) else load_split(split)["labeled_counts"][number]))
    if data_set in ("synapse", "amos"):
        named = settings("supervised", data_set)["labeled"]
        return [*named, *(case for case in first(OVERLAYS[data_set][1], 3) if case not in named)]
    return []  # those that the fakes have anyway


@pytest.fixture(scope="module")
def prepared(fake_downloads: ModuleType, tmp_path_factory) -> Callable[[str], Prepared]:
    """Return a function from a data set to what `prepare` makes of its faked download, once for all tests."""
    done: dict[str, Prepared] = {}

    def prepare(data_set: str) -> Prepared:
        if data_set not in done:
            folder, cases = tmp_path_factory.mktemp(data_set), faked(data_set)
            download = getattr(fake_downloads, data_set).download
            source = download(folder / "source", *([cases] if cases else []))
            report = prepare_folder(data_set, source, folder / "prepared", partial=True)
            done[data_set] = Prepared(folder / "prepared", set(report["cases"]))
        return done[data_set]

    return prepare


def train(bundle: str, overlay: str, dataset: Path, folder: Path) -> ConfigWorkflow:
    configs = ROOT / "bundles" / bundle / "configs"
    files = [str(configs / "train.json"), str(configs / "datasets" / f"{overlay}.json")]
    paths = {"ckpt_dir": folder / "models", "output_dir": folder / "eval", "dataset_dir": dataset}
    options = {**TINY, **{key: str(path) for key, path in paths.items()}}
    flow = ConfigWorkflow(files, workflow_type="train", **options)
    flow.initialize()
    flow.run()
    return flow


def names(cases: Sequence[dict]) -> list[str]:
    return [case_name(case["image"]) for case in cases]


def labelled(split: str, present: list[str], chosen: int | str | list[str]) -> list[str]:
    """The labelled cases that an overlay asks for, by the published split and what is there of it."""
    if isinstance(chosen, int):
        return present[:chosen]
    if isinstance(chosen, str):
        chosen = read_split(find_split(split, Path("no folder"))).labeled[chosen]
    return [case for case in chosen if case in present]


@pytest.mark.parametrize(("bundle", "overlay"), COMBINATIONS)
def test_a_bundle_trains_on_what_prepare_writes(bundle, overlay, prepared, tmp_path):
    data_set, split = OVERLAYS[overlay]
    folder, cases = prepared(data_set)
    flow = train(bundle, overlay, folder, tmp_path)
    assert flow.parser.get_parsed_content("train::trainer").state.iteration == 1
    weights = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert all(value.isfinite().all() for value in weights.values() if value.is_floating_point())
    config, published = settings(bundle, overlay), load_split(split)
    classes = json.loads((folder / "dataset.json").read_text())["labels"]
    assert classes == {name: number for number, name in enumerate(config["class_names"])}
    assert len(classes) == config["num_classes"]
    present = [case for case in published["training"] if case in cases]
    expected = labelled(split, present, config["labeled"])
    unlabeled = [case for case in present if case not in expected]
    assert names(flow.parser.get_parsed_content("train::dataset").data) == expected != []
    assert names(flow.parser.get_parsed_content("train::unlabeled_dataset").data) == unlabeled != []
    found = flow.parser.get_parsed_content("cases")
    for part in ("validation", "test"):
        assert names(getattr(found, part)) == [case for case in published[part] if case in cases]
    assert len(found.test)


def test_a_withdrawn_case_is_not_replaced(prepared):
    """The pancreas has 12 published labels, of which one cannot be had any more."""
    folder, _ = prepared("pancreas_ct")
    published = load_split("pancreas_mcnet")["training"][:12]
    assert "PANCREAS_0070" in published
    labeled = read_split(folder / "split.json").labeled[settings("dbisl", "pancreas_ct")["labeled"]]
    assert labeled == [name for name in published if name in labeled] and "PANCREAS_0070" not in labeled


@pytest.mark.parametrize("overlay", ["pancreas_ct", "brats2019"])
def test_volumes_that_prepare_has_normalised_stay_as_they_are(overlay, prepared):
    folder, _ = prepared(overlay)
    configs = ROOT / "bundles" / "supervised" / "configs"
    files = [str(configs / "train.json"), str(configs / "datasets" / f"{overlay}.json")]
    flow = ConfigWorkflow(files, workflow_type="train", dataset_dir=str(folder), spacing="native")
    flow.parser.parse()
    intensity = flow.parser.get_parsed_content("intensity")
    load = flow.parser.get_parsed_content("validate::preprocessing").transforms[0]
    image = load({"image": str(next((folder / "imagesTr").iterdir()))})["image"].as_tensor()
    after = intensity({"image": image.clone()})["image"]
    torch.testing.assert_close(torch.as_tensor(after), image, atol=0.03, rtol=0)
