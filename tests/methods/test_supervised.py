# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceCELoss
from torch import nn

from medssl_components.methods import Supervised


@pytest.fixture
def labeled():
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 1, 4, 4, 4, generator=generator)
    return {"image": image, "label": (image > 0.5).to(torch.uint8)}


def method(**options):
    torch.manual_seed(0)
    return Supervised(nn.Conv3d(1, 2, 1), DiceCELoss(to_onehot_y=True, softmax=True), **options)


def test_returns_a_scalar_loss_and_detached_parts(labeled):
    losses = method()(labeled, None, progress=0.0)
    assert losses["loss"].shape == ()
    assert losses["loss"].requires_grad
    assert not losses["supervised_loss"].requires_grad


def test_hand_computed_cross_entropy():
    network = nn.Conv3d(1, 2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1, 1))
        network.bias.zero_()
    labeled = {"image": torch.ones(1, 1, 1, 1, 1), "label": torch.ones(1, 1, 1, 1, 1)}
    loss = DiceCELoss(to_onehot_y=True, softmax=True, lambda_dice=0.0)
    losses = Supervised(network, loss, supervised_weight=3.0)(labeled, None, progress=0.0)
    assert losses["supervised_loss"].item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert losses["loss"].item() == pytest.approx(3 * math.log(1 + math.exp(-1)))


def test_unlabelled_volumes_change_nothing(labeled):
    supervised = method()
    unlabeled = {"image": torch.full((2, 1, 4, 4, 4), float("nan"))}
    alone, beside = supervised(labeled, None, 0.5)["loss"], supervised(labeled, unlabeled, 0.5)["loss"]
    torch.testing.assert_close(alone, beside)


def test_network_is_the_one_that_learns(labeled):
    supervised = method()
    supervised(labeled, None, 0.0)["loss"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in supervised.network.parameters())
    before = [parameter.clone() for parameter in supervised.network.parameters()]
    supervised.after_step()
    assert all(torch.equal(a, b) for a, b in zip(before, supervised.network.parameters(), strict=True))
