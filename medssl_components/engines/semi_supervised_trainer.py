# SPDX-License-Identifier: Apache-2.0
"""The trainer of all methods."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..data import TwoStreamLoader
from .precision import autocast, resolve_precision
from .shared_statistics import average_statistics


class SemiSupervisedTrainer(Trainer):
    """Run any method: an `nn.Module` whose forward pass returns the loss.

    `method(labeled, unlabeled, progress)` returns a dict with a differentiable scalar "loss" and any number of detached
    scalars to log; `method.after_step()` does what the paper does after the optimiser; `method.network` is the network
    to deploy. `progress` runs from 0 at the first iteration to 1 at the last. `engine.state.output` is a list of
    one item, as MONAI's handlers take it: the dict as floats, with "learning_rate" and "gradient_norm".

    Every epoch starts from a random state that is a function of the seed, the epoch and the rank, so a run resumed at
    the end of an epoch goes on as if it had not stopped.

    Args:
        device: where to train.
        max_epochs: number of epochs.
        iterations_per_epoch: optimiser steps in an epoch.
        method: the method, or a `DistributedDataParallel` around it; it is moved to the device.
        optimizer: one optimiser over the method's parameters.
        learning_rate: maps progress to the learning rate.
        train_data_loader: gives `{"labeled": {"image", "label"}, "unlabeled": {"image"} or None}`.
        precision: "auto", "fp32", "bf16" or "fp16".
        max_gradient_norm: gradients are scaled down to this norm; infinity leaves them.
        max_skipped_steps: an optimiser step whose gradients are not finite is left out; so many in a row stop the run.
        seed: of dropout and of everything else that is random inside the method.
        memory_format: of the images on the device.
        train_handlers: MONAI or ignite handlers.

    Raises:
        FloatingPointError: if a part of the loss, or the gradients of too many steps in a row, are not finite.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        iterations_per_epoch: int,
        method: nn.Module,
        optimizer: torch.optim.Optimizer,
        learning_rate: Callable[[float], float],
        train_data_loader: TwoStreamLoader,
        precision: str = "auto",
        max_gradient_norm: float = float("inf"),
        max_skipped_steps: int = 20,
        seed: int = 0,
        memory_format: torch.memory_format = torch.channels_last_3d,
        train_handlers: Sequence[Any] | None = None,
    ) -> None:
        device = torch.device(device)
        self.wrapped_method = method  # the one to call: DistributedDataParallel averages gradients in its forward pass
        self.method = method.module if isinstance(method, DistributedDataParallel) else method
        self.method.to(device)  # what it counts and averages, beside the network
        self.network = self.method.network
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.dtype = resolve_precision(precision, device)
        self.max_gradient_norm = max_gradient_norm
        self.max_skipped_steps = max_skipped_steps
        self.seed = seed
        self.memory_format = memory_format
        self.skipped_steps = 0
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            data_loader=train_data_loader,
            epoch_length=iterations_per_epoch,
            handlers=train_handlers,
            decollate=False,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)
        self.add_event_handler(Events.EPOCH_STARTED, SemiSupervisedTrainer.start_epoch)

    def run(self) -> None:
        """Train; `monai.engines.Trainer.run` would make a gradient scaler for CUDA."""
        super(Trainer, self).run()

    def start_epoch(self) -> None:
        """Seed the epoch and draw its batches."""
        state = np.random.SeedSequence((self.seed, self.state.epoch, self.state.rank)).generate_state(1)
        seed = int(state[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        self.data_loader.set_epoch(self.state.epoch, self.state.epoch_length)
        self.set_data(self.data_loader)

    @property
    def progress(self) -> float:
        """How far the training is, from 0 at the first iteration to 1 at the last."""
        return (self.state.iteration - 1) / max(1, self.state.max_epochs * self.state.epoch_length - 1)

    def _iteration(self, engine: SemiSupervisedTrainer, batch: dict[str, Any]) -> list[dict[str, float]]:
        rate = self.learning_rate(self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        labeled, unlabeled = (self._to_device(batch[stream]) for stream in ("labeled", "unlabeled"))
        self.method.train()
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.state.device, self.dtype):
            losses = self.wrapped_method(labeled, unlabeled, self.progress)
        self.fire_event(IterationEvents.FORWARD_COMPLETED)
        values = dict(zip(losses, torch.stack([v.detach().float() for v in losses.values()]).tolist(), strict=True))
        self._check_losses(values)
        self.fire_event(IterationEvents.LOSS_COMPLETED)
        self.scaler.scale(losses["loss"]).backward()
        self.fire_event(IterationEvents.BACKWARD_COMPLETED)
        values["gradient_norm"] = self._step()
        average_statistics(self.method)
        self.method.after_step()
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return [{**values, "learning_rate": rate}]

    def _step(self) -> float:
        self.scaler.unscale_(self.optimizer)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.max_gradient_norm).item()
        finite = np.isfinite(norm)
        if finite or self.scaler.is_enabled():  # the scaler leaves such a step out by itself and lowers its scale
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.skipped_steps = 0 if finite else self.skipped_steps + 1
        if not finite:
            self.logger.warning("iteration %d: gradients are not finite, the step is left out", self.state.iteration)
        if self.skipped_steps >= self.max_skipped_steps:
            raise FloatingPointError(
                f"gradients were not finite in {self.skipped_steps} steps in a row up to iteration "
                f"{self.state.iteration}; try a lower learning_rate, or --precision fp32"
            )
        return norm

    def _check_losses(self, values: dict[str, float]) -> None:
        parts = [name for name, value in values.items() if name != "loss" and not np.isfinite(value)]
        if parts or not np.isfinite(values["loss"]):
            raise FloatingPointError(
                f"{', '.join(parts or ['loss'])} is not finite at iteration {self.state.iteration}; "
                "try a lower learning_rate, or --precision fp32"
            )

    def _to_device(self, stream: dict[str, torch.Tensor] | None) -> dict[str, torch.Tensor] | None:
        if stream is None:
            return None
        return {
            key: value.to(self.state.device, non_blocking=True, memory_format=self.memory_format)
            for key, value in stream.items()
        }
