# SPDX-License-Identifier: Apache-2.0
"""The trained network, where inference and MONAI Label look for it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from ..data import warn_if_built_in
from .atomic_save import atomic_path, atomic_save

logger = logging.getLogger(__name__)


class PublishModel:
    """Write the network of the last iteration, a plain state dict, when training has completed.

    Not on an exception, so a failed run leaves the earlier model where it was; a successful one moves it to the run's
    folder, as `previous_model.pt`. The settings go to the run's folder when training starts, for the checkpoints in it,
    and beside the model with it.

    Args:
        ckpt_dir: folder that gets `model.pt` and `settings.json`.
        run_dir: folder of the run.
        network: the network to deploy.
        settings: what inference must share with training, see `resolved_settings`.
        data: the labelled cases, for a last warning if they were the built-in scans.
    """

    def __init__(
        self,
        ckpt_dir: str,
        run_dir: str,
        network: nn.Module,
        settings: dict[str, Any],
        data: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.ckpt_dir = Path(ckpt_dir)
        self.run_dir = Path(run_dir)
        self.network = network
        self.settings = settings
        self.data = data

    def attach(self, engine: Engine) -> None:
        """Register with a trainer; only the first of several processes writes."""
        if engine.state.rank == 0:
            engine.add_event_handler(Events.STARTED, self.start)
            engine.add_event_handler(Events.COMPLETED, self.publish)

    def start(self, engine: Engine) -> None:
        """Write the run's settings."""
        self._write_settings(self.run_dir)

    def publish(self, engine: Engine) -> None:
        """Put the model into place."""
        for name in ("model.pt", "settings.json"):
            if (self.ckpt_dir / name).is_file():
                os.replace(self.ckpt_dir / name, self.run_dir / f"previous_{name}")
                logger.info("moved the earlier %s to %s", name, self.run_dir / f"previous_{name}")
        self._write_settings(self.ckpt_dir)
        state = self.network.state_dict()
        state.update({name: value.cpu() for name, value in state.items()})  # not every reader maps the device
        atomic_save(state, self.ckpt_dir / "model.pt")
        logger.info("wrote %s, the network of iteration %d", self.ckpt_dir / "model.pt", engine.state.iteration)
        warn_if_built_in(self.data)

    def _write_settings(self, folder: Path) -> None:
        with atomic_path(folder / "settings.json") as path:
            path.write_text(json.dumps(self.settings, indent=2) + "\n", encoding="utf-8")
