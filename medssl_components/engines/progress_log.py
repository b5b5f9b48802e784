# SPDX-License-Identifier: Apache-2.0
"""Progress of a run: one bar in a terminal, spaced log lines where the output goes to a file."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from tqdm import tqdm

from .progress_window import ProgressWindow, format_duration

BAR_FORMAT = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


def _output(engine: Engine) -> Mapping[str, object]:
    """Give the output of an iteration, or the first item of a list of them, if it has names."""
    output = engine.state.output
    first = output[0] if isinstance(output, list) and output else output
    return first if isinstance(first, Mapping) else {}


class _AboveTheBar:
    """A stream for console log handlers whose text appears above the bar instead of through it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        tqdm.write(text, file=self.stream, end="")

    def flush(self) -> None:
        self.stream.flush()


class ProgressLog:
    """Show how far a training or an evaluation is, its losses, its speed and the time left.

    In a terminal there is one bar over the whole training, from the resumed iteration on, with the mean loss and the
    speed of the epoch so far; log lines of others appear above it. Elsewhere (a pipe, a file, a notebook) there are log
    lines: at the first iteration, then at most one every `interval_seconds`, and at the last, with means over the
    iterations since the line before. On a `monai.engines.Evaluator` the same is shown in cases. The speed leaves out
    what other handlers do between iterations, such as validation; the time left includes it. Only rank 0 writes.

    Args:
        name: name of the logger that gets the lines.
        interval_seconds: least time between two lines, in seconds.
        stream: where the bar is drawn, and whose `isatty()` decides between bar and lines; standard output if `None`.
        clock: function that gives the time in seconds.

    Raises:
        ValueError: When `interval_seconds` is negative, or when one object is attached to two engines.
    """

    def __init__(
        self,
        name: str = "medssl",
        interval_seconds: float = 30.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if interval_seconds < 0:
            raise ValueError(f"interval_seconds is {interval_seconds}, give 0 or more.")
        self.logger = logging.getLogger(name)
        self.interval_seconds = interval_seconds
        self.stream = stream
        self.clock = clock
        self._engine: Engine | None = None
        self._redirected: list[tuple[logging.StreamHandler, TextIO]] = []
        self._own_handler: logging.Handler | None = None
        self._bar: tqdm | None = None
        self._reset()

    def attach(self, engine: Engine) -> None:
        """Register the events on one engine.

        Args:
            engine: a trainer or an evaluator.
        """
        if self._engine is not None and self._engine is not engine:
            raise ValueError("This ProgressLog is attached to another engine already, make one for each engine.")
        self._engine = engine
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.EPOCH_STARTED, self._epoch_started)
        engine.add_event_handler(Events.GET_BATCH_STARTED | Events.ITERATION_STARTED, self._iteration_started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration_completed)
        engine.add_event_handler(Events.TERMINATE | Events.COMPLETED, self._completed)

    def _reset(self) -> None:
        self._window = ProgressWindow()
        self._iteration_began: float | None = None
        self._line_at: float | None = None
        self._first: tuple[float, int] | None = None
        self._open = False

    def _started(self, engine: Engine) -> None:
        self._close()
        self._reset()
        # ignite takes an exception as handled once anything listens to it; as the last listener this one passes it on
        if not engine.has_event_handler(self._failed, Events.EXCEPTION_RAISED):
            engine.add_event_handler(Events.EXCEPTION_RAISED, self._failed)

    def _epoch_started(self, engine: Engine) -> None:
        if not self._open and not (dist.is_available() and dist.is_initialized() and dist.get_rank() > 0):
            # not at STARTED, where a checkpoint loader may still be about to set the iteration
            self._open_output(engine)
        self._iteration_began = None
        if self._bar is not None:
            self._window = ProgressWindow()

    def _iteration_started(self, engine: Engine) -> None:
        if self._iteration_began is None:
            self._iteration_began = self.clock()

    def _iteration_completed(self, engine: Engine) -> None:
        if not self._open:
            return
        now = self.clock()
        began = now if self._iteration_began is None else self._iteration_began
        self._iteration_began = None
        done, total, unit = self._position(engine)
        # an evaluator's output holds volumes, a trainer's plain numbers
        values = {key: value for key, value in _output(engine).items() if isinstance(value, int | float)}
        values.pop("learning_rate", None)
        previous = self._position(engine, engine.state.iteration - 1)[0]
        self._window.add(values, done - previous, now - began)
        self._first = self._first or (now, done)
        if self._bar is not None:
            self._draw(engine, done - previous, total, unit)
        elif self._line_at is None or now - self._line_at >= self.interval_seconds or done == total:
            self._log(engine)

    def _completed(self, engine: Engine) -> None:
        if self._open and self._bar is None and self._window.iterations > 0:
            self._log(engine)
        self._close()

    def _failed(self, engine: Engine, error: BaseException) -> None:
        self._close()
        raise error

    def _position(self, engine: Engine, iteration: int | None = None) -> tuple[int, int | None, str]:
        """Give iterations of a training or cases of an evaluation: done, in all if known, and their unit."""
        state = engine.state
        iteration = state.iteration if iteration is None else iteration
        length = state.epoch_length
        if not isinstance(engine, Evaluator):
            return iteration, None if length is None or state.max_epochs is None else length * state.max_epochs, "it"
        loader = engine.data_loader
        batch_size = getattr(loader, "batch_size", None) or 1
        try:
            total = len(loader.sampler)
        except (AttributeError, TypeError):
            total = None if length is None else length * batch_size
        return iteration * batch_size if total is None else min(iteration * batch_size, total), total, "case"

    def _log(self, engine: Engine) -> None:
        now, window = self.clock(), self._window
        done, total, unit = self._position(engine)
        fields = [f"{'iteration' if unit == 'it' else 'case'} {done}" + ("" if total is None else f"/{total}")]
        for key, mean in window.means().items():
            counted = key == "loss" and window.iterations > 1
            fields.append(f"{key} {mean}" + (f" (mean of the last {window.iterations})" if counted else ""))
        fields.append(window.speed(unit))
        if "learning_rate" in _output(engine):
            fields.append(f"learning rate {_output(engine)['learning_rate']:.3g}")
        if total is not None and done < total and self._first is not None and done > self._first[1]:
            # the first iteration is left out: it fills caches and starts workers
            seconds = (now - self._first[0]) / (done - self._first[1]) * (total - done)
            fields.append(f"{format_duration(seconds)} left")
        self.logger.info("  ".join(field for field in fields if field))
        self._line_at = now
        self._window = ProgressWindow()

    def _draw(self, engine: Engine, step: int, total: int | None, unit: str) -> None:
        means = self._window.means()
        fields = [f"loss {means['loss']}"] if "loss" in means else []
        self._bar.set_postfix_str(", ".join([*fields, self._window.speed(unit)]).strip(", "), refresh=False)
        if unit == "it":
            epochs = "" if engine.state.max_epochs is None else f"/{engine.state.max_epochs}"
            self._bar.set_description_str(f"epoch {engine.state.epoch}{epochs}", refresh=False)
        self._bar.total = total
        self._bar.update(step)

    def _open_output(self, engine: Engine) -> None:
        self._open = True
        stream = sys.stdout if self.stream is None else self.stream
        if not stream.isatty():
            self._open_logger(stream)
            return
        done, total, unit = self._position(engine)
        self._bar = tqdm(
            desc="training" if unit == "it" else "cases",
            initial=done,
            total=total,
            file=stream,
            bar_format=BAR_FORMAT,
            dynamic_ncols=True,
            miniters=1,
            # the remaining time follows from the mean speed, which validation does not make jump
            smoothing=0,
            # an evaluation within a training cleans up behind itself
            leave=unit == "it",
        )
        consoles = (sys.stdout, sys.stderr, stream)
        for handler in {*logging.getLogger().handlers, *self.logger.handlers}:
            if isinstance(handler, logging.StreamHandler) and any(handler.stream is console for console in consoles):
                self._redirected.append((handler, handler.stream))
                handler.setStream(_AboveTheBar(handler.stream))

    def _open_logger(self, stream: TextIO) -> None:
        if not self.logger.isEnabledFor(logging.INFO) and self.logger.level == logging.NOTSET:
            self.logger.setLevel(logging.INFO)
        if not self.logger.hasHandlers():
            self._own_handler = logging.StreamHandler(stream)
            self.logger.addHandler(self._own_handler)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        for handler, stream in self._redirected:
            handler.setStream(stream)
        if self._own_handler is not None:
            self.logger.removeHandler(self._own_handler)
        self._bar, self._own_handler, self._redirected, self._open = None, None, [], False
