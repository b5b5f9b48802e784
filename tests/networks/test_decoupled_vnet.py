# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from functools import partial

import pytest
import torch
from monai.bundle import ConfigParser
from torch import nn

from medssl_components.networks import DecoupledOutput, DecoupledVNet, KnowledgeComplementarity

SIZE = (8, 12, 4)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small(**settings: object) -> DecoupledVNet:
    torch.manual_seed(0)
    shape = {"num_classes": 3, "base_channels": 4, "patch_size": SIZE, "num_convs": (1, 1, 1), "strides": (2, 2)}
    return DecoupledVNet(**{**shape, **settings})


def image(batch: int, *size: int) -> torch.Tensor:
    return torch.randn(batch, 1, *(size or SIZE), generator=torch.Generator().manual_seed(1))


def test_parameter_counts_of_the_paper() -> None:
    with torch.device("meta"):
        network = DecoupledVNet(num_classes=14, base_channels=32, patch_size=(64, 128, 128))
        sixteen = DecoupledVNet(num_classes=16)
    assert count(network) == 50_851_456
    assert count(network.encoder) == 29_495_296
    assert count(network.complementarity) == 2_362_000 + 2_493_440 - 65_864
    assert count(network.labeled_decoder) == count(network.unlabeled_decoder) == 8_283_292
    assert count(sixteen) == 50_917_584 - 65_864


def test_switches_leave_no_parameters_behind() -> None:
    with torch.device("meta"):
        network = DecoupledVNet(complementarity=None, auxiliary_heads=False, decoupled=False)
    head = 32 * 14 + 14
    assert count(network) == 29_495_296 + 8_283_292 - head
    assert network.complementarity is network.unlabeled_decoder is network.labeled_decoder.auxiliary_head is None


@pytest.mark.parametrize("training", [True, False])
def test_forward_is_one_tensor_of_logits(training: bool) -> None:
    logits = small().train(training)(image(2))
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (2, 3, *SIZE)


@pytest.mark.parametrize("size", [(32, 48, 32), (64, 64, 48)])
def test_narrow_network_takes_small_patches(size: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    network = DecoupledVNet(num_classes=2, base_channels=4, patch_size=size, num_convs=(1, 1, 1, 1, 1))
    output = network.joint(image(2, *size), 1)
    assert output.logits.shape == output.auxiliary_logits.shape == (2, 2, *size)
    (output.logits[:1].square().mean() + network.alone(image(1, *size)).logits.square().mean()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters() if parameter.grad is not None)


def test_forward_is_the_main_head_of_the_inference_decoder() -> None:
    network = small().eval()
    features = network.encoder(image(2))
    features[-1] = network.complementarity(features[-1])
    unlabeled, labeled = network.unlabeled_decoder(features), network.labeled_decoder(features)
    torch.testing.assert_close(network(image(2)), unlabeled)
    torch.testing.assert_close(network.alone(image(2)).logits, unlabeled)
    torch.testing.assert_close(small(inference_decoder="labeled").eval()(image(2)), labeled)
    assert not torch.equal(unlabeled, labeled)


@pytest.mark.parametrize("num_labeled", [1, 2, 3])
def test_joint_is_the_labelled_decoder_after_the_cross_mode(num_labeled: int) -> None:
    network = small().eval()
    features = network.encoder(image(4))
    features[-1] = network.complementarity.cross(features[-1], num_labeled)
    decoded = network.labeled_decoder.decoder(features)
    output = network.joint(image(4), num_labeled)
    assert isinstance(output, DecoupledOutput)
    torch.testing.assert_close(output.logits, network.labeled_decoder.head(decoded))
    torch.testing.assert_close(output.auxiliary_logits, network.labeled_decoder.auxiliary_head(decoded))


def test_joint_without_unlabelled_images_is_the_self_mode() -> None:
    network = small(inference_decoder="labeled").eval()
    torch.testing.assert_close(network.joint(image(2), 2).logits, network(image(2)))


def test_labelled_logits_take_no_gradient_from_unlabelled_images() -> None:
    network = small().eval()  # BatchNorm couples the images in training
    labeled, unlabeled = image(2).requires_grad_(), image(2).flip(2).requires_grad_()
    network.joint(torch.cat((labeled, unlabeled)), 2).logits[:2].square().sum().backward()
    assert labeled.grad.any() and not unlabeled.grad.any()


def test_one_decoder_serves_both_when_not_decoupled() -> None:
    network = small(decoupled=False).eval()
    torch.testing.assert_close(network.alone(image(1)).logits, network.joint(image(1), 1).logits)
    torch.testing.assert_close(network(image(1)), network.joint(image(1), 1).logits)


def test_without_auxiliary_heads_there_are_no_auxiliary_logits() -> None:
    network = small(auxiliary_heads=False)
    assert network.joint(image(2), 1).auxiliary_logits is network.alone(image(1)).auxiliary_logits is None


@pytest.mark.parametrize("complementarity", [KnowledgeComplementarity, None])
@pytest.mark.parametrize("auxiliary_heads", [True, False])
@pytest.mark.parametrize("decoupled", [True, False])
def test_a_step_trains_every_parameter(complementarity: object, auxiliary_heads: bool, decoupled: bool) -> None:
    network = small(dropout=0.0, complementarity=complementarity, auxiliary_heads=auxiliary_heads, decoupled=decoupled)
    outputs = [*network.joint(image(2), 1), *network.alone(image(2))]
    sum(logits[:1].square().mean() for logits in outputs if logits is not None).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_decoders_have_the_same_parameters_by_name() -> None:
    network = small()
    first, second = (
        {name: parameter.shape for name, parameter in decoder.named_parameters()}
        for decoder in (network.labeled_decoder, network.unlabeled_decoder)
    )
    assert first == second
    assert not set(network.labeled_decoder.parameters()) & set(network.unlabeled_decoder.parameters())


@pytest.mark.parametrize(
    "settings",
    [{}, {"inference_decoder": "labeled"}, {"decoupled": False}, {"complementarity": None}, {"auxiliary_heads": False}],
)
def test_torchscript_gives_the_same_logits(settings: dict[str, object]) -> None:
    network = small(**settings).eval()
    torch.testing.assert_close(torch.jit.script(network)(image(2)), network(image(2)))


def test_trace_gives_the_same_logits() -> None:
    network = small().eval()
    torch.testing.assert_close(torch.jit.trace(network, image(1))(image(1)), network(image(1)))


def test_initialisation() -> None:
    torch.manual_seed(0)
    network = DecoupledVNet(base_channels=8, patch_size=(32, 48, 32))
    for convolution in (network.encoder.stages[3][1][1][0], network.complementarity.global_block.convolution):
        fan = (convolution.in_channels + convolution.out_channels) * convolution.weight[0, 0].numel()
        assert convolution.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.05)
    transposed = network.labeled_decoder.decoder.enlarge[0][0]
    bound = 1 / (transposed.out_channels * 8) ** 0.5  # PyTorch's own
    assert 0.95 * bound < transposed.weight.abs().max() <= bound
    for word in ("kaiming", "default"):
        assert not torch.equal(small(initialisation=word).encoder.stem[0][0].weight, small().encoder.stem[0][0].weight)


def test_settings_reach_all_parts() -> None:
    complementarity = partial(KnowledgeComplementarity, num_heads=1, stop_gradient=False)
    network = small(norm="instance", upsampling="trilinear", dropout=0.25, complementarity=complementarity)
    modules = list(network.modules())
    assert not any(isinstance(module, (nn.BatchNorm3d, nn.ConvTranspose3d)) for module in modules)
    assert [module.p for module in modules if isinstance(module, nn.Dropout3d)] == [0.25] * 3
    assert network.complementarity.local_block.attention.num_heads == 1
    assert not network.complementarity.global_block.attention.stop_gradient
    assert network.divisor == (4, 4, 4) and network.patch_size == SIZE and network.num_classes == 3


@pytest.mark.parametrize("wanted", [True, False])
def test_a_bundle_configures_the_module(wanted: bool) -> None:
    part = {
        "_target_": "medssl_components.networks.KnowledgeComplementarity",
        "_mode_": "callable",
        "_disabled_": f"$not {wanted}",
        "num_heads": 3,
    }
    target = "medssl_components.networks.DecoupledVNet"
    settings = {"base_channels": 2, "patch_size": [8, 4, 4], "num_convs": [1, 1], "strides": [4]}
    # By reference: of a disabled part in its place the argument's default would be taken.
    config = {"part": part, "network": {"_target_": target, **settings, "complementarity": "@part"}}
    network = ConfigParser(config).get_parsed_content("network")
    assert (network.complementarity is not None) is wanted
    if wanted:
        assert network.complementarity.local_block.attention.num_heads == 3
        assert network.complementarity.grid == (2, 1, 1)


def test_another_size_is_an_error_of_one_line() -> None:
    network = small()
    network.check_patch_size(list(SIZE))
    words = r"patch_size \(8, 8, 4\) is not the \(8, 12, 4\) that the network's attention was made for"
    for call in (
        lambda: network.check_patch_size((8, 8, 4)),
        lambda: network(image(1, 8, 8, 4)),
        lambda: network.alone(image(1, 8, 8, 4)),
        lambda: network.joint(image(2, 8, 8, 4), 1),
    ):
        with pytest.raises(ValueError, match=words) as error:
            call()
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="axis 1 has side 6, which is not a multiple of 4"):
        small(patch_size=(8, 6, 4))


def test_without_the_module_any_multiple_of_the_strides_will_do() -> None:
    network = small(complementarity=None)
    assert network(image(1, 8, 8, 4)).shape == (1, 3, 8, 8, 4)
    with pytest.raises(ValueError, match="axis 1 has side 6"):
        network(image(1, 8, 6, 4))


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"inference_decoder": "both"}, 'inference_decoder "both" is unknown: use one of unlabeled, labeled'),
        ({"initialisation": "he"}, 'initialisation "he" is unknown: use one of kaiming, xavier, default'),
        ({"strides": (2,)}, "strides has 1 entries"),
    ],
)
def test_unknown_settings_are_errors_of_one_line(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        small(**settings)
    assert "\n" not in str(error.value)
