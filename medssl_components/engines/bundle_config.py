# SPDX-License-Identifier: Apache-2.0
"""What a bundle's config asks of itself: where it lies, whether its ids are known, what it was trained with."""

from __future__ import annotations

import difflib
import inspect
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from pydoc import locate
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY

from ..data import DataError

RUNNER_IDS = {"imports", "initialize", "run", "finalize", "displayable_configs", ConfigParser.meta_key}
TRACKING_IDS = {"tracking", "tracking_uri", "experiment_name", "run_name", "save_execute_config", "is_not_rank0"}
SETTINGS = ("in_channels", "num_classes", "spacing", "intensity", "patch_size", "network_def")
ALONG = ("class_names", "split")
JSON_WORDS = {"true": True, "false": False, "null": None}


def find_bundle_root(name: str) -> str:
    """Return the folder of the bundle `name`, from the repository root or from inside the bundle.

    Raises:
        DataError: if the working directory is neither.
    """
    if os.path.isfile(f"bundles/{name}/configs/metadata.json"):
        return f"bundles/{name}"
    if os.path.isfile("configs/metadata.json") and os.path.isfile("configs/train.json"):
        if f"find_bundle_root('{name}')" in Path("configs/train.json").read_text(encoding="utf-8"):
            return "."
    raise DataError(f"the folder of the bundle {name!r} is not here; give it with --bundle_root PATH")


def calling_parser() -> ConfigParser:
    """Return the parser whose expression is being evaluated; MONAI gives an expression no name for it.

    Raises:
        RuntimeError: if no config is being evaluated.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), ConfigParser):
            return frame.f_locals["self"]
        frame = frame.f_back
    raise RuntimeError("no MONAI config is being evaluated; call this from an expression of one")


def check_options(bundle_root: str) -> None:
    """Stop at a top-level id that no config file of the bundle has and nothing refers to, such as a misspelt option.

    The words true, false and null become JSON's values first: MONAI's command line passes them as text, and any text is
    true for Python.

    Args:
        bundle_root: the bundle's folder.

    Raises:
        DataError: with the nearest spelling.
    """
    parser = calling_parser()
    config = parser.config
    for id, value in _read_json_words(config):
        parser.ref_resolver.items[id].update_config(value)
    known = RUNNER_IDS | TRACKING_IDS | _shipped_ids(bundle_root)
    for key in config:
        if key not in known and not _is_referred_to(key, config):
            near = difflib.get_close_matches(key, known - RUNNER_IDS - TRACKING_IDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; {bundle_root}/configs/train.json lists the options"
            raise DataError(f"unknown option {key!r}{hint}")


def resolved_settings() -> dict[str, Any]:
    """Return what evaluation and inference take from the training as plain JSON values, an overlay.

    These are the settings that they must share with it, the classes' names, and the split, whose test cases are scored.
    """
    parser = calling_parser()
    return {key: _plain(parser, key) for key in (*SETTINGS, *(key for key in ALONG if key in parser))}


def check_settings(checkpoint: str) -> None:
    """Stop if a checkpoint is missing, or if it was trained with other settings than those of this config.

    Training writes `settings.json` beside the checkpoint; without one, as with downloaded weights, there is nothing to
    compare. An argument of the network may differ if its class has, as `fits_all_weights`, a dict with the argument and
    the value given here.

    Args:
        checkpoint: path of the weights.

    Raises:
        DataError: naming the first key that differs.
    """
    if not os.path.isfile(checkpoint):
        raise DataError(f"{checkpoint}: no such checkpoint; train first, or give one with --checkpoint PATH")
    path = Path(checkpoint).parent / "settings.json"
    if not path.is_file():
        return
    trained, here = json.loads(path.read_text(encoding="utf-8")), resolved_settings()
    for key in SETTINGS:
        if key in trained and not _agree(trained[key], here[key]):
            shown = "" if isinstance(here[key], (dict, list)) and len(str(here[key])) > 60 else f" ({here[key]})"
            raise DataError(f"{key}{shown} differs from the training's in {path}; add that file to --config_file")


def _agree(trained: Any, here: Any) -> bool:
    """Say whether a setting is that of the training, or differs in what suits the weights of any training."""
    if trained == here or not (isinstance(trained, dict) and isinstance(here, dict)):
        return trained == here
    suits = getattr(locate(str(here.get("_target_"))), "fits_all_weights", {})
    changed = {name for name in trained.keys() | here.keys() if trained.get(name) != here.get(name)}
    return all(name in suits and here.get(name) == suits[name] for name in changed)


def _read_json_words(config: dict[str, Any] | list[Any], id: str = "") -> Iterator[tuple[str, Any]]:
    """Replace each word by its value, in place, and yield its id and the value."""
    for key, value in config.items() if isinstance(config, dict) else enumerate(config):
        own_id = f"{id}{ID_SEP_KEY}{key}" if id else str(key)
        if isinstance(value, (dict, list)):
            yield from _read_json_words(value, own_id)
        elif isinstance(value, str) and value in JSON_WORDS:
            config[key] = JSON_WORDS[value]
            yield own_id, config[key]


def _shipped_ids(bundle_root: str) -> set[str]:
    files = [path for path in Path(bundle_root, "configs").glob("*.json") if path.name != "metadata.json"]
    keys = (key for path in files for key in json.loads(path.read_text(encoding="utf-8")))
    return {ReferenceResolver.split_id(key.removeprefix("+"))[0] for key in keys}


def _is_referred_to(key: str, config: dict[str, Any]) -> bool:
    others = json.dumps({name: value for name, value in config.items() if name != key}, default=str)
    return re.search(rf"[@%]{re.escape(key)}\b", others) is not None


def _plain(parser: ConfigParser, id: str) -> Any:
    """Return the content of an id with references followed and expressions evaluated, and no object made."""
    value = parser[id]
    if isinstance(value, dict):
        return {key: _plain(parser, f"{id}::{key}") for key in value}
    if isinstance(value, (list, tuple)):
        return [_plain(parser, f"{id}::{index}") for index in range(len(value))]
    if isinstance(value, str) and value.startswith("@"):
        return _plain(parser, value[1:])
    if isinstance(value, str) and value.startswith("$"):
        result = parser.get_parsed_content(id)
        return result if isinstance(result, (bool, int, float, str, list)) else value
    return value
