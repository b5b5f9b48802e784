# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medssl_components.networks import DualNetwork, SubnetOutput


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small(**settings: object) -> DualNetwork:
    torch.manual_seed(0)
    shape = {"base_channels": 8, "num_blocks": (1, 1), "num_convs": (1, 1, 1), "strides": (2, 2)}
    return DualNetwork(**{**shape, **settings})


def image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


class Fixed(nn.Module):
    """A network that predicts the same for every image."""

    def __init__(self, probs: list[list[float]]) -> None:
        super().__init__()
        self.logits = torch.tensor(probs).log().T[None, :, None, None]  # one row a voxel, one column a class

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.logits


def fixed(first: list[list[float]], second: list[list[float]]) -> DualNetwork:
    network = small()
    network.resnet_vnet, network.vnet = Fixed(first), Fixed(second)
    return network


def test_parameter_counts() -> None:
    with torch.device("meta"):
        network = DualNetwork()
    assert count(network) == 27_379_220
    assert count(network.resnet_vnet) == 17_930_354
    assert count(network.vnet) == 9_448_866


@pytest.mark.parametrize("training", [True, False])
def test_forward_is_one_tensor_of_logits(training: bool) -> None:
    logits = small(in_channels=2, num_classes=3).train(training)(image(2, 2, 8, 4, 8))
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (2, 3, 8, 4, 8)


@pytest.mark.parametrize("autocast", [False, True])
def test_forward_is_the_mean_of_both_softmax_in_float32(autocast: bool) -> None:
    network = small(num_classes=3).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = network(image(1, 1, 8, 8, 12))
        first, second = (output.logits for output in network.both(image(1, 1, 8, 8, 12)))
    assert first.dtype == (torch.bfloat16 if autocast else torch.float32)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.softmax(1), (first.float().softmax(1) + second.float().softmax(1)) / 2)
    assert not torch.equal(first, second)


def test_both_gives_logits_and_features_of_each() -> None:
    network = small(num_classes=3).eval()
    outputs = network.both(image(2, 1, 8, 8, 4))
    for output, subnet in zip(outputs, (network.resnet_vnet, network.vnet), strict=True):
        assert isinstance(output, SubnetOutput)
        assert output.features.shape == (2, 8, 8, 8, 4)
        torch.testing.assert_close(output.features, subnet.features(image(2, 1, 8, 8, 4)))
        torch.testing.assert_close(output.logits, subnet(image(2, 1, 8, 8, 4)))


def test_features_reach_the_logits_after_dropout() -> None:
    network = small()
    for subnet in (network.resnet_vnet, network.vnet):
        subnet.decoder.dropout.p = 1.0
    assert not any(output.features.any() for output in network.both(image(1, 1, 8, 8, 8)))


def test_uncertainty_comes_with_the_logits_of_forward() -> None:
    network = small(num_classes=3).eval()
    logits, disagreement = network.forward_with_uncertainty(image(1, 1, 8, 8, 4))
    torch.testing.assert_close(logits, network(image(1, 1, 8, 8, 4)))
    assert disagreement.shape == (1, 1, 8, 8, 4)
    assert 0 < disagreement.max() <= 1 and disagreement.min() >= 0


def test_disagreement_is_zero_for_equal_and_one_for_opposite_predictions() -> None:
    same, certain, opposite = [0.2, 0.8], [1.0, 1e-30], [1e-30, 1.0]
    _, disagreement = fixed([same, certain], [same, opposite]).forward_with_uncertainty(image(1, 1, 4, 4, 4))
    torch.testing.assert_close(disagreement.flatten(), torch.tensor([0.0, 1.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_disagreement_is_the_jensen_shannon_divergence_in_bits(num_classes: int) -> None:
    generator = np.random.default_rng(0)
    first, second = (generator.dirichlet([0.5] * num_classes, 6).astype(np.float32) for _ in range(2))
    mean = (first + second) / 2
    expected = sum((probs * np.log2(probs / mean)).sum(1) / 2 for probs in (first, second))
    for networks in (fixed(first.tolist(), second.tolist()), fixed(second.tolist(), first.tolist())):
        _, disagreement = networks.forward_with_uncertainty(image(1, 1, 4, 4, 4))
        np.testing.assert_allclose(disagreement.flatten().numpy(), expected, rtol=1e-4, atol=1e-6)


def test_subnets_share_nothing_and_each_trains_its_own_parameters() -> None:
    network = small(dropout=0.0)
    first, second = network.both(image(2, 1, 8, 8, 8))
    first.logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.resnet_vnet.parameters())
    assert all(parameter.grad is None for parameter in network.vnet.parameters())
    second.logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.vnet.parameters())


def test_forward_trains_every_parameter() -> None:
    network = small(dropout=0.0)
    network(image(2, 1, 8, 8, 8)).square().mean().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_torchscript_gives_the_same_logits() -> None:
    network = small(strides=(2, (2, 2, 1))).eval()
    torch.testing.assert_close(torch.jit.script(network)(image(1, 1, 8, 4, 6)), network(image(1, 1, 8, 4, 6)))


def test_settings_reach_both_subnets() -> None:
    network = small(norm="instance", upsampling="trilinear", dropout=0.25, strides=((2, 2, 1), 2))
    assert network.divisor == network.vnet.divisor == network.resnet_vnet.divisor == (4, 4, 2)
    for subnet in (network.resnet_vnet, network.vnet):
        modules = list(subnet.modules())
        assert not any(isinstance(module, (nn.BatchNorm3d, nn.ConvTranspose3d)) for module in modules)
        assert {module.p for module in modules if isinstance(module, nn.Dropout3d)} == {0.25}


def test_patch_size_error_is_one_line_with_the_nearest_sizes() -> None:
    network = small()
    for check in (
        lambda: network.check_patch_size((8, 6, 8)),
        lambda: network(image(1, 1, 8, 6, 8)),
        lambda: network.both(image(1, 1, 8, 6, 8)),
    ):
        with pytest.raises(ValueError, match="axis 1 has side 6, which is not a multiple of 4: use 4 or 8$") as error:
            check()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"norm": "layer"}, 'norm "layer" is unknown'),
        ({"strides": (2,)}, "strides has 1 entries"),
        ({"num_blocks": (1, 1, 1)}, "num_blocks has 3 entries, num_convs 3: num_convs needs one more"),
    ],
)
def test_unknown_settings_are_errors_of_one_line(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        small(**settings)
    assert "\n" not in str(error.value)
