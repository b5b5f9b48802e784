# SPDX-License-Identifier: Apache-2.0
"""A checkpoint from which a killed training goes on."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from ignite.engine import Engine, Events

from ..data import DataError
from .atomic_save import atomic_save
from .run_folder import CHECKPOINT

logger = logging.getLogger(__name__)


class ResumeCheckpoint:
    """Save method, optimiser, gradient scaler and trainer at the end of every epoch, and load them to go on.

    The random state is not among them: `SemiSupervisedTrainer` sets it from seed and epoch when an epoch starts. The
    number of epochs is not restored either, so a finished run goes on if it is given more; schedules then stretch over
    the new total.

    Args:
        run_dir: folder of the run.
        resume: whether to load the folder's checkpoint when training starts.
    """

    def __init__(self, run_dir: str, resume: bool | str = False) -> None:
        self.path = Path(run_dir) / CHECKPOINT
        self.resume = str(resume).lower() != "false"

    def attach(self, engine: Engine) -> None:
        """Register with a `SemiSupervisedTrainer`."""
        if self.resume:
            engine.add_event_handler(Events.STARTED, self.load)
        if engine.state.rank == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def save(self, engine: Engine) -> None:
        """Write the checkpoint, replacing the last one only when the new one is complete."""
        parts = {name: part.state_dict() for name, part in self._parts(engine).items()}
        atomic_save({**parts, "iteration": engine.state.iteration, "epoch": engine.state.epoch}, self.path)

    def load(self, engine: Engine) -> None:
        """Restore everything from the checkpoint.

        Raises:
            DataError: if the checkpoint is of another method, or of another number of iterations an epoch.
        """
        checkpoint = torch.load(self.path, map_location=engine.state.device, weights_only=True)
        iterations = checkpoint["iteration"] // max(1, checkpoint["epoch"])
        if iterations != engine.state.epoch_length:
            raise DataError(f"{self.path}: was made with iterations_per_epoch {iterations}; resume with the same")
        if checkpoint["epoch"] > engine.state.max_epochs:
            raise DataError(f"{self.path}: is at epoch {checkpoint['epoch']}; resume with at least that max_epochs")
        try:
            for name, part in self._parts(engine).items():
                if name != "scaler" or checkpoint[name]:  # fp32 and bf16 leave none; fp16 then begins anew
                    part.load_state_dict(checkpoint[name])
        except (RuntimeError, KeyError, ValueError) as error:
            raise DataError(f"{self.path}: does not fit this method and network; resume with the same") from error
        engine.state.iteration = checkpoint["iteration"]
        engine.state.epoch = checkpoint["epoch"]
        logger.info("resumed %s after epoch %d", self.path, checkpoint["epoch"])

    @staticmethod
    def _parts(engine: Engine) -> dict:
        return {"method": engine.method, "optimizer": engine.optimizer, "scaler": engine.scaler}
