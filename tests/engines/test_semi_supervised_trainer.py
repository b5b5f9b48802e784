# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.handlers import from_engine
from torch import nn

from medssl_components.data import CaseDataset, TwoStreamLoader
from medssl_components.engines import SemiSupervisedTrainer
from medssl_components.ops import PolynomialDecay


class Probe(nn.Module):
    """A method that remembers what it was called with; its loss pulls a weight towards the mean of the images."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.network = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.network.weight)
        self.dropout = nn.Dropout(dropout)
        self.calls = []
        self.steps = []
        self.make_loss = lambda loss: loss

    def forward(self, labeled, unlabeled, progress):
        self.calls.append((labeled, unlabeled, progress))
        difference = self.dropout(self.network.weight - labeled["image"].mean())
        loss = self.make_loss((difference**2).sum())
        return {"loss": loss, "square": loss.detach()}

    def after_step(self):
        self.steps.append(self.network.weight.item())


def loader(unlabeled=2, batch_size=(2, 1)):
    labeled_cases = [{"image": torch.full((1, 2, 2, 2), float(i)), "label": torch.ones(1, 2, 2, 2)} for i in range(4)]
    unlabeled_cases = [{"image": torch.full((1, 2, 2, 2), -float(i))} for i in range(unlabeled)]
    datasets = [CaseDataset(cases, [], cache=0.0) for cases in (labeled_cases, unlabeled_cases)]
    return TwoStreamLoader(*datasets, batch_size=dict(zip(("labeled", "unlabeled"), batch_size, strict=True)))


def trainer(method, epochs=2, iterations=3, data=None, rate=0.1, device="cpu", **options):
    return SemiSupervisedTrainer(
        device=device,
        max_epochs=epochs,
        iterations_per_epoch=iterations,
        method=method,
        optimizer=torch.optim.SGD(method.parameters(), lr=1.0),
        learning_rate=PolynomialDecay(rate, power=1.0),
        train_data_loader=loader() if data is None else data,
        precision=options.pop("precision", "fp32"),
        **options,
    )


def test_runs_every_iteration_with_progress_from_zero_to_one():
    method = Probe()
    trainer(method, epochs=2, iterations=3).run()
    assert [call[2] for call in method.calls] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert len(method.steps) == 6


def test_what_a_method_counts_is_on_the_device_of_its_network():
    method = Probe()
    method.network.to("meta")
    method.register_buffer("count", torch.zeros(1))
    weight = method.network.weight
    trainer(method, device="meta")
    assert method.count.device.type == "meta"
    assert method.network.weight is weight  # which the optimiser has


def test_a_single_iteration_has_progress_zero():
    method = Probe()
    trainer(method, epochs=1, iterations=1).run()
    assert method.calls[0][2] == 0.0


def test_streams_arrive_under_their_names_and_without_a_label_for_the_unlabelled():
    method = Probe()
    trainer(method).run()
    labeled, unlabeled, _ = method.calls[0]
    assert set(labeled) == {"image", "label"}
    assert labeled["image"].shape == (2, 1, 2, 2, 2)
    assert set(unlabeled) == {"image"}
    assert (unlabeled["image"] <= 0).all()


@pytest.mark.parametrize(("unlabeled", "batch_size"), [(0, (2, 1)), (2, (2, 0))])
def test_absent_unlabelled_stream_is_none(unlabeled, batch_size):
    method = Probe()
    trainer(method, data=loader(unlabeled, batch_size)).run()
    assert all(call[1] is None for call in method.calls)


def test_learning_rate_follows_the_schedule_and_outputs_are_floats():
    method, seen = Probe(), []
    engine = trainer(method, epochs=1, iterations=5, rate=0.4)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: seen.extend(e.state.output))
    engine.run()
    assert [output["learning_rate"] for output in seen] == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0])
    assert set(seen[0]) == {"loss", "square", "gradient_norm", "learning_rate"}
    assert all(isinstance(value, float) for value in seen[0].values())
    assert from_engine(["loss"], first=True)(engine.state.output) == seen[-1]["loss"]  # as MONAI's handlers ask for it


def test_after_step_sees_the_weights_after_the_optimiser():
    method = Probe()
    engine = trainer(method, epochs=1, iterations=1, rate=0.25)
    engine.run()
    mean = method.calls[0][0]["image"].mean().item()
    assert method.steps == pytest.approx([0.25 * 2 * mean])  # w - lr * d/dw (w - mean)^2 at w = 0


def test_gradients_are_clipped_to_the_norm():
    method = Probe()
    engine = trainer(method, epochs=1, iterations=1, rate=1.0, max_gradient_norm=0.5)
    method.make_loss = lambda loss: 100 * loss
    engine.run()
    assert method.steps == pytest.approx([0.5], rel=1e-4)
    assert engine.state.output[0]["gradient_norm"] > 0.5  # the norm before clipping is what is logged


def test_loss_that_is_not_finite_stops_with_the_name_of_the_part():
    method = Probe()
    method.make_loss = lambda loss: loss * float("nan")
    with pytest.raises(FloatingPointError, match="^square is not finite at iteration 1;"):
        trainer(method).run()
    assert method.steps == []


class FiniteLossBadGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("inf")


def test_gradients_that_are_not_finite_never_reach_the_weights():
    method = Probe()
    method.make_loss = FiniteLossBadGradient.apply
    trainer(method, epochs=1, iterations=3).run()
    assert method.network.weight.item() == 0.0
    with pytest.raises(FloatingPointError, match="2 steps in a row up to iteration 2"):
        trainer(method, epochs=1, iterations=3, max_skipped_steps=2).run()


def test_same_seed_same_weights_and_another_seed_others():
    weights = []
    for seed in (1, 1, 2):
        method = Probe(dropout=0.5)
        trainer(method, seed=seed).run()
        weights.append(method.network.weight.item())
    assert weights[0] == weights[1] != weights[2]
    assert weights[0] != 0


def test_an_epoch_does_not_depend_on_what_drew_random_numbers_before():
    weights = []
    for draws in (0, 7):
        method = Probe(dropout=0.5)
        engine = trainer(method, epochs=3)
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e, n=draws: torch.rand(n))
        engine.run()
        weights.append(method.network.weight.item())
    assert weights[0] == weights[1]


def test_bf16_reaches_the_method():
    seen = []

    class Conv(Probe):
        def forward(self, labeled, unlabeled, progress):
            seen.append(nn.functional.linear(labeled["image"], self.network.weight.expand(1, 2)).dtype)
            return super().forward(labeled, unlabeled, progress)

    trainer(Conv(), epochs=1, iterations=1, precision="bf16").run()
    assert seen == [torch.bfloat16]
