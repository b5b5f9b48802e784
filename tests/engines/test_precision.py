# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from medssl_components.engines import precision
from medssl_components.engines.precision import SmallMapsInFloat32, autocast, resolve_precision
from medssl_components.networks import VNet


def test_resolve_words_on_cpu() -> None:
    assert resolve_precision("fp32", "cpu") is None
    assert resolve_precision("bf16", torch.device("cpu")) is torch.bfloat16
    with pytest.raises(ValueError, match="fp16 is not for training on a CPU: use auto"):
        resolve_precision("fp16", "cpu")
    with pytest.raises(ValueError, match='precision "half" is unknown: use one of auto'):
        resolve_precision("half", "cpu")


@pytest.mark.parametrize(
    "capabilities, expected",
    [({"avx512_bf16": True}, torch.bfloat16), ({"amx_bf16": True}, torch.bfloat16), ({"avx512_f": True}, None)],
)
def test_auto_on_cpu_follows_the_processor(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: torch.dtype | None
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert resolve_precision("auto", "cpu") is expected


@pytest.mark.parametrize("supported, expected", [(True, torch.bfloat16), (False, None)])
def test_auto_on_cpu_of_a_release_without_the_public_query(
    monkeypatch: pytest.MonkeyPatch, supported: bool, expected: torch.dtype | None
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported, raising=False)
    assert resolve_precision("auto", "cpu") is expected


def test_auto_is_fp32_on_other_devices_and_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_precision("auto", "mps") is None
    assert resolve_precision("auto", "cuda") is None


@pytest.mark.parametrize("supported", [True, False])
def test_cuda_with_and_without_bf16(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert resolve_precision("auto", "cuda:1") is (torch.bfloat16 if supported else None)
    assert resolve_precision("fp16", "cuda:1") is torch.float16
    if supported:
        assert resolve_precision("bf16", "cuda:1") is torch.bfloat16
    else:
        with pytest.raises(ValueError, match="bf16 is not supported by cuda:1: use auto"):
            resolve_precision("bf16", "cuda:1")


def test_fp32_changes_nothing() -> None:
    layer, image = nn.Conv3d(2, 2, 3, padding=1), torch.randn(1, 2, 4, 4, 4)
    with autocast("cpu", None):
        assert not torch.is_autocast_enabled("cpu")
        assert torch.equal(layer(image), layer(image.clone()))
        assert layer(image).dtype is torch.float32


def test_guard_ends_with_the_block() -> None:
    layer, image = nn.Conv3d(2, 2, 3, padding=1), torch.randn(1, 2, 2, 2, 2)
    with pytest.raises(RuntimeError, match="inside"), autocast("cpu", torch.bfloat16):
        raise RuntimeError("inside")
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(image).dtype is torch.bfloat16


SMALL = [
    (nn.Conv3d(4, 6, 3, padding=1), (2, 3, 2)),
    (nn.Conv3d(4, 6, 3, padding="same"), (1, 5, 5)),
    (nn.Conv3d(4, 6, 2, stride=2), (4, 6, 4)),  # the result is small
    (nn.Conv3d(4, 6, 1), (5, 5, 2)),
    (nn.ConvTranspose3d(4, 6, 2, stride=2), (2, 3, 2)),  # the input is small
    (nn.ConvTranspose3d(4, 6, 2), (1, 3, 3)),
]


@pytest.mark.parametrize("layer, sides", SMALL)
def test_small_maps_are_computed_in_fp32(layer: nn.Module, sides: tuple[int, ...]) -> None:
    image = torch.randn(2, 4, *sides)
    results = []
    for dtype in (None, torch.bfloat16):
        layer.zero_grad()
        source = image.clone().requires_grad_()
        with autocast("cpu", dtype):
            output = layer(source)
        assert output.dtype is torch.float32
        output.square().sum().backward()
        results.append((output, source.grad, layer.weight.grad.clone(), layer.bias.grad.clone()))
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_small_maps_that_arrive_in_bf16_are_computed_in_fp32() -> None:
    layer, image = nn.Conv3d(4, 6, 3, padding=1), torch.randn(1, 4, 2, 3, 2).bfloat16()
    with autocast("cpu", torch.bfloat16):
        output = layer(image)
    assert torch.equal(output, layer(image.float()))


@pytest.mark.parametrize(
    "layer, sides", [(nn.Conv3d(4, 6, 3, padding=1), (3, 3, 3)), (nn.ConvTranspose3d(4, 6, 2, 2), (3, 4, 3))]
)
def test_larger_maps_stay_in_bf16(layer: nn.Module, sides: tuple[int, ...]) -> None:
    with autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(1, 4, *sides)).dtype is torch.bfloat16


def test_the_limit_is_an_argument_and_words_may_name_the_arguments() -> None:
    image, weight = torch.randn(1, 4, 4, 4, 4).bfloat16(), torch.randn(6, 4, 3, 3, 3)
    with torch.autocast("cpu", torch.bfloat16), SmallMapsInFloat32(largest_side=4):
        output = functional.conv3d(input=image, weight=weight, padding=1)
    assert torch.equal(output, functional.conv3d(image.float(), weight, padding=1))


class RoundedInFloat32(TorchFunctionMode):
    """The reference: fp32 convolutions of bf16-rounded inputs, with bf16-rounded results and gradients."""

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.conv3d or func is functional.conv_transpose3d:
            return rounded(func(*map(rounded, args), **(kwargs or {})))
        return func(*args, **(kwargs or {}))


def rounded(value: Any) -> Any:
    return value.bfloat16().float() if isinstance(value, torch.Tensor) else value


def test_gradients_of_a_network_with_a_small_map_differ_from_fp32_by_rounding_alone() -> None:
    # How close bf16 can come to fp32 depends on network and data (cosines of 0.85 to 0.98 in trials), so the yardstick
    # is what rounding alone does; the two cosines differed by up to 0.016. Without the guard most are 0 or NaN.
    torch.manual_seed(0)
    network = VNet(base_channels=4, dropout=0.0).to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    axes = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, side) for side in (32, 48, 32)), indexing="ij"))
    for _ in range(10):
        centres = torch.rand(2, 3, 1, 1, 1) * 0.6 - 0.3
        label = ((axes - centres).square().sum(1).sqrt() < 0.6).long()
        image = label[:, None] + 0.5 * torch.randn(2, 1, 32, 48, 32)
        gradients = []
        for region in (autocast("cpu", torch.bfloat16), RoundedInFloat32(), autocast("cpu", None)):
            trial = copy.deepcopy(network)
            with region:
                logits = trial(image.contiguous(memory_format=torch.channels_last_3d))
            functional.cross_entropy(logits.float(), label).backward()
            gradients.append(torch.cat([parameter.grad.flatten() for parameter in trial.parameters()]))
        guarded, reference, exact = gradients
        assert guarded.isfinite().all()
        attainable = functional.cosine_similarity(reference, exact, dim=0)
        assert attainable > 0.5
        assert functional.cosine_similarity(guarded, exact, dim=0) > attainable - 0.03
        for parameter, gradient in zip(network.parameters(), exact.split(sizes(network)), strict=True):
            parameter.grad = gradient.view_as(parameter)
        optimizer.step()


def sizes(network: nn.Module) -> list[int]:
    return [parameter.numel() for parameter in network.parameters()]


def test_devices_other_than_the_cpu_need_no_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(precision.torch, "autocast", lambda kind, dtype: calls.append((kind, dtype)) or nullcontext())
    monkeypatch.setattr(precision, "SmallMapsInFloat32", lambda: pytest.fail("no guard on this device"))
    with autocast("cuda:0", torch.float16):
        pass
    assert calls == [("cuda", torch.float16)]
