# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.networks.blocks import UpSample
from monai.networks.nets import DynUNet
from torch import nn

from medssl_components.networks import DualTaskDynUNet, DualTaskOutput


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def without_weights(**settings: object) -> DualTaskDynUNet:
    with torch.device("meta"):
        return DualTaskDynUNet(**settings)


def small(**settings: object) -> DualTaskDynUNet:
    torch.manual_seed(0)
    return DualTaskDynUNet(**{"base_channels": 4, "strides": (2, 2), **settings})


def image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_parameter_count_of_the_docstring() -> None:
    assert count(without_weights()) == 46_662_790


def test_encoder_and_first_decoder_are_those_of_dynunet() -> None:
    network, factors = without_weights(), [2] * 5
    with torch.device("meta"):
        filters, norm = [32, 64, 128, 256, 320, 320], ("instance", {"affine": True})
        unet = DynUNet(3, 1, 2, [3] * 6, [1, *factors], factors, filters, norm_name=norm)
    assert count(network.encoder) == sum(map(count, (unet.input_block, unet.downsamples, unet.bottleneck)))
    assert count(network.first_decoder) == count(unet.upsamples)
    # For each 2x2x2 transposed convolution without bias there is one of 1x1x1 with bias, and none for 320 to 320.
    changes = [(320, 256), (256, 128), (128, 64), (64, 32)]
    fewer = 8 * 320 * 320 + sum((8 - 1) * before * after - after for before, after in changes)
    assert count(unet.upsamples) - count(network.second_decoder) == fewer


def test_first_decoder_computes_what_dynunet_does() -> None:
    network = small(strides=(2, (2, 2, 1), 2)).eval()
    factors = [(2, 2, 2), (2, 2, 1), (2, 2, 2)]
    norm = ("instance", {"affine": True})
    unet = DynUNet(3, 1, 2, [3] * 4, [1, *factors], factors, [4, 8, 16, 32], norm_name=norm).eval()
    stages = nn.ModuleList([unet.input_block, *unet.downsamples, unet.bottleneck])
    stages.load_state_dict(network.encoder.stages.state_dict())
    unet.upsamples.load_state_dict(network.first_decoder.upsamples.state_dict())
    unet.output_block.conv.conv.load_state_dict(network.first_head.state_dict())
    patch = image(1, 1, 16, 8, 8)
    torch.testing.assert_close(network.dual_task(patch)[0].logits, unet(patch))


@pytest.mark.parametrize("num_classes", [2, 4])
def test_dual_task_gives_logits_and_distances_of_each_object(num_classes: int) -> None:
    network = small(in_channels=2, num_classes=num_classes)
    with torch.no_grad():
        network.second_distance_head.weight.mul_(3)  # many distances would leave (-1, 1)
        outputs = network.dual_task(image(2, 2, 8, 12, 4))
    assert network.num_classes == num_classes
    for output in outputs:
        assert isinstance(output, DualTaskOutput)
        assert output.logits.shape == (2, num_classes, 8, 12, 4)
        assert output.distance.shape == (2, num_classes - 1, 8, 12, 4)
        assert output.distance.abs().max() <= 1
        assert output.distance.min() < 0 < output.distance.max()


@pytest.mark.parametrize("autocast", [False, True])
def test_forward_is_the_mean_of_both_softmax_in_float32(autocast: bool) -> None:
    network = small(num_classes=3).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = network(image(1, 1, 8, 8, 12))
        first, second = (output.logits for output in network.dual_task(image(1, 1, 8, 8, 12)))
    assert first.dtype == (torch.bfloat16 if autocast else torch.float32)
    assert logits.dtype == torch.float32 and logits.shape == (1, 3, 8, 8, 12)
    torch.testing.assert_close(logits.softmax(1), (first.float().softmax(1) + second.float().softmax(1)) / 2)
    assert not torch.equal(first, second)


def test_decoders_differ_in_their_upsampling_and_in_nothing_else() -> None:
    network = small()
    first, second = network.first_decoder, network.second_decoder
    assert sum(isinstance(module, nn.ConvTranspose3d) for module in first.modules()) == 2
    assert not any(isinstance(module, (UpSample, nn.Upsample)) for module in first.modules())
    assert not any(isinstance(module, nn.ConvTranspose3d) for module in second.modules())
    enlarge = [module for module in second.modules() if isinstance(module, nn.Upsample)]
    assert [(module.mode, module.align_corners) for module in enlarge] == [("trilinear", True)] * 2

    def shapes(decoder: nn.Module) -> dict[str, torch.Size]:
        return {name: value.shape for name, value in decoder.state_dict().items() if "transp_conv" not in name}

    assert shapes(first) == shapes(second)
    assert not torch.equal(*(decoder.upsamples[0].conv_block.conv1.conv.weight for decoder in (first, second)))


def test_no_module_is_registered_twice_or_left_unused() -> None:
    network = small()
    names = [name for name, _ in network.named_modules(remove_duplicate=False)]
    assert len(names) == len(list(network.modules()))
    tensors = network.state_dict().values()
    assert len({value.data_ptr() for value in tensors}) == len(tensors)
    called = set()
    leaves = {name: module for name, module in network.named_modules() if not list(module.children())}
    for name, module in leaves.items():
        module.register_forward_hook(lambda *_, name=name: called.add(name))
    network.dual_task(image(1, 1, 8, 8, 8))
    assert set(leaves) == called


def test_every_parameter_gets_a_gradient_from_both_decoders() -> None:
    network = small()
    outputs = network.dual_task(image(2, 1, 8, 8, 8))
    sum(part.square().mean() for output in outputs for part in output).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_torchscript_gives_the_same_logits() -> None:
    network = small(strides=(2, (2, 2, 1))).eval()
    torch.testing.assert_close(torch.jit.script(network)(image(1, 1, 8, 4, 6)), network(image(1, 1, 8, 4, 6)))


def test_anisotropic_strides_keep_the_thick_axis() -> None:
    network = small(strides=((2, 2, 1), (2, 2, 2)))
    assert network.divisor == (4, 4, 2)
    for output in network.dual_task(image(1, 1, 8, 4, 6)):
        assert output.logits.shape == (1, 2, 8, 4, 6)
    assert [features.shape[2:] for features in network.encoder(image(1, 1, 8, 4, 6))] == [
        (8, 4, 6),
        (4, 2, 6),
        (2, 1, 3),
    ]


def test_channels_are_doubled_up_to_ten_times() -> None:
    network = without_weights(base_channels=2)
    maps = network.encoder(torch.empty(1, 1, 64, 32, 32, device="meta"))
    assert [features.shape[1] for features in maps] == [2, 4, 8, 16, 20, 20]


def test_kernel_size_is_that_of_the_convolutions() -> None:
    network = without_weights(kernel_size=5)
    for part in (network.encoder, network.first_decoder.upsamples[0].conv_block, network.second_decoder):
        kernels = {module.kernel_size for module in part.modules() if isinstance(module, nn.Conv3d)}
        assert (5, 5, 5) in kernels and (3, 3, 3) not in kernels


@pytest.mark.parametrize("norm, layer", [("instance", nn.InstanceNorm3d), ("batch", nn.BatchNorm3d)])
def test_every_normalisation_has_scale_and_shift(norm: str, layer: type[nn.Module]) -> None:
    norms = [module for module in small(norm=norm).modules() if "Norm" in type(module).__name__]
    assert len(norms) == 2 * (3 + 2 + 2)  # two in each block: three stages, two blocks in each decoder
    assert all(isinstance(module, layer) for module in norms)
    assert all(module.weight is not None and module.bias is not None for module in norms)


def test_dropout_acts_in_training_only_and_is_off_by_default() -> None:
    def probabilities(part: nn.Module) -> list[float]:
        return [module.p for module in part.modules() if "Dropout" in type(module).__name__]

    assert probabilities(small()) == []
    network, patch = small(dropout=0.25), image(1, 1, 8, 8, 8)
    with torch.no_grad():
        assert not torch.equal(network(patch), network(patch))
        network.eval()
        assert torch.equal(network(patch), network(patch))
    for part in (network.encoder, network.first_decoder, network.second_decoder):
        assert set(probabilities(part)) == {0.25}


def test_patch_size_error_is_one_line_with_axis_side_and_nearest_sizes() -> None:
    network = without_weights()
    assert network.divisor == (32, 32, 32)
    message = (
        "patch_size (96, 110, 8) does not fit the network's strides: "
        "axis 1 has side 110, which is not a multiple of 32: use 96 or 128; "
        "axis 2 has side 8, which is not a multiple of 32: use 32"
    )
    patch = torch.empty(1, 1, 96, 110, 8, device="meta")
    for check in (
        lambda: network.check_patch_size((96, 110, 8)),
        lambda: network(patch),
        lambda: network.dual_task(patch),
    ):
        with pytest.raises(ValueError) as error:
            check()
        assert str(error.value) == message
    network.check_patch_size((96, 96, 96))


@pytest.mark.parametrize("strides", [(2,), (2, (2, 2))])
def test_too_few_strides_are_an_error_of_one_line(strides: tuple[object, ...]) -> None:
    with pytest.raises(ValueError) as error:
        without_weights(strides=strides)
    assert "\n" not in str(error.value)


def test_unknown_norm_and_too_few_strides_are_one_line():
    with pytest.raises(ValueError, match='^norm "layer" is unknown: use one of instance, batch$'):
        DualTaskDynUNet(norm="layer")
    with pytest.raises(ValueError, match="^strides has 1 entries: give two or more$"):
        DualTaskDynUNet(strides=(2,))


def test_patch_that_leaves_one_voxel_is_one_line_that_names_a_larger_one():
    network = DualTaskDynUNet(base_channels=2, strides=(2, 2))
    with pytest.raises(ValueError, match=r"^patch_size \[4, 4, 4\] leaves a single voxel .* \[8, 4, 4\]$"):
        network.check_patch_size((4, 4, 4))
    network.check_patch_size((8, 4, 4))
    DualTaskDynUNet(base_channels=2, strides=(2, 2), norm="batch").check_patch_size((4, 4, 4))
