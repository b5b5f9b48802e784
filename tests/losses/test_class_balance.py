# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss

from medssl_components.losses import balance_mask, balanced_loss, class_ratios

K = 4
SETTINGS = {"include_background": False, "to_onehot_y": True, "softmax": True, "smooth_nr": 1.0, "smooth_dr": 1.0}


def dice_ce(**settings: object) -> DiceCELoss:
    return DiceCELoss(**SETTINGS, batch=True, **settings)


def volumes(*shape: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, label and mask."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, K, *shape, generator=generator)
    label = torch.randint(0, K, (2, 1, *shape), generator=generator).to(torch.uint8)
    return logits, label, torch.rand(2, 1, *shape, generator=generator) < 0.5


def reference(logits: torch.Tensor, label: torch.Tensor, weight: torch.Tensor, uniform: bool) -> float:
    """Cross entropy + Dice of the released code, with its smoothing of 1 and 1e-8, over all voxels of weight 1.

    Dropped voxels are left out, or, if `uniform`, are uniform predictions of background.
    """
    scores = logits.double().numpy() * (weight.numpy() if uniform else 1)
    probs = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    target = np.eye(K)[np.where(weight | (not uniform), label, 0)[:, 0]]
    target = np.moveaxis(target, -1, 1)
    counted = np.ones_like(probs) if uniform else np.broadcast_to(weight.numpy(), probs.shape)
    cross_entropy = -(target * np.log(probs) * counted).sum() / counted[:, 0].sum()
    axes = (0, *range(2, probs.ndim))
    tp = (probs * target * counted).sum(axes)
    fp, fn = (probs * (1 - target) * counted).sum(axes), ((1 - probs) * target * counted).sum(axes)
    dice = (2 * tp + 1) / (2 * tp + fp + fn + 1 + 1e-8)
    return cross_entropy + 1 - dice[1:].mean()


def test_ratios_by_hand() -> None:
    ratios = class_ratios([1000, 10, 0, 40])
    assert ratios.dtype == torch.float32
    torch.testing.assert_close(ratios, torch.tensor([0.01, 1.0, 1.0, 0.25]))
    torch.testing.assert_close(class_ratios(torch.tensor([1000, 10, 0, 40])), ratios)


def test_ratios_of_large_counts() -> None:
    ratios = class_ratios(torch.tensor([3 * 10**9, 3]))
    torch.testing.assert_close(ratios, torch.tensor([1e-9, 1.0]))


@pytest.mark.parametrize("counts", [[0, 0], [5, -1], [], [[1, 2]]])
def test_counts_that_are_none(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="give the number of voxels of each class, not all of them 0") as error:
        class_ratios(counts)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "progress, expected", [(0.0, (1.0, 1.0, 1.0)), (0.5, (0.55, 0.7, 1.0)), (1.0, (0.1, 0.4, 1.0))]
)
def test_mask_keeps_each_class_at_its_rate(progress: float, expected: tuple[float, ...]) -> None:
    label = torch.arange(3, dtype=torch.uint8).repeat_interleave(20_000).view(2, 1, 100, 300)
    mask = balance_mask(label, torch.tensor([0.1, 0.4, 1.0]), progress, torch.Generator().manual_seed(0))
    assert mask.dtype == torch.bool and mask.shape == label.shape
    for value, rate in enumerate(expected):
        kept = mask[label == value].float().mean().item()
        assert kept == rate if rate == 1 else kept == pytest.approx(rate, abs=0.02)


def test_labels_are_masked_as_pseudo_labels_at_the_end() -> None:
    label, ratios = volumes(6, 5)[1], torch.tensor([0.1, 0.5, 0.9, 1.0])
    masks = [
        balance_mask(label, ratios, *progress, generator=torch.Generator().manual_seed(1)) for progress in ((), (1.0,))
    ]
    assert torch.equal(*masks)


def test_generator_alone_makes_the_mask() -> None:
    label, ratios = volumes(6, 5)[1], torch.full((K,), 0.5)
    masks = [balance_mask(label, ratios, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("progress", [-0.1, 1.1])
def test_progress_outside_its_range(progress: float) -> None:
    with pytest.raises(ValueError, match="progress is .*; give a number from 0 to 1"):
        balance_mask(torch.zeros(1, 1, 2), torch.ones(1), progress)


@pytest.mark.parametrize("shape", [(5, 4), (3, 4, 5)])
@pytest.mark.parametrize("reading", ["logits", "loss"])
def test_loss_equals_the_formula(shape: tuple[int, ...], reading: str) -> None:
    logits, label, mask = volumes(*shape)
    loss = balanced_loss(dice_ce(), logits, label, mask, reading)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(reference(logits, label, mask, reading == "logits"), abs=1e-6)


@pytest.mark.parametrize("reading", ["logits", "loss"])
def test_a_full_mask_leaves_the_loss(reading: str) -> None:
    logits, label, mask = volumes(3, 4, 5)
    plain = dice_ce()(logits, label)
    full = torch.ones_like(mask)
    torch.testing.assert_close(balanced_loss(dice_ce(), logits, label, full, reading), plain)
    assert plain.item() == pytest.approx(reference(logits, label, full, False), abs=1e-6)


@pytest.mark.parametrize("reading", ["logits", "loss"])
def test_dropped_voxels_have_no_gradient(reading: str) -> None:
    logits, label, mask = volumes(3, 4, 5)
    logits.requires_grad_()
    balanced_loss(dice_ce(), logits, label, mask, reading).backward()
    dropped = (~mask).expand_as(logits)
    assert not logits.grad[dropped].any() and logits.grad[~dropped].abs().min() > 0


def test_dropped_voxels_cost_ln_k_where_logits_are_masked() -> None:
    logits, label, _ = volumes(3, 4)
    loss = balanced_loss(dice_ce(lambda_dice=0.0), logits, label, torch.zeros(2, 1, 3, 4), "logits")
    assert loss.item() == pytest.approx(math.log(K))


def test_the_loss_of_no_kept_voxel_is_0() -> None:
    logits, label, mask = volumes(3, 4)
    logits.requires_grad_()
    loss = balanced_loss(dice_ce(), logits, label, torch.zeros_like(mask), "loss")
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


@pytest.mark.parametrize("reading", ["logits", "loss"])
def test_bfloat16_logits_give_a_float32_loss(reading: str) -> None:
    logits, label, mask = volumes(3, 4)
    rounded = logits.bfloat16()
    loss = balanced_loss(dice_ce(), rounded, label, mask.float(), reading)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, balanced_loss(dice_ce(), rounded.float(), label.long(), mask, reading))


def test_errors() -> None:
    logits, label, mask = volumes(3, 4)
    with pytest.raises(ValueError, match='reading "both" is unknown: use one of loss, logits'):
        balanced_loss(dice_ce(), logits, label, mask, "both")
    with pytest.raises(ValueError, match="kept has the shape"):
        balanced_loss(dice_ce(), logits, label, mask[:, 0])
    with pytest.raises(ValueError, match="label has the shape"):
        balanced_loss(dice_ce(), logits, label[:1], mask)
