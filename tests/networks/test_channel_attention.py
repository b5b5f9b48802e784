# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from medssl_components.networks.channel_attention import ChannelAttention, attend_channels

CHANNELS = 6


def numbers(*shape: int, seed: int = 0, mean: float = 0.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + mean


def reference(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """Equation 9 with the whole map, in double precision."""
    logits = query.double() @ key.double().transpose(2, 3)
    return functional.instance_norm(logits, eps=eps).softmax(3) @ value.double()


def attention(**settings: object) -> ChannelAttention:
    torch.manual_seed(0)
    return ChannelAttention(CHANNELS, **{"dropout": 0.0, **settings})


def channels_of(layer: nn.Linear, tokens: torch.Tensor) -> torch.Tensor:
    """Queries, keys or values of one image and one group, (all heads' channels, tokens)."""
    return layer(tokens).T


def one_map(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return reference(query[None, None], key[None, None], value[None, None])[0, 0].float()


@pytest.mark.parametrize("mean", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("eps", [1e-5, 10.0])
@pytest.mark.parametrize("tokens", [1, 8])
def test_equals_instance_norm_and_softmax_of_the_map(mean: float, eps: float, tokens: int) -> None:
    query, key = numbers(2, 3, 5, tokens, mean=mean), numbers(2, 3, 9, tokens, seed=1, mean=-mean)
    value = numbers(2, 3, 9, tokens, seed=2)
    attended = attend_channels(query, key, value, eps=eps)
    torch.testing.assert_close(attended, reference(query, key, value, eps).float(), rtol=1e-3, atol=1e-4)


def test_gradients_are_those_of_the_map() -> None:
    inputs = [numbers(2, 2, size, 4, seed=size, mean=0.5).requires_grad_() for size in (5, 7, 7)]
    target = numbers(2, 2, 5, 4, seed=9)
    mine = torch.autograd.grad((attend_channels(*inputs) * target).sum(), inputs)
    theirs = torch.autograd.grad((reference(*inputs) * target).sum(), inputs)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_one_set_of_keys_serves_all_images() -> None:
    query, key, value = numbers(3, 2, 5, 4), numbers(1, 2, 7, 4, seed=1), numbers(1, 2, 7, 4, seed=2)
    each = torch.cat([attend_channels(image[None], key, value) for image in query])
    torch.testing.assert_close(attend_channels(query, key, value), each)


def test_equal_keys_stay_finite() -> None:
    inputs = [torch.ones(1, 1, 4, 2, requires_grad=True) for _ in range(3)]
    attended = attend_channels(*inputs)
    attended.sum().backward()
    torch.testing.assert_close(attended, torch.ones(1, 1, 4, 2))
    assert all(tensor.grad.isfinite().all() for tensor in inputs)


def test_maps_are_float32_under_autocast() -> None:
    query, key, value = (numbers(1, 2, 6, 4, seed=seed).bfloat16() for seed in range(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attended = attend_channels(query, key, value)
    assert attended.dtype == torch.float32
    torch.testing.assert_close(attended, reference(query, key, value).float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("recompute", [False, True])
def test_module_attends_in_float32_under_autocast(monkeypatch: pytest.MonkeyPatch, recompute: bool) -> None:
    seen = []
    plain = functional.scaled_dot_product_attention

    def note(*args: torch.Tensor, **kwargs: object) -> torch.Tensor:
        seen.extend(args)
        return plain(*args, **kwargs)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", note)
    tokens = numbers(2, 2, 4, CHANNELS).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = attention(recompute=recompute).cross(tokens, 1)
    output.float().sum().backward()
    assert output.dtype == torch.bfloat16
    assert len(seen) == (12 if recompute else 6)  # three of each direction, and again in the backward pass
    assert {tensor.dtype for tensor in seen} == {torch.float32}


def test_self_mode_is_ordinary_multi_head_attention_within_a_group() -> None:
    module, tokens = attention(), numbers(2, 3, 4, CHANNELS)
    attended = module(tokens)
    for image, group in ((0, 0), (1, 2)):
        query, key, value = (
            channels_of(layer, tokens[image, group]) for layer in (module.query, module.key, module.value)
        )
        heads = [one_map(*(part[rows] for part in (query, key, value))) for rows in (slice(0, 6), slice(6, 12))]
        torch.testing.assert_close(attended[image, group], module.out(torch.cat(heads).T), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("joint_heads", [True, False])
@pytest.mark.parametrize("all_keys", [True, False])
def test_cross_mode_looks_at_the_same_group_of_the_other_stream(joint_heads: bool, all_keys: bool) -> None:
    module, tokens = attention(joint_heads=joint_heads, all_keys=all_keys), numbers(5, 3, 4, CHANNELS)
    attended = module.cross(tokens, 2)  # images 0, 1 are labelled and 2, 3, 4 are not
    partners = {0: [2], 1: [3], 2: [0], 3: [1], 4: [0]}
    group = 1
    for image, partner in partners.items():
        others = ([2, 3, 4] if image < 2 else [0, 1]) if all_keys else partner
        query = channels_of(module.query, tokens[image, group])
        keys = [channels_of(module.key, tokens[other, group]) for other in others]
        values = [channels_of(module.value, tokens[other, group]) for other in others]
        size = 2 * CHANNELS if joint_heads else CHANNELS
        heads = [
            one_map(query[rows], torch.cat([key[rows] for key in keys]), torch.cat([value[rows] for value in values]))
            for rows in (slice(start, start + size) for start in range(0, 2 * CHANNELS, size))
        ]
        torch.testing.assert_close(attended[image, group], module.out(torch.cat(heads).T), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_stop_gradient_covers_unlabelled_queries_keys_and_values(stop_gradient: bool) -> None:
    module, tokens = attention(stop_gradient=stop_gradient), numbers(4, 2, 4, CHANNELS).requires_grad_()
    module.cross(tokens, 2).square().sum().backward()
    assert tokens.grad[:2].abs().amax((1, 2, 3)).min() > 0
    assert bool(tokens.grad[2:].any()) is not stop_gradient


@pytest.mark.parametrize("cross", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_recomputation_changes_neither_outputs_nor_gradients(cross: bool, dropout: float) -> None:
    results = []
    for recompute in (True, False):
        module, tokens = attention(dropout=dropout, recompute=recompute), numbers(4, 2, 4, CHANNELS).requires_grad_()
        torch.manual_seed(3)
        output = module.cross(tokens, 1) if cross else module(tokens)
        gradients = torch.autograd.grad(output.square().sum(), [tokens, *module.parameters()])
        results.append([output, *gradients])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_recomputation_keeps_no_map() -> None:
    largest = {}
    for recompute in (True, False):
        sizes = []

        def note(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        module = ChannelAttention(32, dropout=0.1, recompute=recompute)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            module.cross(numbers(4, 1, 2, 32), 2)
        largest[recompute] = max(sizes)
    one_direction = 2 * 64 * 128  # two images, 64 query and 128 key channels
    assert largest[False] >= one_direction > 3 * largest[True]


def test_dropout_is_for_training() -> None:
    module, tokens = attention(dropout=0.5), numbers(2, 2, 4, CHANNELS)
    assert not torch.equal(module(tokens), module(tokens))
    module.eval()
    torch.testing.assert_close(module(tokens), module(tokens), rtol=0, atol=0)
    torch.testing.assert_close(module(tokens), attention()(tokens))


def test_inference_needs_no_gradient() -> None:
    module, tokens = attention(), numbers(3, 2, 4, CHANNELS)
    with torch.no_grad():
        output = module(tokens)
    assert not output.requires_grad
    torch.testing.assert_close(output, module(tokens))


def test_weights_are_xavier_uniform_without_bias() -> None:
    module = ChannelAttention(32, num_heads=3)
    bound = (6 / (32 + 96)) ** 0.5
    assert {name for name, _ in module.named_parameters()} == {f"{x}.weight" for x in ("query", "key", "value", "out")}
    for weight in module.parameters():
        assert 0.95 * bound < weight.abs().max() <= bound
