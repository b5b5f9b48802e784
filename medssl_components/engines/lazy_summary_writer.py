# SPDX-License-Identifier: Apache-2.0
"""A TensorBoard writer that makes no file until there is something to write."""

from __future__ import annotations

from typing import Any

from torch.utils.tensorboard import SummaryWriter


class LazySummaryWriter:
    """Stand for a `SummaryWriter` that is made when it is first used, so that reading a config leaves no file behind.

    Args:
        log_dir: folder of the event files.
    """

    def __init__(self, log_dir: str) -> None:
        self.log_dir = log_dir
        self._writer: SummaryWriter | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self._writer is None:
            self._writer = SummaryWriter(self.log_dir)
        return getattr(self._writer, name)
