# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from medssl_components.networks.diffusion_vnet import DiffusionVNet
from medssl_components.networks.time_embedding import TimeEmbedding, sinusoidal_features
from medssl_components.ops import update_ema


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def without_weights(**settings: object) -> DiffusionVNet:
    with torch.device("meta"):
        return DiffusionVNet(**settings)


def small(**settings: object) -> DiffusionVNet:
    torch.manual_seed(0)
    defaults = {
        "num_classes": 3,
        "base_channels": 4,
        "num_convs": (1, 2, 2),
        "strides": (2, 2),
        "time_channels": 8,
        "time_hidden_channels": 16,
        "projection_channels": 5,
    }
    return DiffusionVNet(**{**defaults, **settings})


def image(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def untouched(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.grad is None}


# Parameters


def test_parameter_count_is_that_of_the_recipe_without_what_no_gradient_reaches() -> None:
    network = without_weights(num_classes=14)
    image_stem_time = (128 * 512 + 512) + (512 * 512 + 512) + 513 * 32  # it has layers for the step, and no step
    behind_last_convolutions = 513 * (32 + (64 + 128 + 256 + 512) + (256 + 128 + 64 + 32))
    assert image_stem_time + behind_last_convolutions == 1_100_256
    assert count(network.deployed.stem) == 346_080 - image_stem_time
    assert count(network.diffusion_stem, network.time_embedding.hidden) == 358_176 - 513 * 32
    shared, encoder_widths = count(network.deployed.encoder), sum(network.deployed.encoder.widths)
    assert shared + 513 * encoder_widths == 31_431_424 - 513 * (64 + 128 + 256 + 512)
    for decoder in (network.deployed.decoder, network.labeled_decoder, network.diffusion_decoder):
        assert count(decoder) == 8_282_830
    decoder_widths = sum(network.diffusion_decoder.widths)
    assert 8_282_830 + 513 * decoder_widths == 9_202_126 - 513 * (256 + 128 + 64 + 32)
    assert count(network.time_embedding.shifts) == 513 * (encoder_widths + decoder_widths)
    projections = count(network.source_projection, network.target_projection)
    assert projections == 2 * 512 * 128 + 128
    assert count(network) == 57_903_466 - 1_100_256 + projections == 56_934_410


@pytest.mark.parametrize("num_classes, of_recipe", [(2, 57_891_910), (4, 57_893_836), (16, 57_905_392)])
def test_parameter_count_follows_the_classes_as_in_the_recipe(num_classes: int, of_recipe: int) -> None:
    assert count(without_weights(num_classes=num_classes)) == of_recipe - 1_100_256 + 131_200


def losses_of_all_paths(network: DiffusionVNet) -> torch.Tensor:
    volume, noisy = image(2, 1, 8, 8, 8), image(2, 3, 8, 8, 8, seed=2)
    outputs = [
        network.diffusion_path(volume, noisy, torch.tensor([3, 700])),
        network.labeled_path(volume),
        network.unlabeled_path(volume),
    ]
    source, target = network.project(outputs[-1].features)
    correlation = (source.flatten(2).transpose(1, 2) @ target.flatten(2)).softmax(1)
    return sum(output.logits.square().mean() for output in outputs) + correlation.square().mean()


@pytest.mark.parametrize("settings", [{}, {"num_convs": (2, 1, 3)}])
def test_every_parameter_gets_a_gradient(settings: dict[str, object]) -> None:
    network = small(dropout=0.0, unit_dropout=0.0, **settings)
    losses_of_all_paths(network).backward()
    assert untouched(network) == set()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())


def test_each_path_trains_its_own_parts_and_the_encoder() -> None:
    volume, noisy = image(2, 1, 8, 8, 8), image(2, 3, 8, 8, 8, seed=2)
    paths = {
        "deployed.decoder": lambda network: network(volume),
        "labeled_decoder": lambda network: network.labeled_path(volume).logits,
        "diffusion_decoder": lambda network: network.diffusion_path(volume, noisy, torch.tensor([3, 4])).logits,
    }
    for own, path in paths.items():
        network = small()
        path(network).square().mean().backward()
        trained = {name for name, _ in network.named_parameters()} - untouched(network)
        parts = {part for part in (*paths, "deployed.encoder", "deployed.stem", "diffusion_stem", "time_embedding")}
        found = {part for part in parts for name in trained if name.startswith(part + ".")}
        stems = {"diffusion_stem", "time_embedding"} if own == "diffusion_decoder" else {"deployed.stem"}
        assert found == {own, "deployed.encoder"} | stems


# Paths


def test_forward_is_one_tensor_of_the_path_theta() -> None:
    network = small()
    assert network.num_classes == 3 and network.divisor == (4, 4, 4)
    assert network(image(2, 1, 8, 8, 4)).shape == (2, 3, 8, 8, 4)
    network.eval()
    output = network.unlabeled_path(image(2, 1, 8, 8, 4))
    assert torch.equal(network(image(2, 1, 8, 8, 4)), output.logits)
    assert torch.equal(network.deployed(image(2, 1, 8, 8, 4)), output.logits)
    assert output.features.shape == (2, 16, 2, 2, 1)


def test_paths_share_the_encoder_and_differ_in_their_decoders() -> None:
    network = small().eval()
    volume = image(1, 1, 8, 8, 8)
    theta, psi = network.unlabeled_path(volume), network.labeled_path(volume)
    assert torch.equal(theta.features, psi.features)
    assert not torch.allclose(theta.logits, psi.logits)
    network.labeled_decoder.load_state_dict(network.deployed.decoder.state_dict())
    assert torch.equal(network.labeled_path(volume).logits, theta.logits)


def test_diffusion_path_depends_on_image_noisy_label_and_step() -> None:
    network = small().eval()
    volume, noisy, step = image(2, 1, 8, 8, 8), image(2, 3, 8, 8, 8, seed=2), torch.tensor([0, 999])
    output = network.diffusion_path(volume, noisy, step)
    assert output.logits.shape == (2, 3, 8, 8, 8) and output.features.shape == (2, 16, 2, 2, 2)
    for changed in ((volume + 1, noisy, step), (volume, noisy.flip(1), step), (volume, noisy, torch.tensor([0, 5]))):
        other = network.diffusion_path(*changed)
        assert not torch.allclose(other.logits[1], output.logits[1])
    assert torch.equal(other.logits[0], output.logits[0])  # each volume has its own step


def test_diffusion_stem_sees_the_image_before_the_label() -> None:
    network = small().eval()
    volume, noisy = image(1, 1, 8, 8, 8), image(1, 3, 8, 8, 8, seed=2)
    with torch.no_grad():
        network.diffusion_stem[0][0].weight[:, :1] = 0
        blind = [network.diffusion_path(shown, noisy, torch.tensor([7])).logits for shown in (volume, volume + 1)]
    assert torch.equal(*blind)


def test_without_shifts_the_diffusion_decoder_is_a_plain_one() -> None:
    network = small().eval()
    volume, noisy = image(1, 1, 8, 8, 8), image(1, 3, 8, 8, 8, seed=2)
    with torch.no_grad():
        nn.init.zeros_(network.time_embedding.shifts.weight)
        nn.init.zeros_(network.time_embedding.shifts.bias)
        logits = network.diffusion_path(volume, noisy, torch.tensor([7])).logits
        features = network.deployed.encoder(network.diffusion_stem(torch.cat([volume, noisy], 1)), [])
        torch.testing.assert_close(logits, network.diffusion_decoder(features, []))


def test_shifts_go_to_their_places() -> None:
    """A shift acts on what follows it: from none for the one place before, to all for the last decoder level."""
    network = small().eval()
    encoder, decoder = network.deployed.encoder, network.diffusion_decoder
    assert encoder.widths == [8, 8, 16, 16]  # behind the reduction and behind all convolutions of a level but the last
    assert decoder.widths == [8, 8, 4]
    stem = image(1, 4, 8, 8, 8)
    with torch.no_grad():
        plain = encoder(stem, [])
        for place, changed_from in enumerate((1, 1, 2, 2)):
            shifts = [torch.full((1, width, 1, 1, 1), float(place == at)) for at, width in enumerate(encoder.widths)]
            maps = encoder(stem, shifts)
            same = [torch.equal(one, other) for one, other in zip(maps, plain, strict=True)]
            assert same == [level < changed_from for level in range(3)]
        level = encoder.levels[0]
        shift = image(1, 8, 1, 1, 1)
        by_hand = level.units[1](level.units[0](level.resize(stem) + shift) + 2 * shift)
        torch.testing.assert_close(level(stem, [shift, 2 * shift], None), by_hand)


@pytest.mark.parametrize("level, channels, side", [(-1, 16, 2), (2, 16, 2), (-2, 8, 4), (0, 4, 8)])
def test_features_are_those_of_the_chosen_level(level: int, channels: int, side: int) -> None:
    network = small(feature_level=level).eval()
    features = network.unlabeled_path(image(1, 1, 8, 8, 8)).features
    assert features.shape == (1, channels, side, side, side)
    source, target = network.project(features)
    assert source.shape == target.shape == (1, 5, side, side, side)
    assert not torch.equal(source, target)


@pytest.mark.parametrize("shape, base_channels", [((32, 48, 32), 8), ((64, 64, 48), 16)])
def test_narrow_networks_take_the_small_patches(shape: tuple[int, ...], base_channels: int) -> None:
    network = without_weights(base_channels=base_channels)
    patch = torch.empty(2, 1, *shape, device="meta")
    assert network(patch).shape == (2, 2, *shape)
    noisy, step = torch.empty(2, 2, *shape, device="meta"), torch.empty(2, dtype=torch.long, device="meta")
    output = network.diffusion_path(patch, noisy, step)
    assert output.logits.shape == (2, 2, *shape)
    assert output.features.shape == (2, 16 * base_channels, *(side // 16 for side in shape))


def test_a_narrow_network_trains_on_a_small_patch() -> None:
    network = DiffusionVNet(base_channels=4, projection_channels=4)
    volume = image(2, 1, 32, 48, 32)
    output = network.diffusion_path(volume, image(2, 2, 32, 48, 32), torch.tensor([1, 999]))
    (output.logits.square().mean() + network(volume).square().mean()).backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())


# Teacher and pull


def test_a_copy_of_the_deployed_path_is_a_teacher() -> None:
    network = small().eval()
    teacher = copy.deepcopy(network.deployed).requires_grad_(False)
    assert not any("time" in name or "shift" in name for name, _ in teacher.named_parameters())
    before = [parameter.clone() for parameter in teacher.parameters()]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    update_ema(teacher, network.deployed, 0.75)
    for parameter, old in zip(teacher.parameters(), before, strict=True):
        torch.testing.assert_close(parameter, old + 0.25)
    teacher.load_state_dict(network.deployed.state_dict())
    assert torch.equal(teacher(image(1, 1, 8, 8, 8)), network(image(1, 1, 8, 8, 8)))


def test_the_decoders_parameters_correspond() -> None:
    network = small()
    decoders = (network.deployed.decoder, network.labeled_decoder, network.diffusion_decoder)
    names = [[(name, tuple(parameter.shape)) for name, parameter in part.named_parameters()] for part in decoders]
    assert names[0] == names[1] == names[2]
    assert len({parameter.data_ptr() for part in decoders for parameter in part.parameters()}) == 3 * len(names[0])


# Layers


def test_units_are_convolution_relu_norm_dropout() -> None:
    network = small(dropout=0.5, unit_dropout=0.1)
    for unit in (network.deployed.stem[0], network.diffusion_stem[0], network.labeled_decoder.levels[0].units[0]):
        assert [type(layer) for layer in unit] == [nn.Conv3d, nn.ReLU, nn.BatchNorm3d, nn.Dropout3d]
        assert unit[-1].p == 0.1
    for resize in (network.deployed.encoder.levels[0].resize, network.labeled_decoder.levels[0].resize):
        assert [type(layer) for layer in resize][1:] == [nn.ReLU, nn.BatchNorm3d]
    assert sum(isinstance(module, nn.Dropout3d) and module.p == 0.5 for module in network.modules()) == 4


def test_dropout_acts_in_training_only() -> None:
    for settings in ({"dropout": 0.5, "unit_dropout": 0.0}, {"dropout": 0.0, "unit_dropout": 0.5}):
        network = small(**settings)
        with torch.no_grad():
            assert not torch.equal(network(image(1, 1, 8, 8, 8)), network(image(1, 1, 8, 8, 8)))
            network.eval()
            assert torch.equal(network(image(1, 1, 8, 8, 8)), network(image(1, 1, 8, 8, 8)))


def test_settings_reach_all_parts() -> None:
    network = small(norm="group", norm_groups=2, order="norm_act", upsampling="nearest", in_channels=2)
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    assert norms and all(norm.num_groups == 2 for norm in norms)
    assert not any(isinstance(module, (nn.BatchNorm3d, nn.ConvTranspose3d)) for module in network.modules())
    assert [type(layer) for layer in network.diffusion_stem[0]][1:3] == [nn.GroupNorm, nn.ReLU]
    assert network(image(1, 2, 4, 8, 4)).shape == (1, 3, 4, 8, 4)
    weight = without_weights(num_convs=(1, 1), strides=(2,)).labeled_decoder.levels[0].units[0][0].weight
    for word, fan_factor in (("kaiming", 2), ("default", 1 / 3)):
        torch.manual_seed(0)
        layer = small(base_channels=32, num_convs=(1, 1), strides=(2,), initialisation=word)
        deviation = layer.labeled_decoder.levels[0].units[0][0].weight.std().item()
        assert deviation == pytest.approx((fan_factor / weight[0].numel()) ** 0.5, rel=0.05)


def test_anisotropic_strides_keep_the_thick_axis() -> None:
    network = small(strides=((2, 2, 1), (2, 2, 2)))
    assert network.divisor == (4, 4, 2)
    output = network.diffusion_path(image(1, 1, 8, 4, 6), image(1, 3, 8, 4, 6), torch.tensor([5]))
    assert output.logits.shape == (1, 3, 8, 4, 6) and output.features.shape == (1, 16, 2, 1, 3)


def test_torchscript_gives_the_same_logits_after_a_round_trip(tmp_path) -> None:
    network = small(strides=(2, (2, 2, 1))).eval()
    torch.jit.script(network).save(str(tmp_path / "network.ts"))
    scripted = torch.jit.load(str(tmp_path / "network.ts")).eval()
    torch.testing.assert_close(scripted(image(1, 1, 8, 4, 6)), network(image(1, 1, 8, 4, 6)))


# Time


def test_sinusoidal_features_by_hand() -> None:
    features = sinusoidal_features(torch.tensor([0, 10]), channels=6, longest_period=100.0)
    assert features.dtype == torch.float32
    assert features[0].tolist() == [0, 0, 0, 1, 1, 1]
    angles = [10.0, 1.0, 0.1]  # 10 / 100^(j / 2)
    expected = [*map(math.sin, angles), *map(math.cos, angles)]
    assert features[1].tolist() == pytest.approx(expected, abs=1e-6)


def test_time_embedding_gives_a_shift_of_each_width() -> None:
    torch.manual_seed(0)
    embedding = TimeEmbedding([3, 5], channels=8, hidden_channels=16)
    shifts = embedding(torch.tensor([1, 500]))
    assert [tuple(shift.shape) for shift in shifts] == [(2, 3, 1, 1, 1), (2, 5, 1, 1, 1)]
    hidden = nn.functional.silu(embedding.hidden(sinusoidal_features(torch.tensor([1, 500]), 8)))
    torch.testing.assert_close(torch.cat(shifts, 1).flatten(1), embedding.shifts(hidden))


# Errors


def test_patch_size_error_is_one_line_from_every_path() -> None:
    network = without_weights()
    message = (
        "patch_size (32, 40, 32) does not fit the network's strides: "
        "axis 1 has side 40, which is not a multiple of 16: use 32 or 48"
    )
    patch, noisy = (torch.empty(1, channels, 32, 40, 32, device="meta") for channels in (1, 2))
    for check in (
        lambda: network.check_patch_size((32, 40, 32)),
        lambda: network(patch),
        lambda: network.labeled_path(patch),
        lambda: network.unlabeled_path(patch),
        lambda: network.diffusion_path(patch, noisy, torch.empty(1, device="meta")),
    ):
        with pytest.raises(ValueError) as error:
            check()
        assert str(error.value) == message


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"upsampling": "linear"}, 'upsampling "linear" is unknown'),
        ({"norm": "layer"}, 'norm "layer" is unknown'),
        ({"order": "any"}, 'order "any" is unknown'),
        ({"initialisation": "he"}, 'initialisation "he" is unknown'),
        ({"strides": (2,)}, "strides has 1 entries: 3 resolutions need 2"),
        ({"feature_level": 3}, "feature_level is 3: give one from -3 to 2"),
        ({"time_channels": 7}, "time channels are 7: give an even number, 4 or more"),
        ({"time_channels": 2}, "time channels are 2"),
    ],
)
def test_unknown_settings_are_errors_of_one_line(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        small(**settings)
    assert "\n" not in str(error.value)
