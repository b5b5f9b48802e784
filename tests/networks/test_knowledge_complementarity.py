# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from medssl_components.networks.knowledge_complementarity import ComplementarityBlock, KnowledgeComplementarity

CHANNELS = 6
GRID = (2, 4, 2)


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def module(grid: tuple[int, int, int] = GRID, **settings: object) -> KnowledgeComplementarity:
    torch.manual_seed(0)
    return KnowledgeComplementarity(CHANNELS, grid, **{"dropout": 0.0, **settings})


class Zero(nn.Module):
    """An attention that adds nothing."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return 0 * tokens


class Keep(nn.Module):
    """An attention that notes its input."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        self.tokens = tokens
        return tokens


def block(
    attention: nn.Module, grid: tuple[int, ...], patch: tuple[int, ...], **settings: object
) -> ComplementarityBlock:
    torch.manual_seed(0)
    made = ComplementarityBlock(attention, 3, grid, patch, **settings)
    # Each token is a voxel of its patch, and what follows the residual changes nothing: the shape's handling is left.
    weight = torch.eye(made.tokens.out_channels)
    with torch.no_grad():
        made.tokens.weight.copy_(weight.view_as(made.tokens.weight))
        made.tokens.bias.zero_()
    made.norm, made.convolution, made.activation = nn.Identity(), nn.Identity(), nn.Identity()
    return made


@pytest.mark.parametrize(
    "grid, patch", [((4, 4, 2), (2, 2, 2)), ((3, 4, 5), (2, 2, 2)), ((1, 3, 2), (2, 2, 2)), ((3, 2, 4), (3, 2, 4))]
)
def test_tokens_go_back_to_their_voxels(grid: tuple[int, ...], patch: tuple[int, ...]) -> None:
    features = numbers(2, 3, *grid)
    torch.testing.assert_close(block(Zero(), grid, patch)(features), features)


def test_a_group_of_tokens_is_a_patch() -> None:
    made = block(Keep(), (4, 4, 2), (2, 2, 2))
    made.attention_norm = nn.Identity()
    features = numbers(2, 3, 4, 4, 2)
    made(features)
    assert made.attention.tokens.shape == (2, 4, 8, 3)
    patch = features[1, :, 2:, :2]  # the third of four
    torch.testing.assert_close(made.attention.tokens[1, 2], patch.flatten(1).T)


def test_odd_grids_are_continued_by_their_last_voxels() -> None:
    made = block(Keep(), (3, 2, 2), (2, 2, 2))
    made.attention_norm = nn.Identity()
    features = numbers(1, 3, 3, 2, 2)
    made(features)
    last = features[0, :, 2:].expand(3, 2, 2, 2)
    torch.testing.assert_close(made.attention.tokens[0, 1], last.flatten(1).T)


@pytest.mark.parametrize("token_residual", [True, False])
def test_the_residual_is_the_tokens_or_the_features(token_residual: bool) -> None:
    made = block(Zero(), (2, 2, 2), (2, 2, 2), token_residual=token_residual)
    with torch.no_grad():
        made.tokens.weight.mul_(2)
    features = numbers(1, 3, 2, 2, 2)
    torch.testing.assert_close(made(features), 2 * features if token_residual else features)


@pytest.mark.parametrize("gelu", [True, False])
def test_layer_norm_convolution_and_gelu_follow(gelu: bool) -> None:
    made = ComplementarityBlock(Zero(), 3, (2, 2, 2), (2, 2, 2), token_residual=False, gelu=gelu)
    features = numbers(1, 3, 2, 2, 2)
    normed = functional.layer_norm(features.movedim(1, -1), (3,), eps=1e-6).movedim(-1, 1)
    expected = made.convolution(normed)
    torch.testing.assert_close(made(features), functional.gelu(expected) if gelu else expected)


def test_parameter_counts_of_the_released_sizes() -> None:
    with torch.device("meta"):
        made = KnowledgeComplementarity(512, (4, 8, 8))
    counts = [
        sum(parameter.numel() for parameter in part.parameters()) for part in (made.local_block, made.global_block)
    ]
    assert counts == [2_362_000 - 72, 2_493_440 - 65_792]  # less the convolutions that the released code never uses


@pytest.mark.parametrize("grid", [(2, 4, 2), (2, 3, 2), (4, 4, 3), (1, 1, 1)])
@pytest.mark.parametrize("num_labeled", [1, 2, 3])
def test_any_grid_and_split_keep_the_shape(grid: tuple[int, int, int], num_labeled: int) -> None:
    features = numbers(4, CHANNELS, *grid)
    made = module(grid)
    for output in (made(features), made.cross(features, num_labeled)):
        assert output.shape == features.shape and output.isfinite().all()


def test_self_mode_sees_each_image_alone() -> None:
    made, features = module(), numbers(3, CHANNELS, *GRID)
    torch.testing.assert_close(made(features)[1:2], made(features[1:2]))


def test_cross_mode_differs_from_self_mode_and_depends_on_the_other_stream() -> None:
    made, features = module(), numbers(4, CHANNELS, *GRID)
    crossed = made.cross(features, 2)
    assert (crossed - made(features)).abs().amax((1, 2, 3, 4)).min() > 1e-3
    other = torch.cat((features[:2], numbers(2, CHANNELS, *GRID, seed=1)))
    assert (made.cross(other, 2)[:2] - crossed[:2]).abs().amax((1, 2, 3, 4)).min() > 1e-3


def test_local_and_global_block_follow_each_other_in_both_modes() -> None:
    made, features = module(), numbers(4, CHANNELS, *GRID)
    torch.testing.assert_close(made(features), made.global_block(made.local_block(features)))
    crossed = made.global_block.cross(made.local_block.cross(features, 2), 2)
    torch.testing.assert_close(made.cross(features, 2), crossed)


def test_a_labelled_image_does_not_see_the_other_labelled_ones_at_first_hand() -> None:
    made, features = module().local_block, numbers(4, CHANNELS, *GRID)
    other = features.clone()
    other[1] += 1
    torch.testing.assert_close(made.cross(other, 2)[0], made.cross(features, 2)[0])


def test_order_of_the_images_does_not_matter() -> None:
    made, features = module(), numbers(5, CHANNELS, *GRID)
    order = torch.tensor([1, 0, 4, 2, 3])
    torch.testing.assert_close(made.cross(features[order], 2), made.cross(features, 2)[order])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stop_gradient", [True, False])
def test_no_gradient_from_labelled_outputs_to_unlabelled_inputs(training: bool, stop_gradient: bool) -> None:
    made = module(dropout=0.1, stop_gradient=stop_gradient).train(training)
    labeled, unlabeled = (numbers(2, CHANNELS, *GRID, seed=seed).requires_grad_() for seed in (0, 1))
    made.cross(torch.cat((labeled, unlabeled)), 2)[:2].square().sum().backward()
    assert labeled.grad.any()
    assert bool(unlabeled.grad.any()) is not stop_gradient


@pytest.mark.parametrize("num_labeled", [0, 3])
def test_without_the_other_stream_cross_is_self(num_labeled: int) -> None:
    made, features = module(), numbers(3, CHANNELS, *GRID)
    torch.testing.assert_close(made.cross(features, num_labeled), made(features))


@pytest.mark.parametrize("cross", [True, False])
def test_each_mode_trains_every_parameter(cross: bool) -> None:
    made, features = module(), numbers(2, CHANNELS, *GRID)
    (made.cross(features, 1)[:1] if cross else made(features)).square().mean().backward()
    assert [name for name, parameter in made.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("cross", [True, False])
def test_recomputation_changes_nothing(cross: bool) -> None:
    results = []
    for recompute in (True, False):
        made = module(dropout=0.3, recompute=recompute)
        features = numbers(3, CHANNELS, *GRID).requires_grad_()
        torch.manual_seed(1)
        output = made.cross(features, 2) if cross else made(features)
        results.append([output, *torch.autograd.grad(output.square().sum(), [features, *made.parameters()])])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("grid", [GRID, (3, 3, 2)])
def test_bfloat16_stays_near_float32(grid: tuple[int, int, int]) -> None:
    made = module(grid)
    features = numbers(4, CHANNELS, *grid).requires_grad_()
    expected = made.cross(features, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = made.cross(features.bfloat16(), 2)
    output.float().sum().backward()
    torch.testing.assert_close(output.float(), expected, rtol=0, atol=0.1)
    assert features.grad.isfinite().all()


def test_settings_reach_both_blocks() -> None:
    settings = {"num_heads": 3, "dropout": 0.2, "eps": 1e-3, "joint_heads": False, "all_keys": False}
    made = module(stop_gradient=False, recompute=False, token_residual=False, gelu=False, norm_eps=0.1, **settings)
    assert made.local_block.tokens.kernel_size == (2, 2, 2) and made.global_block.tokens.kernel_size == GRID
    for part in (made.local_block, made.global_block):
        assert {name: getattr(part.attention, name) for name in settings} == settings
        assert not part.attention.stop_gradient and not part.attention.recompute and not part.token_residual
        assert isinstance(part.activation, nn.Identity)
        assert part.norm.eps == part.attention_norm.eps == 0.1


def test_local_patch_may_differ_by_axis() -> None:
    made = module(local_patch=(1, 2, 2))
    assert made.local_block.tokens.kernel_size == (1, 2, 2)
    assert made(numbers(1, CHANNELS, *GRID)).shape == (1, CHANNELS, *GRID)


def test_errors_are_one_line_that_names_the_sizes() -> None:
    made, features = module(), numbers(2, CHANNELS, 2, 4, 4)
    for call in (lambda: made(features), lambda: made.cross(features, 1)):
        with pytest.raises(ValueError, match=r"sides are \(2, 4, 4\), the module's grid is \(2, 4, 2\)") as error:
            call()
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="num_labeled is 3; give a number from 0 to the batch's 2"):
        made.cross(features, 3)
