# SPDX-License-Identifier: Apache-2.0
"""The command line: `python -m medssl_components COMMAND`."""

from __future__ import annotations

import logging
import sys

import fire

from .commands import demo, pack, plan, prepare, verify
from .engines import one_line_errors


def main() -> None:
    """Run one command."""
    one_line_errors()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    commands = {"demo": demo, "pack": pack, "plan": plan, "prepare": prepare, "verify": verify}
    fire.Fire(commands, name="medssl_components")


if __name__ == "__main__":
    main()
