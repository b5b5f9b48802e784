# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
from monai.bundle import ConfigParser

from medssl_components.data import DataError
from medssl_components.engines import check_options, find_bundle_root

IMPORTS = {"imports": ["$import medssl_components"]}


def error_of(config, id):
    with pytest.raises(RuntimeError) as caught:
        ConfigParser({**IMPORTS, **config}).get_parsed_content(id)
    assert isinstance(caught.value.__cause__, DataError)
    return str(caught.value.__cause__)


@pytest.fixture
def bundle(tmp_path):
    configs = tmp_path / "bundles" / "some" / "configs"
    configs.mkdir(parents=True)
    root = "$medssl_components.engines.find_bundle_root('some')"
    (configs / "train.json").write_text(
        json.dumps({"bundle_root": root, "patch_size": 1, "+handlers": [], "train::x": 2})
    )
    (configs / "metadata.json").write_text("{}")
    return configs.parent


def test_bundle_root_from_the_repository_and_from_inside(bundle, monkeypatch):
    monkeypatch.chdir(bundle.parents[1])
    assert find_bundle_root("some") == "bundles/some"
    monkeypatch.chdir(bundle)
    assert find_bundle_root("some") == "."
    with pytest.raises(DataError, match="--bundle_root"):
        find_bundle_root("other")


@pytest.mark.parametrize(
    ("key", "text"),
    [("patch_sise", "unknown option 'patch_sise'; did you mean 'patch_size'?"), ("zzz", "unknown option 'zzz'; ")],
)
def test_unknown_option_stops_with_the_nearest_spelling(bundle, key, text):
    check = {"initialize": f"$medssl_components.engines.check_options(r'{bundle}')"}
    assert error_of({**check, "patch_size": 1, key: 2}, "initialize").startswith(text)


def test_shipped_ids_and_helpers_that_something_refers_to_are_known(bundle):
    check = {"initialize": f"$medssl_components.engines.check_options(r'{bundle}')"}
    known = {"patch_size": "@my_size", "my_size": 4, "handlers": [], "train": {"x": 1}, "run": []}
    ConfigParser({**IMPORTS, **check, **known}).get_parsed_content("initialize")


def test_true_false_and_null_of_the_command_line_are_values(bundle):
    check = f"$medssl_components.engines.check_options(r'{bundle}')"
    words = {"_target_": "builtins.dict", "a": "false", "b": ["null", "@patch_size", {"c": "true"}], "d": "no"}
    parser = ConfigParser({**IMPORTS, "initialize": [check], "patch_size": "false", "train": {"x": words}})
    parser.get_parsed_content("initialize::0")
    assert parser.get_parsed_content("patch_size") is False
    assert parser.get_parsed_content("train::x") == {"a": False, "b": [None, False, {"c": True}], "d": "no"}
    assert parser["train::x::a"] is False


def test_outside_of_a_config_there_is_no_parser(bundle):
    with pytest.raises(RuntimeError, match="no MONAI config"):
        check_options(str(bundle))


SETTINGS = {
    "in_channels": 1,
    "num_classes": 2,
    "class_names": "$['background', 'organ']",
    "spacing": "native",
    "intensity": {"_target_": "Compose", "transforms": []},
    "patch_size": "@my_size",
    "my_size": [16, 16, 16],
    "network_def": {"_target_": "medssl_components.networks.VNet", "in_channels": "@in_channels"},
}


def test_settings_are_plain_and_resolved():
    config = {**IMPORTS, **SETTINGS, "settings": "$medssl_components.engines.resolved_settings()"}
    settings = ConfigParser(config).get_parsed_content("settings")
    assert json.loads(json.dumps(settings)) == settings
    assert settings["patch_size"] == [16, 16, 16]
    assert settings["class_names"] == ["background", "organ"]
    assert settings["network_def"] == {"_target_": "medssl_components.networks.VNet", "in_channels": 1}
    assert "split" not in settings


def test_settings_keep_the_split_that_chose_the_cases():
    config = {**IMPORTS, **SETTINGS, "split": "mine.json", "all": "$medssl_components.engines.resolved_settings()"}
    assert ConfigParser(config).get_parsed_content("all")["split"] == "mine.json"


@pytest.mark.parametrize("change", [{"spacing": [1, 1, 1]}, {"in_channels": 2}, {"my_size": [32, 16, 16]}])
def test_settings_that_differ_from_the_checkpoints_stop(tmp_path, change):
    checkpoint = tmp_path / "model.pt"
    checks = {
        "settings": "$medssl_components.engines.resolved_settings()",
        "check": f"$medssl_components.engines.check_settings(r'{checkpoint}')",
    }
    config = {**IMPORTS, **SETTINGS, **checks}
    assert error_of(config, "check").startswith(f"{checkpoint}: no such checkpoint")
    checkpoint.touch()
    ConfigParser(config).get_parsed_content("check")  # weights without settings have nothing to compare
    settings = ConfigParser(config).get_parsed_content("settings")
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    ConfigParser(config).get_parsed_content("check")
    key = next(iter(change)).replace("my_size", "patch_size")
    assert error_of({**config, **change}, "check").startswith(f"{key} ({list(change.values())[0]}) differs")


@pytest.mark.parametrize(
    ("trained", "here", "agree"),
    [("unlabeled", "labeled", True), ("labeled", "labeled", True), ("labeled", "unlabeled", False)],
)
def test_a_network_says_what_suits_the_weights_of_any_training(tmp_path, trained, here, agree):
    checkpoint = tmp_path / "model.pt"
    checkpoint.touch()
    network = {"_target_": "medssl_components.networks.DecoupledVNet", "base_channels": 4}
    stored = {"network_def": {**network, "inference_decoder": trained}}
    (tmp_path / "settings.json").write_text(json.dumps(stored))
    check = f"$medssl_components.engines.check_settings(r'{checkpoint}')"
    config = {**IMPORTS, **SETTINGS, "check": check, "network_def": {**network, "inference_decoder": here}}
    if agree:
        ConfigParser(config).get_parsed_content("check")
    else:
        assert error_of(config, "check").startswith("network_def differs")
    config["network_def"]["base_channels"] = 8
    assert error_of(config, "check").startswith("network_def differs")
