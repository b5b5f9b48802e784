# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from medssl_components.packaging import json_text

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "bundles" / "supervised" / "configs").glob("*.json"))


def test_what_fits_in_a_line_stands_in_one():
    assert (
        json_text({"a": [1, 2.5], "b": {"c": None}, "d": {}})
        == '{\n  "a": [1, 2.5],\n  "b": {"c": null},\n  "d": {}\n}\n'
    )


def test_what_does_not_fit_is_opened_level_by_level():
    assert json_text({"a": [[1, 2], "é"]}, width=12) == '{\n  "a": [\n    [1, 2],\n    "é"\n  ]\n}\n'
    assert json_text({"a": [1, 2]}, width=14).count("\n") == 3
    assert json_text({"a": [1, 2]}, width=13).count("\n") == 6


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_keep_content_and_order(path):
    content = json.loads(path.read_text())
    text = json_text(content)
    assert json.dumps(json.loads(text)) == json.dumps(content)
    assert max(map(len, text.splitlines())) <= max(140, *map(len, path.read_text().splitlines()))
