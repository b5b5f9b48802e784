# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl_components.networks import VNet, VNetDecoder, VNetEncoder, check_patch_size


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small_vnet(**settings: object) -> VNet:
    torch.manual_seed(0)
    return VNet(**{"base_channels": 8, **settings})


def test_parameter_count_of_the_literature() -> None:
    assert count(VNet()) == 9_448_866


def test_parts_build_the_network_with_two_decoders() -> None:
    encoder = VNetEncoder()
    transposed = nn.ModuleList([VNetDecoder(upsampling="transposed"), nn.Conv3d(16, 2, 1)])
    trilinear = nn.ModuleList([VNetDecoder(upsampling="trilinear"), nn.Conv3d(16, 2, 1)])
    assert count(encoder) == 7_376_896
    assert count(transposed) == 2_071_970
    assert count(trilinear) == 2_898_850
    assert count(nn.ModuleList([encoder, transposed, trilinear])) == 12_347_716


def test_more_channels_and_classes_change_the_first_and_last_convolution_only() -> None:
    assert count(VNet(in_channels=3, num_classes=5)) - count(VNet()) == 2 * 27 * 16 + 3 * (16 + 1)


@pytest.mark.parametrize("training", [True, False])
def test_forward_is_one_tensor_of_logits(training: bool) -> None:
    logits = small_vnet(in_channels=2, num_classes=3).train(training)(torch.randn(2, 2, 32, 16, 16))
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (2, 3, 32, 16, 16)
    assert logits.min() < 0


def test_encoder_maps_go_from_shallow_to_deep() -> None:
    maps = VNetEncoder(base_channels=4)(torch.randn(1, 1, 32, 48, 32))
    assert [tuple(features.shape[1:]) for features in maps] == [
        (4, 32, 48, 32),
        (8, 16, 24, 16),
        (16, 8, 12, 8),
        (32, 4, 6, 4),
        (64, 2, 3, 2),
    ]


def test_forward_is_the_head_on_the_features() -> None:
    network = small_vnet().eval()
    image = torch.randn(1, 1, 16, 16, 16)
    features = network.features(image)
    assert features.shape == (1, 8, 16, 16, 16)
    torch.testing.assert_close(network.head(features), network(image))


def test_each_skip_is_added_once() -> None:
    # Without its convolutions the decoder is a sum of the maps of all resolutions.
    decoder = VNetDecoder(base_channels=2, dropout=0.0)
    decoder.blocks = nn.ModuleList(nn.Identity() for _ in decoder.blocks)
    decoder.enlarge = nn.ModuleList(Double() for _ in decoder.enlarge)
    maps = [torch.full((1, 1, 2**side, 2**side, 2**side), 10.0**side) for side in (4, 3, 2, 1, 0)]
    assert torch.equal(decoder(maps), torch.full((1, 1, 16, 16, 16), 11111.0))


class Double(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(image, scale_factor=2)


@pytest.mark.parametrize("upsampling", ["transposed", "trilinear", "nearest"])
def test_torchscript_gives_the_same_logits(upsampling: str) -> None:
    network = small_vnet(upsampling=upsampling, strides=(2, (2, 2, 1), 2, 2)).eval()
    image = torch.randn(1, 1, 16, 32, 8)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))


def test_export_serves_other_sizes() -> None:
    network = small_vnet(num_convs=(1, 1, 1), strides=(4, 4)).eval()
    axis = torch.export.Dim.AUTO
    example, other = torch.randn(1, 1, 32, 32, 32), torch.randn(1, 1, 48, 32, 64)
    exported = torch.export.export(network, (example,), dynamic_shapes={"image": {2: axis, 3: axis, 4: axis}})
    torch.testing.assert_close(exported.module()(other), network(other), rtol=1e-4, atol=1e-4)


def test_trilinear_upsampling_aligns_the_corners() -> None:
    enlarge = VNetDecoder(base_channels=2, upsampling="trilinear").enlarge[0][0]
    ramp = torch.tensor([0.0, 3.0]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 2, 2)
    torch.testing.assert_close(enlarge(ramp)[0, 0, :, 0, 0], torch.tensor([0.0, 1.0, 2.0, 3.0]))


def test_anisotropic_strides_keep_the_thick_axis() -> None:
    network = VNet(base_channels=4, strides=[[2, 2, 1], [2, 2, 1], 2, 2])
    assert network.divisor == (16, 16, 4)
    assert network(torch.randn(1, 1, 32, 16, 4)).shape == (1, 2, 32, 16, 4)
    maps = network.encoder(torch.randn(1, 1, 32, 16, 4))
    assert tuple(maps[2].shape[2:]) == (8, 4, 4)


@pytest.mark.parametrize(
    "norm, layer", [("batch", nn.BatchNorm3d), ("instance", nn.InstanceNorm3d), ("group", nn.GroupNorm)]
)
def test_every_normalisation_has_scale_and_shift(norm: str, layer: type[nn.Module]) -> None:
    norms = [module for module in VNet(norm=norm).modules() if isinstance(module, layer)]
    # 12 convolutions and 4 reductions of the encoder, 9 convolutions and 4 enlargements of the decoder
    assert len(norms) == 29
    assert all(module.weight is not None and module.bias is not None for module in norms)
    assert count(VNet(norm=norm)) == count(VNet())


def test_order_of_normalisation_and_activation() -> None:
    for order, kinds in (("norm_act", [nn.BatchNorm3d, nn.ReLU]), ("act_norm", [nn.ReLU, nn.BatchNorm3d])):
        network = VNet(base_channels=4, order=order)
        for unit in (network.encoder.stem[0], network.decoder.enlarge[0]):
            assert [type(layer) for layer in unit[1:]] == kinds


def test_dropout_removes_whole_channels_at_two_places_in_training_only() -> None:
    # Normalisation comes last, so that a channel is empty only where dropout emptied it.
    network = small_vnet(dropout=0.5, order="act_norm")
    assert sum(isinstance(module, nn.Dropout3d) for module in network.modules()) == 2
    image = torch.randn(2, 1, 32, 32, 32)
    with torch.no_grad():
        for maps in (network.encoder(image)[-1], network.features(image)):
            empty = maps.flatten(2).eq(0).all(-1)
            assert 0.2 < empty.float().mean() < 0.8
        network.eval()
        assert torch.equal(network(image), network(image))
        assert not network.encoder(image)[-1].flatten(2).eq(0).all(-1).any()
        network.train()
        assert not torch.equal(network(image), network(image))


def test_initialisation() -> None:
    kaiming, default = VNet(initialisation="kaiming"), VNet(initialisation="default")
    for network, deviation in ((kaiming, (2 / (256 * 27)) ** 0.5), (default, (1 / (3 * 256 * 27)) ** 0.5)):
        weight = network.encoder.stages[3][1][0][0].weight
        assert weight.std().item() == pytest.approx(deviation, rel=0.02)


def test_every_parameter_gets_a_gradient() -> None:
    network = small_vnet(dropout=0.0)
    network(torch.randn(2, 1, 16, 16, 32)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("upsampling", ["transposed", "trilinear", "nearest"])
def test_channels_last_gives_the_same_logits_and_keeps_the_format(upsampling: str) -> None:
    network = small_vnet(upsampling=upsampling).eval()
    image = torch.randn(2, 1, 32, 16, 16)
    expected = network(image)
    network = network.to(memory_format=torch.channels_last_3d)
    image = image.contiguous(memory_format=torch.channels_last_3d)
    assert all(maps.is_contiguous(memory_format=torch.channels_last_3d) for maps in network.encoder(image))
    assert network.features(image).is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-4)


def test_patch_size_error_is_one_line_with_axis_side_and_nearest_sizes() -> None:
    network = small_vnet()
    message = (
        "patch_size (112, 110, 8) does not fit the network's strides: "
        "axis 1 has side 110, which is not a multiple of 16: use 96 or 112; "
        "axis 2 has side 8, which is not a multiple of 16: use 16"
    )
    for check in (lambda: network.check_patch_size((112, 110, 8)), lambda: network(torch.empty(1, 1, 112, 110, 8))):
        with pytest.raises(ValueError) as error:
            check()
        assert str(error.value) == message
    network.check_patch_size((112, 112, 80))
    network.check_patch_size([96, 96, 96])


def test_patch_size_of_wrong_length_or_without_voxels() -> None:
    with pytest.raises(ValueError, match="has 2 sides, the network needs 3"):
        check_patch_size((16, 16), (16, 16, 16))
    with pytest.raises(ValueError, match="axis 0 has side 0.*use 16$"):
        check_patch_size((0, 16, 16), (16, 16, 16))


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"upsampling": "linear"}, 'upsampling "linear" is unknown'),
        ({"norm": "layer"}, 'norm "layer" is unknown'),
        ({"order": "act"}, 'order "act" is unknown'),
        ({"initialisation": "he"}, 'initialisation "he" is unknown'),
        ({"norm": "group", "norm_groups": 3}, "norm_groups 3 does not divide 16 channels"),
        ({"strides": (2, 2, 2)}, "strides has 3 entries: 5 resolutions need 4"),
    ],
)
def test_unknown_settings_are_errors_of_one_line(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        VNet(**settings)
    assert "\n" not in str(error.value)
