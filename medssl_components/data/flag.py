# SPDX-License-Identifier: Apache-2.0
"""Yes or no, as the command line passes it."""

from __future__ import annotations

from .errors import DataError


def flag(value: bool | str, name: str) -> bool:
    """Read an option that is true or false; MONAI's command line passes `true` and `false` as text.

    Raises:
        DataError: for anything else.
    """
    words = {"true": True, "false": False}
    if str(value).lower() not in words:
        raise DataError(f"{name} is {value!r}; give true or false")
    return words[str(value).lower()]
