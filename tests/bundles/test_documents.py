# SPDX-License-Identifier: Apache-2.0
"""What the configs, the metadata, the requirements and the documents say of the same thing is the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import medssl_components
from medssl_components.data import find_split, read_split
from medssl_components.data.preparation.amos import AMOS
from medssl_components.data.preparation.mmwhs import MMWHS
from medssl_components.data.preparation.mnms import MNMS
from medssl_components.data.preparation.synapse import SYNAPSE

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.parent for path in ROOT.glob("bundles/*/configs"))
RUNS = ("train", "evaluate", "inference")
TWO_AND_TWO = {"labeled": 2, "unlabeled": 2}
MANDATORY = (
    "schema version changelog monai_version pytorch_version numpy_version required_packages_version task description "
    "authors copyright network_data_format"
).split()


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def pins():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


@pytest.fixture(params=BUNDLES, ids=lambda path: path.name)
def bundle(request):
    return request.param


def test_metadata_has_what_the_zoo_asks_for(bundle):
    metadata = load(bundle / "configs" / "metadata.json")
    assert [key for key in MANDATORY if key not in metadata] == []
    assert metadata["version"] in metadata["changelog"]
    assert metadata["version"] == medssl_components.__version__
    assert metadata["supported_apps"] == {}
    data_format = metadata["network_data_format"]
    assert list(data_format["inputs"]) == ["image"] and list(data_format["outputs"]) == ["pred"]


def test_metadata_pins_are_the_requirements(bundle):
    metadata = load(bundle / "configs" / "metadata.json")
    own = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    stated = {**metadata["required_packages_version"], **{name: metadata[key] for name, key in own.items()}}
    assert stated == pins()


def test_files_of_the_bundle_are_there(bundle):
    for name in ("metadata", "train", "evaluate", "inference", *(f"multi_gpu_{name}" for name in RUNS)):
        assert (bundle / "configs" / f"{name}.json").is_file(), name
    for name in ("LICENSE", "configs/logging.conf", "docs/README.md", "docs/data_license.txt"):
        assert (bundle / name).is_file(), name
    assert not list(bundle.rglob("*.py"))


def test_every_ablation_is_documented(bundle):
    document = (bundle / "docs" / "README.md").read_text()
    names = [path.name for path in (bundle / "configs" / "ablations").glob("*.json")]
    assert [name for name in names if f"`{name}`" not in document] == []


def test_options_table_states_the_defaults(bundle):
    configs = [load(bundle / "configs" / f"{name}.json") for name in ("inference", "evaluate", "train")]
    defaults = {key: value for config in configs for key, value in config.items()}
    options = (bundle / "docs" / "README.md").read_text().split("\n# Options\n")[1]
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", options, re.MULTILINE)
    assert len(rows) > 20
    for key, stated in rows:
        assert key in defaults, key
        literal = re.fullmatch(r"`([^`]*)`", stated)
        if literal and not isinstance(defaults[key], dict):
            assert json.loads(literal[1]) == defaults[key], key


@pytest.mark.parametrize(
    ("overlay", "spacing", "patch", "labeled", "rate", "iterations"),
    [
        ("la", 0.625, [112, 112, 80], 16, {"skcdf": 0.1, "": 0.01}, {"dbisl": 17000, "dtlp": 11400, "": 6000}),
        ("la_cpu", 1.25, [64, 64, 48], 8, {"skcdf": 0.1, "dtlp": 0.03, "": 0.01}, {"": 3000}),
        ("pancreas_ct", 1.0, [96, 96, 96], 12, {"skcdf": 0.1, "": 0.01}, {"dbisl": 17000, "": 6000}),
        ("brats2019", 1.0, [96, 96, 96], 25, {"skcdf": 0.1, "": 0.01}, {"dbisl": 17000, "": 20000}),
        ("hippocampus", "native", [32, 48, 32], 8, {"": 0.1}, {"": 1000}),
        ("synapse", "native", [128, 128, 64], 4, {"dtlp": 0.03, "": 0.3}, {"dtlp": 2400, "": 12000}),
        ("amos", "native", [128, 128, 64], 10, {"dtlp": 0.03, "": 0.1}, {"dtlp": 30900, "": 154000}),
        ("mmwhs_mr2ct", "native", [128, 128, 128], 16, {"skcdf": 0.1, "": 0.005}, {"": 2400}),
        ("mmwhs_ct2mr", "native", [128, 128, 128], 16, {"skcdf": 0.1, "": 0.005}, {"": 2400}),
        ("mnms", "native", [128, 128, 32], 10, {"skcdf": 0.1, "": 0.01}, {"": 66000}),
        ("hippocampus_two_domains", "native", [32, 48, 32], 8, {"": 0.1}, {"": 1000}),
        ("hippocampus_three_domains", "native", [32, 48, 32], 8, {"": 0.1}, {"": 1000}),
    ],
)
def test_overlays_state_the_numbers_of_the_recipes(bundle, overlay, spacing, patch, labeled, rate, iterations):
    iterations = iterations.get(bundle.name, iterations[""])
    config = load(bundle / "configs" / "datasets" / f"{overlay}.json")
    assert config["spacing"] == (spacing if spacing == "native" else [spacing] * 3)
    assert config["patch_size"] == patch
    known = config["labeled"]  # the first n of the split, names, or the name of a list in the split
    if isinstance(known, str):
        known = read_split(find_split(config.get("split", "pancreas_mcnet"), ROOT)).labeled[known]
    assert (len(set(known)) if isinstance(known, list) else known) == labeled
    assert config["max_epochs"] * config["iterations_per_epoch"] == iterations
    assert config["learning_rate"] == rate.get(bundle.name, rate[""])
    assert config["batch_size"] == ({"labeled": 4, "unlabeled": 0} if bundle.name == "supervised" else TWO_AND_TWO)
    row = re.search(rf"^\| `{overlay}.json` .*$", (bundle / "docs" / "README.md").read_text(), re.MULTILINE)[0]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[-3:] == [" x ".join(map(str, patch)), str(labeled), str(iterations)]


@pytest.mark.parametrize(
    ("overlay", "split", "labeled", "source", "unlabeled", "test"),
    [
        ("mmwhs_mr2ct", "mmwhs_ad_mr2ct", "source", {"mr"}, {"ct"}, {"ct"}),
        ("mmwhs_ct2mr", "mmwhs_ad_ct2mr", "source", {"ct"}, {"mr"}, {"mr"}),
        ("mnms", "mnms_ad_toA_2p", "2%", set("BCD"), set("BCD"), {"A"}),
    ],
)
def test_overlays_of_several_domains_name_the_published_split(bundle, overlay, split, labeled, source, unlabeled, test):
    config = load(bundle / "configs" / "datasets" / f"{overlay}.json")
    assert (config["split"], config["labeled"]) == (split, labeled)
    published = read_split(find_split(split, ROOT))
    known = published.labeled[labeled]
    rest = set(published.lists["training"]) - set(known)
    assert [{published.domains[case] for case in cases} for cases in (known, rest, published.lists["test"])] == [
        source,
        unlabeled,
        test,
    ]


@pytest.mark.parametrize("overlay", ["hippocampus_two_domains", "hippocampus_three_domains"])
def test_overlays_with_a_split_of_the_package_bring_it_and_are_those_of_its_data(bundle, overlay):
    config = load(bundle / "configs" / "datasets" / f"{overlay}.json")
    assert config.pop("split") == overlay
    assert (ROOT / "medssl_components" / "data" / "scenarios" / f"{overlay}.json").is_file()
    *shifts, last = config.pop("intensity")["transforms"]
    plain = load(bundle / "configs" / "datasets" / "hippocampus.json")
    assert last == plain.pop("intensity")
    assert {shift["_target_"] for shift in shifts} == {"medssl_components.data.ShiftDomaind"}
    assert config == plain


@pytest.mark.parametrize(
    ("overlay", "split", "share"), [("synapse", "synapse_skcdf", "20%"), ("amos", "amos22_skcdf", "5%")]
)
def test_overlays_name_the_labelled_cases_of_the_published_split(bundle, overlay, split, share):
    labeled = load(bundle / "configs" / "datasets" / f"{overlay}.json")["labeled"]
    assert labeled == load(ROOT / "medssl_components" / "data" / "splits" / f"{split}.json")["labeled"][share]


@pytest.mark.parametrize(
    ("overlay", "data_set"),
    [("synapse", SYNAPSE), ("amos", AMOS), ("mmwhs_mr2ct", MMWHS), ("mmwhs_ct2mr", MMWHS), ("mnms", MNMS)],
)
def test_overlays_name_the_classes_of_the_prepared_folder(bundle, overlay, data_set):
    assert load(bundle / "configs" / "datasets" / f"{overlay}.json")["class_names"] == list(data_set.class_names)


def test_overlays_of_a_bundle_set_the_same_known_ids(bundle):
    files = sorted((bundle / "configs" / "datasets").glob("*.json"))
    overlays = {path.name: set(load(path)) - {"split"} for path in files}
    first = next(iter(overlays.values()))
    assert all(keys == first for keys in overlays.values()), overlays
    assert first <= set(load(bundle / "configs" / "train.json"))


def test_no_gpu_is_taken_for_granted():
    files = ROOT.glob("medssl_components/**/*.py")
    assert [path.name for path in files if re.search(r"\.cuda\(\)|weights_only=False", path.read_text())] == []
