# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl_components.methods import MovingAverage


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2))


def set_weight(net: nn.Sequential, value: float) -> None:
    with torch.no_grad():
        net[0].weight.fill_(value)


def weight(average: MovingAverage) -> float:
    values = average.average[0].weight
    assert (values == values.flatten()[0]).all()
    return values.flatten()[0].item()


@pytest.mark.parametrize("decay, steps", [(0.6, 6), (0.99, 6), (0.0, 3), (1.0, 4)])
def test_weights_after_k_steps_are_the_closed_form(decay: float, steps: int) -> None:
    """The mean of all weights so far until it would keep more than the decay, and the moving average from there on."""
    net = network()
    set_weight(net, 10.0)
    average = MovingAverage(net, decay)
    average.start(net)
    expected, seen = 10.0, [10.0]
    for step in range(1, steps + 1):
        set_weight(net, 10.0 + step**2)
        average.update(net)
        seen.append(10.0 + step**2)
        if 1 - 1 / (step + 1) <= decay:
            expected = sum(seen) / len(seen)
        else:
            expected = decay * expected + (1 - decay) * seen[-1]
        assert weight(average) == pytest.approx(expected, rel=1e-6), step
        assert int(average.steps) == average.start(net) == step


def test_closed_form_by_hand() -> None:
    """From 0 with decay 0.6: the mean of 0 and 1; then 0.6 < 2/3, so 0.6 * 0.5 + 0.4 * 2, and 0.6 * 1.1 + 0.4 * 3."""
    net = network()
    set_weight(net, 0.0)
    average = MovingAverage(net, 0.6)
    average.start(net)
    for step, expected in ((1, 0.5), (2, 1.1), (3, 1.86)):
        set_weight(net, float(step))
        average.update(net)
        assert weight(average) == pytest.approx(expected, rel=1e-6)


def test_copy_is_made_of_the_weights_at_the_first_start_and_not_again() -> None:
    net = network()
    average = MovingAverage(net)
    set_weight(net, 7.0)
    assert not average.initialised
    assert average.start(net) == 0 and average.initialised
    assert weight(average) == 7.0
    set_weight(net, 8.0)
    assert average.start(net) == 0
    assert weight(average) == 7.0


def test_an_update_starts_the_copy_if_nothing_has() -> None:
    net = network()
    average = MovingAverage(net)
    set_weight(net, 7.0)
    average.update(net)
    assert weight(average) == 7.0 and int(average.steps) == 1


def test_the_copy_shares_nothing_with_the_network_and_has_no_gradient() -> None:
    net = network()
    average = MovingAverage(net)
    average.start(net)
    set_weight(net, 3.0)
    assert not (average.average[0].weight == 3.0).any()
    image = torch.ones(2, 1, 2, 2, 2, requires_grad=True)
    assert not average(image).requires_grad
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize("rule, mean", [("keep", 0.0), ("copy", 5.0), ("average", 2.5)])
def test_buffers_follow_their_rule(rule: str, mean: float) -> None:
    net = network()
    average = MovingAverage(net, buffers=rule)
    average.start(net)
    net[1].running_mean.fill_(5.0)
    net[1].num_batches_tracked.fill_(9)
    average.update(net)
    assert average.average[1].running_mean.tolist() == [mean, mean]
    assert int(average.average[1].num_batches_tracked) == (0 if rule == "keep" else 9)


def test_state_dict_keeps_copy_and_number_of_steps() -> None:
    net = network()
    first = MovingAverage(net, 0.6)
    first.start(net)
    for step in (1, 2):
        set_weight(net, float(step))
        first.update(net)
    second = MovingAverage(network(1), 0.6)
    second.start(network(1))  # in use before the state comes
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.average[0].weight, first.average[0].weight)
    assert second.start(network(2)) == 2  # and no other weights are taken over
    for average in (first, second):
        set_weight(net, 3.0)
        average.update(net)
    assert torch.equal(second.average[0].weight, first.average[0].weight)
    assert int(second.steps) == 3


def test_state_of_a_copy_that_has_not_started_starts_later() -> None:
    net = network()
    average = MovingAverage(net)
    average.load_state_dict(MovingAverage(net).state_dict())
    set_weight(net, 4.0)
    assert average.start(net) == 0
    assert weight(average) == 4.0


@pytest.mark.parametrize(
    "settings, named", [({"decay": 1.5}, "1.5"), ({"decay": -0.1}, "-0.1"), ({"buffers": "mean"}, "'mean'")]
)
def test_unusable_settings_are_told_before_the_first_step(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        MovingAverage(network(), **settings)
