# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl_components.networks import ResNetEncoder, ResNetVNet, VNet


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def without_weights(**settings: object) -> ResNetVNet:
    with torch.device("meta"):
        return ResNetVNet(**settings)


def small(**settings: object) -> ResNetVNet:
    torch.manual_seed(0)
    return ResNetVNet(
        **{"base_channels": 8, "num_blocks": (1, 1, 2), "num_convs": (1, 1, 1), "strides": (2, 2, 2), **settings}
    )


def test_parameter_count_of_the_literature() -> None:
    network = without_weights()
    assert count(network) == 17_930_354
    assert count(network.encoder) == 15_858_384


def test_decoder_and_head_are_the_vnets() -> None:
    with torch.device("meta"):
        vnet = VNet()
    network = without_weights()
    for part in ("decoder", "head"):
        mine, theirs = getattr(network, part).state_dict(), getattr(vnet, part).state_dict()
        assert {name: value.shape for name, value in mine.items()} == {name: v.shape for name, v in theirs.items()}


def test_encoder_has_the_34_layers_without_the_classifier() -> None:
    encoder = without_weights().encoder
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv3d)]
    assert sum(module.kernel_size == (3, 3, 3) for module in convolutions) == 2 * (3 + 4 + 6 + 3)
    assert sum(module.kernel_size == (7, 7, 7) for module in convolutions) == 1
    assert sum(module.kernel_size == (1, 1, 1) for module in convolutions) == 4  # where the map shrinks
    assert all(module.bias is None for module in convolutions)
    assert [len(stage) for stage in encoder.stages] == [3, 4, 6, 3]
    assert not any("Pool" in type(module).__name__ for module in encoder.modules())


def test_encoder_maps_go_from_full_resolution_to_a_sixteenth() -> None:
    with torch.device("meta"):
        maps = ResNetEncoder()(torch.empty(1, 1, 32, 48, 32))
    assert [tuple(features.shape[1:]) for features in maps] == [
        (16, 32, 48, 32),
        (32, 16, 24, 16),
        (64, 8, 12, 8),
        (128, 4, 6, 4),
        (256, 2, 3, 2),
    ]


def test_first_block_of_a_stage_adds_a_projection_and_the_others_their_input() -> None:
    stage = ResNetEncoder(base_channels=4, num_blocks=(2,), strides=(2,)).eval().stages[0]
    with torch.no_grad():
        for block in stage:
            block.conv2.weight.zero_()  # what remains is the shortcut, and 1
            block.bn2.bias.fill_(1.0)
    image = torch.randn(1, 4, 4, 4, 4)
    shortcut = nn.functional.conv3d(image, stage[0].downsample[0].weight, stride=2) / (1 + 1e-5) ** 0.5
    assert shortcut.min() < 0
    torch.testing.assert_close(stage(image), (shortcut + 1).relu() + 1)


@pytest.mark.parametrize("training", [True, False])
def test_forward_is_one_tensor_of_logits(training: bool) -> None:
    logits = small(in_channels=2, num_classes=3).train(training)(torch.randn(2, 2, 16, 8, 16))
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (2, 3, 16, 8, 16)


def test_forward_is_the_head_on_the_features() -> None:
    network = small().eval()
    image = torch.randn(1, 1, 16, 16, 8)
    features = network.features(image)
    assert features.shape == (1, 8, 16, 16, 8)
    torch.testing.assert_close(network.head(features), network(image))


def test_default_features_have_16_channels() -> None:
    network = without_weights()
    with torch.device("meta"):
        assert network.features(torch.empty(1, 1, 16, 16, 32)).shape == (1, 16, 16, 16, 32)


def test_dropout_removes_whole_channels_of_the_last_map_only() -> None:
    network = small()
    assert sum(isinstance(module, nn.Dropout3d) for module in network.modules()) == 1
    with torch.no_grad():
        network.decoder.dropout.p = 1.0
        image = torch.randn(2, 1, 16, 16, 16)
        assert not network.features(image).any()
        assert network.encoder(image)[-1].any()
        assert network.eval().features(image).any()


def test_torchscript_gives_the_same_logits() -> None:
    network = small(strides=(2, (2, 2, 1), 2)).eval()
    image = torch.randn(1, 1, 8, 16, 4)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))


def test_anisotropic_strides_keep_the_thick_axis() -> None:
    network = small(strides=[[2, 2, 1], [2, 2, 1], 2])
    assert network.divisor == (8, 8, 2)
    maps = network.encoder(torch.randn(1, 1, 16, 8, 6))
    assert [tuple(features.shape[2:]) for features in maps] == [(16, 8, 6), (8, 4, 6), (4, 2, 6), (2, 1, 3)]
    assert network(torch.randn(1, 1, 16, 8, 6)).shape == (1, 2, 16, 8, 6)


@pytest.mark.parametrize(
    "norm, layer", [("batch", nn.BatchNorm3d), ("instance", nn.InstanceNorm3d), ("group", nn.GroupNorm)]
)
def test_every_normalisation_has_scale_and_shift(norm: str, layer: type[nn.Module]) -> None:
    network = without_weights(norm=norm, norm_groups=4)
    norms = [module for module in network.modules() if "Norm" in type(module).__name__]
    # the stem, two in each of 16 blocks, 4 projections; 9 convolutions and 4 enlargements of the decoder
    assert len(norms) == 1 + 32 + 4 + 13
    assert all(isinstance(module, layer) and module.weight is not None for module in norms)
    assert all(module.num_groups == 4 for module in norms if norm == "group")
    assert count(network) == 17_930_354


def test_initialisation() -> None:
    # the last convolution of 64 channels, fan in 64 * 27
    for word, deviation in (("kaiming", (2 / (64 * 27)) ** 0.5), ("default", (1 / (3 * 64 * 27)) ** 0.5)):
        weight = small(initialisation=word).encoder.stages[2][1].conv2.weight
        assert weight.std().item() == pytest.approx(deviation, rel=0.02)


def test_every_parameter_gets_a_gradient() -> None:
    network = small(dropout=0.0)
    network(torch.randn(2, 1, 16, 8, 16)).square().mean().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_channels_last_gives_the_same_logits_and_keeps_the_format() -> None:
    network = small().eval()
    image = torch.randn(2, 1, 16, 16, 16)
    expected = network(image)
    network = network.to(memory_format=torch.channels_last_3d)
    image = image.contiguous(memory_format=torch.channels_last_3d)
    assert network.features(image).is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-4)


def test_patch_size_error_is_one_line_with_the_nearest_sizes() -> None:
    network = without_weights()
    message = "axis 1 has side 110, which is not a multiple of 16: use 96 or 112$"
    for check in (lambda: network.check_patch_size((112, 110, 80)), lambda: network(torch.empty(1, 1, 16, 110, 16))):
        with pytest.raises(ValueError, match=message) as error:
            check()
        assert "\n" not in str(error.value)
    network.check_patch_size((112, 112, 80))


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"upsampling": "linear"}, 'upsampling "linear" is unknown'),
        ({"norm": "layer"}, 'norm "layer" is unknown'),
        ({"initialisation": "he"}, 'initialisation "he" is unknown'),
        ({"norm": "group", "norm_groups": 3}, "norm_groups 3 does not divide 8 channels"),
        ({"strides": (2, 2)}, "strides has 2 entries, num_blocks 3: give as many of each"),
        ({"num_convs": (1, 1)}, "num_convs has 2 entries, num_blocks 3: give as many of each"),
    ],
)
def test_unknown_settings_are_errors_of_one_line(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        small(**settings)
    assert "\n" not in str(error.value)
