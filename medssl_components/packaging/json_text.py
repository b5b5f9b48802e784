# SPDX-License-Identifier: Apache-2.0
"""JSON as the configs of this repository are written: what fits in a line stands in a line."""

from __future__ import annotations

import json
from typing import Any


def json_text(value: Any, width: int = 140, indent: int = 2) -> str:
    """Return a JSON text; the same value gives the same text.

    Args:
        value: what `json.loads` gives; keys keep their order.
        width: a list or an object that fits in as many characters stands in one line.
        indent: spaces of each level.
    """
    return _text(value, 0, 0, width, indent) + "\n"


def _text(value: Any, used: int, level: int, width: int, indent: int) -> str:
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or not value or (level and used + len(flat) < width):
        return flat
    start = " " * (indent * (level + 1))
    entries = []
    for key, item in value.items() if isinstance(value, dict) else ((None, item) for item in value):
        head = start if key is None else f"{start}{json.dumps(key, ensure_ascii=False)}: "
        entries.append(head + _text(item, len(head), level + 1, width, indent))
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return f"{opening}\n" + ",\n".join(entries) + f"\n{' ' * (indent * level)}{closing}"
