# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl_components.networks import untracked_statistics


def network() -> nn.Sequential:
    torch.manual_seed(0)
    convolution = nn.Conv3d(1, 2, 1)
    # a layer that has no running statistics, one that is already in evaluation mode, and dropout of two kinds
    fixed = nn.BatchNorm3d(2).eval()
    without = nn.BatchNorm3d(2, track_running_stats=False)
    return nn.Sequential(convolution, nn.BatchNorm3d(2), nn.Dropout3d(0.5), without, fixed, nn.Dropout(0.5))


def image(seed: int = 0) -> torch.Tensor:
    return 3 + torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(seed))


def state(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def switches(net: nn.Module) -> list[tuple[bool, bool | None]]:
    return [(module.training, getattr(module, "track_running_stats", None)) for module in net.modules()]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_running_statistics_and_the_number_of_batches_stay() -> None:
    net = network()
    net(image(1))
    before = state(net)
    assert before["1.num_batches_tracked"] == 1
    with untracked_statistics(net):
        net(image())
    assert same(state(net), before)
    net(image())
    assert state(net)["1.num_batches_tracked"] == 2 and not same(state(net), before)


def test_statistics_are_those_of_the_batch() -> None:
    net = nn.Sequential(nn.BatchNorm3d(1))
    with untracked_statistics(net):
        normalised = net(image())
    torch.testing.assert_close(normalised.mean((0, 2, 3, 4)), torch.zeros(1), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalised.std((0, 2, 3, 4), correction=0), torch.ones(1), atol=1e-3, rtol=0)
    torch.testing.assert_close(normalised, net(image()))  # what training mode makes of the batch
    assert not torch.allclose(normalised, net.eval()(image()))


@pytest.mark.parametrize("dropout", [True, False])
def test_dropout_stays_on_or_is_off(dropout: bool) -> None:
    net = nn.Sequential(nn.Dropout3d(0.5), nn.Dropout(0.5))
    torch.manual_seed(0)
    ones = torch.ones(4, 32, 2, 2, 2)
    with untracked_statistics(net, dropout=dropout):
        assert bool((net(ones) == 0).any()) == dropout
    assert (net(ones) == 0).any()


@pytest.mark.parametrize("dropout", [True, False])
@pytest.mark.parametrize("raises", [True, False])
def test_every_switch_is_as_before_afterwards(dropout: bool, raises: bool) -> None:
    net = network()
    before = switches(net)
    assert len(set(before)) > 2
    try:
        with untracked_statistics(net, dropout=dropout):
            inside = switches(net)
            if raises:
                raise RuntimeError("out of memory")
    except RuntimeError as error:
        assert raises and str(error) == "out of memory"
    assert switches(net) == before
    changed = {index for index, (one, other) in enumerate(zip(inside, before, strict=True)) if one != other}
    assert changed == ({2} if dropout else {2, 3, 6})  # counted with the whole network, which is number 0
    net(image())
    assert net[1].num_batches_tracked == 1


def test_gradients_pass() -> None:
    net = network()
    with untracked_statistics(net):
        net(image()).square().sum().backward()
    assert net[1].weight.grad.abs().sum() > 0


def test_one_use_inside_another_changes_nothing_more() -> None:
    net = network()
    before = switches(net)
    with untracked_statistics(net):
        outer = switches(net)
        with untracked_statistics(net, dropout=False):
            assert switches(net) != outer
        assert switches(net) == outer
    assert switches(net) == before


def test_in_evaluation_mode_nothing_changes() -> None:
    net = network().eval()
    before, expected = switches(net), net(image())
    with untracked_statistics(net, dropout=False):
        assert switches(net) == before
        assert torch.equal(net(image()), expected)
    assert switches(net) == before
