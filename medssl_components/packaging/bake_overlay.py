# SPDX-License-Identifier: Apache-2.0
"""An overlay becomes part of the configs that it would come on top of."""

from __future__ import annotations

import copy
import difflib
import json
import re
from collections.abc import Mapping
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver
from monai.bundle.utils import merge_kv

from ..data import DataError

REFERENCE = re.compile(r"[@%](\w+)")


def bake_overlay(configs: Mapping[str, dict[str, Any]], overlay: Mapping[str, Any], where: str) -> dict[str, dict]:
    """Return the configs with an overlay in them, as MONAI merges files: nested ids and `+` keys too.

    An id of `train.json` goes there, and into `inference.json` if that has it. `evaluate.json` comes on top of
    `train.json` and keeps what it sets itself, such as `"labeled": "all"`; an id that `train.json` does not have, such
    as `stride`, goes into the other two. If a new value refers to an id that `inference.json` lacks, that id comes
    along from `train.json`.

    Args:
        configs: the contents of `train`, `evaluate` and `inference`, which are not changed.
        overlay: ids and their values.
        where: name of the overlay, for errors.

    Raises:
        DataError: for an id that no config has, with the nearest spelling.
    """
    parsers = {name: ConfigParser(config=copy.deepcopy(config)) for name, config in configs.items()}
    for key, value in overlay.items():
        top = ReferenceResolver.split_id(key.removeprefix("+"))[0]
        chosen = [name for name in ("train", "inference") if top in configs[name]]
        if "train" not in chosen and top in configs["evaluate"]:
            chosen.append("evaluate")
        if not chosen:
            known = {id for config in configs.values() for id in config}
            near = difflib.get_close_matches(top, known, n=1)
            raise DataError(f"{where}: no config has the id {top!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        for name in chosen:
            try:
                merge_kv(parsers[name], key, copy.deepcopy(value))
            except (KeyError, ValueError) as error:
                raise DataError(f"{where}: the id {key!r} does not fit {name}.json: {error}") from error
    baked = {name: {**parser.get()} for name, parser in parsers.items()}
    _complete(baked["inference"], baked["train"], where)
    return baked


def _complete(config: dict[str, Any], source: dict[str, Any], where: str) -> None:
    while missing := sorted(set(REFERENCE.findall(json.dumps(config))) - set(config)):
        if missing[0] not in source:
            raise DataError(f"{where}: refers to {missing[0]!r}, an id that no config has")
        config[missing[0]] = copy.deepcopy(source[missing[0]])
