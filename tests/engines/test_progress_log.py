# SPDX-License-Identifier: Apache-2.0
"""What a user reads while a run goes on."""

from __future__ import annotations

import io
import logging
import re

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator

from medssl_components.engines.progress_log import ProgressLog

LOGGER = "medssl_test_progress"


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def make_trainer(clock: Clock, seconds: float = 10.0, as_list: bool = True) -> Engine:
    """An engine of `seconds` an iteration whose loss is the number of the iteration."""

    def step(engine: Engine, batch: int) -> list[dict[str, float]] | dict[str, float]:
        clock.now += seconds
        values = {"loss": float(engine.state.iteration), "dice_loss": 0.5, "learning_rate": 0.01}
        return [values] if as_list else values

    return Engine(step)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == LOGGER]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def attach(engine: Engine, clock: Clock, stream: io.StringIO | None = None, interval: float = 30.0) -> ProgressLog:
    log = ProgressLog(LOGGER, interval, stream or io.StringIO(), clock)
    log.attach(engine)
    return log


def test_lines_come_first_at_every_interval_and_last(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make_trainer(clock)
    attach(trainer, clock)
    trainer.run([0] * 4, max_epochs=2)
    # 10 s an iteration and 30 s a line: 1, then every third, then the last
    assert [line.split("  ")[0] for line in messages(caplog)] == [f"iteration {i}/8" for i in (1, 4, 7, 8)]


def test_the_last_line_does_not_wait_for_the_validation(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make_trainer(clock, seconds=1.0)
    attach(trainer, clock)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: logging.getLogger(LOGGER).info("validation"))
    trainer.run([0] * 4, max_epochs=1)
    assert [line.split("  ")[0] for line in messages(caplog)] == ["iteration 1/4", "iteration 4/4", "validation"]


@pytest.mark.parametrize("as_list", [True, False])
def test_a_line_has_means_since_the_line_before(clock: Clock, caplog: pytest.LogCaptureFixture, as_list: bool) -> None:
    trainer = make_trainer(clock, as_list=as_list)
    attach(trainer, clock)
    trainer.run([0] * 4, max_epochs=2)
    # iterations 2, 3, 4 have the losses 2, 3, 4; four iterations of 10 s are left
    expected = (
        "iteration 4/8  loss 3.0000 (mean of the last 3)  dice_loss 0.5000  10.0 s/it  learning rate 0.01  40 s left"
    )
    assert messages(caplog)[1] == expected


def test_time_left_includes_validation_and_speed_does_not(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make_trainer(clock, seconds=0.5)
    attach(trainer, clock, interval=0.0)

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine: Engine) -> None:
        clock.now += 100.0

    trainer.run([0] * 2, max_epochs=4)
    third, fourth = messages(caplog)[2:4]
    assert "2.0 it/s" in third
    # 101 s for the two iterations after the first, so 5 * 50.5 s for the other five
    assert third.endswith("4 min left")
    assert "2.0 it/s" in fourth


def test_a_resumed_run_starts_where_it_stopped(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make_trainer(clock)
    attach(trainer, clock)
    trainer.load_state_dict({"iteration": 4, "epoch_length": 4, "max_epochs": 3})
    trainer.run([0] * 4, max_epochs=3)
    lines = messages(caplog)
    assert lines[0].startswith("iteration 5/12")
    # the four iterations done before the run do not count for its speed
    assert "40 s left" in lines[1] and lines[1].startswith("iteration 8/12")


def test_the_bar_of_a_resumed_run_starts_at_the_iteration_that_a_loader_sets(clock: Clock) -> None:
    trainer, terminal, seen = make_trainer(clock), Terminal(), []
    log = attach(trainer, clock, terminal)

    @trainer.on(Events.STARTED)
    def load(engine: Engine) -> None:
        engine.state.iteration, engine.state.epoch = 4, 1

    @trainer.on(Events.ITERATION_STARTED)
    def look(engine: Engine) -> None:
        seen.append((log._bar.initial, log._bar.n, log._bar.total))

    trainer.run([0] * 4, max_epochs=3)
    assert seen[0] == (4, 4, 12)
    assert seen[-1] == (4, 11, 12)
    assert "12/12" in terminal.getvalue()


def test_a_terminal_gets_a_bar_and_no_lines(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    trainer, terminal = make_trainer(clock), Terminal()
    attach(trainer, clock, terminal)
    trainer.run([0] * 4, max_epochs=2)
    assert messages(caplog) == []
    last = terminal.getvalue().split("\r")[-1]
    # the second epoch has the losses 5 to 8
    assert "epoch 2/2 100%" in last and "8/8" in last and "loss 6.5000, 10.0 s/it" in last


def test_a_pipe_gets_lines_and_no_bar(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    trainer, pipe = make_trainer(clock), io.StringIO()
    attach(trainer, clock, pipe)
    trainer.run([0] * 4, max_epochs=1)
    assert pipe.getvalue() == ""
    assert len(messages(caplog)) == 2


def test_lines_reach_the_stream_when_logging_is_not_set_up(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    trainer, pipe = make_trainer(clock), io.StringIO()
    log = attach(trainer, clock, pipe)
    trainer.run([0] * 4, max_epochs=1)
    assert len(pipe.getvalue().splitlines()) == 2
    assert log.logger.handlers == []


def test_log_lines_appear_above_the_bar_and_handlers_get_their_stream_back(clock: Clock) -> None:
    trainer, terminal = make_trainer(clock), Terminal()
    attach(trainer, clock, terminal)
    console, other = logging.StreamHandler(terminal), logging.getLogger()
    other.addHandler(console)
    try:

        @trainer.on(Events.EPOCH_COMPLETED)
        def say(engine: Engine) -> None:
            other.warning("a line of another")

        trainer.run([0] * 4, max_epochs=2)
        assert console.stream is terminal
    finally:
        other.removeHandler(console)
    # nothing of the bar stands left of the line
    assert len(re.findall(r"(?:^|[\r\n]) *\r?a line of another\n", terminal.getvalue())) == 2


def test_a_second_run_starts_anew(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make_trainer(clock)
    attach(trainer, clock)
    trainer.run([0] * 4, max_epochs=1)
    trainer.run([0] * 4, max_epochs=2)
    firsts = [line.split("  ")[:2] for line in messages(caplog)]
    assert firsts[1] == ["iteration 4/4", "loss 3.0000 (mean of the last 3)"]
    assert firsts[2] == ["iteration 5/8", "loss 5.0000"]


def test_a_run_that_ends_early_writes_what_it_has(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make_trainer(clock, seconds=1.0)
    attach(trainer, clock)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda engine: engine.terminate())
    trainer.run([0] * 4, max_epochs=2)
    assert [line.split("  ")[0] for line in messages(caplog)] == ["iteration 1/8", "iteration 3/8"]


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_an_error_is_passed_on_and_the_bar_closed(clock: Clock, stream: io.StringIO) -> None:
    def fail(engine: Engine, batch: int) -> None:
        raise ArithmeticError("of the step")

    trainer = Engine(fail)
    log = attach(trainer, clock, stream)
    with pytest.raises(ArithmeticError, match="of the step"):
        trainer.run([0] * 4, max_epochs=1)
    assert log._bar is None


def test_only_rank_zero_writes(clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    trainer, terminal = make_trainer(clock), Terminal()
    attach(trainer, clock)
    attach(trainer, clock, terminal)
    trainer.run([0] * 4, max_epochs=1)
    assert messages(caplog) == [] and terminal.getvalue() == ""


def make_evaluator(cases: int) -> SupervisedEvaluator:
    loader = torch.utils.data.DataLoader([{"image": torch.zeros(1, 2, 2, 2)}] * cases, batch_size=2)
    return SupervisedEvaluator(torch.device("cpu"), loader, torch.nn.Identity())


def test_an_evaluator_counts_cases(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    evaluator = make_evaluator(cases=5)
    attach(evaluator, clock, interval=0.0)
    evaluator.add_event_handler(Events.ITERATION_STARTED, lambda: setattr(clock, "now", clock.now + 8.0))
    for epoch in (1, 7):
        caplog.clear()
        evaluator.run(epoch)
        lines = messages(caplog)
        assert [line.split("  ")[0] for line in lines] == ["case 2/5", "case 4/5", "case 5/5"]
        assert lines[1] == "case 4/5  4.0 s/case  4 s left"


def test_a_validation_leaves_the_bar_of_the_training_alone(clock: Clock) -> None:
    trainer, evaluator, terminal = make_trainer(clock), make_evaluator(cases=4), Terminal()
    attach(trainer, clock, terminal)
    attach(evaluator, clock, terminal)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: evaluator.run(engine.state.epoch))
    trainer.run([0] * 4, max_epochs=2)
    assert terminal.getvalue().count("cases   0%") == 2
    assert "8/8" in terminal.getvalue().rstrip("\n").split("\r")[-1]


def test_one_object_serves_one_engine(clock: Clock) -> None:
    log = attach(make_trainer(clock), clock)
    with pytest.raises(ValueError, match="one for each engine"):
        log.attach(make_trainer(clock))
    with pytest.raises(ValueError, match="interval_seconds is -1"):
        ProgressLog(interval_seconds=-1)
