# SPDX-License-Identifier: Apache-2.0
"""Files that are either whole or not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path in the folder of `path`, and move it there when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}_", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's own mode lets nobody else read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_save(content: Any, path: str | Path) -> None:
    """Write `content` with `torch.save`, so that `path` never holds half of it."""
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
