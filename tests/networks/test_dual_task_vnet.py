# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl_components.networks import DualTaskNetwork, DualTaskOutput, DualTaskVNet, unanimous


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def without_weights(**settings: object) -> DualTaskVNet:
    with torch.device("meta"):
        return DualTaskVNet(**settings)


def small(**settings: object) -> DualTaskVNet:
    torch.manual_seed(0)
    return DualTaskVNet(**{"base_channels": 4, "num_convs": (1, 1, 1), "strides": (2, 2), **settings})


def image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


# What all networks with two decoders and two tasks share


def test_label_maps_are_those_of_the_logits_and_of_the_smallest_negative_distance() -> None:
    logits = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 1.0], [0.0, 1.0, 3.0], [0.2, 0.1, 0.1]])
    distance = torch.tensor([[0.5, 0.1], [-0.1, -0.4], [-0.3, 0.2], [0.0, 0.6]])  # 0 is background
    output = DualTaskOutput(logits.T.reshape(1, 3, 4, 1, 1), distance.T.reshape(1, 2, 4, 1, 1))
    of_logits, of_distance = output.label_maps()
    assert of_logits.shape == of_distance.shape == (1, 1, 4, 1, 1)
    assert of_logits.flatten().tolist() == [0, 1, 2, 0]
    assert of_distance.flatten().tolist() == [0, 2, 1, 0]


def test_label_maps_of_one_object_in_two_dimensions() -> None:
    output = DualTaskOutput(torch.zeros(1, 2, 1, 3), torch.tensor([0.4, 0.0, -0.01]).reshape(1, 1, 1, 3))
    assert output.label_maps()[1].tolist() == [[[[0, 0, 1]]]]


def test_unanimous_needs_all_maps() -> None:
    maps = torch.tensor([[1, 1, 1, 1, 2, 0], [1, 0, 1, 1, 1, 0], [1, 1, 0, 1, 2, 0], [1, 1, 1, 0, 2, 0]])
    agreement = unanimous(list(maps.reshape(4, 1, 1, 6)))
    assert agreement.dtype == torch.float32
    assert agreement.tolist() == [[[1.0, 0.0, 0.0, 0.0, 0.0, 1.0]]]


def test_uncertainty_is_where_one_of_four_label_maps_dissents() -> None:
    class Fixed(DualTaskNetwork):
        def __init__(self) -> None:
            super().__init__(nn.Identity(), [nn.Identity(), nn.Identity()], 1, 2, (1, 1, 1))

        def dual_task(self, image: torch.Tensor) -> tuple[DualTaskOutput, DualTaskOutput]:
            object_, background = torch.full((5,), 1.0), torch.full((5,), -1.0)
            maps = [object_.index_fill(0, torch.tensor(dissent), -1.0) for dissent in ([1], [2], [3], [4])]
            logits = [torch.stack([background, of_object]).reshape(1, 2, 1, 1, 5) for of_object in maps[:2]]
            distances = [-of_object.reshape(1, 1, 1, 1, 5) / 2 for of_object in maps[2:]]
            return DualTaskOutput(logits[0], distances[0]), DualTaskOutput(logits[1], distances[1])

    logits, uncertainty = Fixed().forward_with_uncertainty(torch.empty(1, 1, 1, 1, 5))
    assert uncertainty.shape == (1, 1, 1, 1, 5)
    assert uncertainty.flatten().tolist() == [0, 1, 1, 1, 1]
    certain, torn = 1 / (1 + torch.e**-2), (1 / (1 + torch.e**-2) + 0.5) / 2
    expected = torch.tensor([certain, torn, torn, certain, certain])
    torch.testing.assert_close(logits.softmax(1)[0, 1].flatten(), expected)


# The V-Net


def test_parameter_count_is_that_of_the_paper() -> None:
    network = without_weights()
    assert count(network) == 12_347_716 + 2 * 17  # 12.35 million; one distance head of 16 + 1 for each decoder
    assert count(network.encoder) == 7_376_896
    assert count(network.first_decoder) + count(network.first_head) == 2_071_970
    assert count(network.second_decoder) + count(network.second_head) == 2_898_850


def test_channels_and_classes_change_the_first_convolution_and_the_heads_only() -> None:
    more = count(without_weights(in_channels=3, num_classes=5)) - count(without_weights())
    assert more == 2 * 27 * 16 + 4 * 3 * (16 + 1)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_dual_task_gives_logits_and_distances_of_each_object(num_classes: int) -> None:
    network = small(in_channels=2, num_classes=num_classes)
    with torch.no_grad():
        network.first_distance_head.weight.mul_(3)  # many distances would leave (-1, 1)
        outputs = network.dual_task(image(2, 2, 8, 12, 4))
    assert network.num_classes == num_classes
    for output in outputs:
        assert isinstance(output, DualTaskOutput)
        assert output.logits.shape == (2, num_classes, 8, 12, 4)
        assert output.distance.shape == (2, num_classes - 1, 8, 12, 4)
        assert output.distance.abs().max() <= 1
        assert output.distance.min() < 0 < output.distance.max()


def test_each_decoder_has_its_own_heads() -> None:
    network = small(num_classes=3).eval()
    first, second = network.features(image(1, 1, 8, 8, 8))
    outputs = network.dual_task(image(1, 1, 8, 8, 8))
    torch.testing.assert_close(outputs[0].logits, network.first_head(first))
    torch.testing.assert_close(outputs[0].distance, torch.tanh(network.first_distance_head(first)))
    torch.testing.assert_close(outputs[1].logits, network.second_head(second))
    torch.testing.assert_close(outputs[1].distance, torch.tanh(network.second_distance_head(second)))
    heads = (network.first_head, network.second_head, network.first_distance_head, network.second_distance_head)
    assert len({id(head.weight) for head in heads}) == 4
    assert not torch.equal(first, second)


@pytest.mark.parametrize("autocast", [False, True])
def test_forward_is_the_mean_of_both_softmax_in_float32(autocast: bool) -> None:
    network = small(num_classes=3).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = network(image(1, 1, 8, 8, 12))
        first, second = (output.logits for output in network.dual_task(image(1, 1, 8, 8, 12)))
    assert first.dtype == (torch.bfloat16 if autocast else torch.float32)
    assert logits.dtype == torch.float32 and logits.shape == (1, 3, 8, 8, 12)
    torch.testing.assert_close(logits.softmax(1), (first.float().softmax(1) + second.float().softmax(1)) / 2)


def test_forward_with_uncertainty_has_the_logits_of_forward() -> None:
    network = small().eval()
    logits, uncertainty = network.forward_with_uncertainty(image(2, 1, 8, 8, 8))
    torch.testing.assert_close(logits, network(image(2, 1, 8, 8, 8)))
    assert uncertainty.shape == (2, 1, 8, 8, 8)
    assert set(uncertainty.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("training", [True, False])
def test_forward_is_one_tensor(training: bool) -> None:
    logits = small().train(training)(image(2, 1, 8, 8, 8))
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (2, 2, 8, 8, 8)


def test_decoders_differ_in_their_upsampling() -> None:
    network = without_weights()

    def kinds(decoder: nn.Module) -> list[str]:
        upsampling = [module for module in decoder.modules() if isinstance(module, (nn.ConvTranspose3d, nn.Upsample))]
        return [getattr(module, "mode", "transposed") for module in upsampling]

    assert kinds(network.first_decoder) == ["transposed"] * 4
    assert kinds(network.second_decoder) == ["trilinear"] * 4
    assert kinds(small(upsampling=("transposed", "nearest")).second_decoder) == ["nearest"] * 2


def test_torchscript_gives_the_same_logits() -> None:
    network = small(strides=(2, (2, 2, 1))).eval()
    torch.testing.assert_close(torch.jit.script(network)(image(1, 1, 8, 4, 6)), network(image(1, 1, 8, 4, 6)))


def test_anisotropic_strides_keep_the_thick_axis() -> None:
    network = small(strides=((2, 2, 1), (2, 2, 2)))
    assert network.divisor == (4, 4, 2)
    assert network(image(1, 1, 8, 4, 6)).shape == (1, 2, 8, 4, 6)
    assert network.encoder(image(1, 1, 8, 4, 6))[1].shape[2:] == (4, 2, 6)


def test_every_parameter_gets_a_gradient_from_both_decoders() -> None:
    network = small(dropout=0.0)
    outputs = network.dual_task(image(2, 1, 8, 8, 8))
    sum(part.square().mean() for output in outputs for part in output).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_forward_teaches_both_decoders_and_leaves_the_distance_heads_alone() -> None:
    network = small(dropout=0.0)
    network(image(2, 1, 8, 8, 8)).square().mean().backward()
    untouched = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert untouched == {
        f"{which}_distance_head.{part}" for which in ("first", "second") for part in ("weight", "bias")
    }


def test_dropout_acts_in_training_only_at_the_coarsest_map_and_after_each_decoder() -> None:
    network = small(dropout=0.5)
    assert sum(isinstance(module, nn.Dropout3d) and module.p == 0.5 for module in network.modules()) == 3
    with torch.no_grad():
        assert not torch.equal(network(image(1, 1, 8, 8, 8)), network(image(1, 1, 8, 8, 8)))
        network.eval()
        assert torch.equal(network(image(1, 1, 8, 8, 8)), network(image(1, 1, 8, 8, 8)))


def test_settings_reach_the_encoder_and_both_decoders() -> None:
    network = small(norm="group", norm_groups=2, order="act_norm")
    for part in (network.encoder.stem, network.first_decoder, network.second_decoder):
        norms = [module for module in part.modules() if isinstance(module, nn.GroupNorm)]
        assert norms and all(module.num_groups == 2 for module in norms)
        assert not any(isinstance(module, nn.BatchNorm3d) for module in part.modules())
        units = [list(unit) for unit in part.modules() if isinstance(unit, nn.Sequential) and norms[0] in list(unit)]
        assert [type(layer) for layer in units[0][-2:]] == [nn.ReLU, nn.GroupNorm]


def test_initialisation_reaches_both_decoders() -> None:
    torch.manual_seed(0)
    for word, fan_factor in (("kaiming", 2), ("default", 1 / 3)):
        network = DualTaskVNet(num_convs=(1, 1), strides=(2,), base_channels=32, initialisation=word)
        for decoder in (network.first_decoder, network.second_decoder):
            deviation = decoder.blocks[0][0][0].weight.std().item()
            assert deviation == pytest.approx((fan_factor / (32 * 27)) ** 0.5, rel=0.05)


def test_patch_size_error_is_one_line_with_axis_side_and_nearest_sizes() -> None:
    network = without_weights()
    message = (
        "patch_size (112, 110, 8) does not fit the network's strides: "
        "axis 1 has side 110, which is not a multiple of 16: use 96 or 112; "
        "axis 2 has side 8, which is not a multiple of 16: use 16"
    )
    patch = torch.empty(1, 1, 112, 110, 8, device="meta")
    for check in (
        lambda: network.check_patch_size((112, 110, 8)),
        lambda: network(patch),
        lambda: network.dual_task(patch),
        lambda: network.forward_with_uncertainty(patch),
    ):
        with pytest.raises(ValueError) as error:
            check()
        assert str(error.value) == message
    network.check_patch_size((112, 112, 80))


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"upsampling": ("transposed",)}, "upsampling has 1 entries: give one for each of the two decoders"),
        ({"upsampling": ("transposed", "trilinear", "nearest")}, "upsampling has 3 entries"),
        ({"upsampling": ("transposed", "linear")}, 'upsampling "linear" is unknown'),
        ({"norm": "layer"}, 'norm "layer" is unknown'),
        ({"initialisation": "he"}, 'initialisation "he" is unknown'),
        ({"norm": "group", "norm_groups": 3}, "norm_groups 3 does not divide 4 channels"),
        ({"strides": (2,)}, "strides has 1 entries: 3 resolutions need 2"),
    ],
)
def test_unknown_settings_are_errors_of_one_line(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        small(**settings)
    assert "\n" not in str(error.value)
