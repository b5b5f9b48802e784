# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from medssl_components.losses.soft_dice_distillation import soft_dice_distillation


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def reference(student_probs: torch.Tensor, teacher_probs: torch.Tensor, smooth: float) -> torch.Tensor:
    """The Dice of V-Net, one class at a time."""
    terms = []
    for k in range(student_probs.shape[1]):
        p, q = student_probs[:, k].double(), teacher_probs[:, k].double()
        terms.append((2 * (p * q).sum() + smooth) / (p.square().sum() + q.square().sum() + smooth))
    return 1 - torch.stack(terms).mean()


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 4, 3, 2, 4)])
@pytest.mark.parametrize("smooth", [1e-5, 1.0])
def test_equals_the_formula_summed_over_the_teachers(shape: tuple[int, ...], smooth: float) -> None:
    logits, first, second = random(*shape), random(*shape, seed=1).softmax(1), random(*shape, seed=2).softmax(1)
    expected = [reference(logits.softmax(1), probs, smooth) for probs in (first, second)]
    assert soft_dice_distillation(logits, [first, second], smooth).item() == pytest.approx(
        sum(expected).item(), rel=1e-5
    )
    assert soft_dice_distillation(logits, [second], smooth).item() == pytest.approx(expected[1].item(), rel=1e-5)


def test_gradient_is_that_of_the_formula_and_none_reaches_the_teachers() -> None:
    logits, teacher = random(2, 3, 4, 5).requires_grad_(), random(2, 3, 4, 5, seed=1).requires_grad_()
    soft_dice_distillation(logits, [teacher.softmax(1)]).backward()
    other = logits.detach().requires_grad_()
    reference(other.softmax(1), teacher.detach().softmax(1), 1e-5).backward()
    torch.testing.assert_close(logits.grad, other.grad)
    assert logits.grad.abs().max() > 0 and teacher.grad is None


def test_agreement_is_zero_and_opposites_are_one() -> None:
    sure = torch.tensor([[100.0, -100.0], [-100.0, 100.0]]).reshape(1, 2, 2, 1)
    assert soft_dice_distillation(sure, [sure.softmax(1)]).item() == pytest.approx(0, abs=1e-5)
    assert soft_dice_distillation(sure, [(-sure).softmax(1)]).item() == pytest.approx(1, abs=1e-4)


def test_a_class_that_neither_predicts_counts_as_right() -> None:
    sure = torch.full((1, 3, 2, 2), -200.0)
    sure[:, 0] = 200.0
    loss = soft_dice_distillation(sure.requires_grad_(), [sure.detach().softmax(1)])
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5) and sure.grad.isfinite().all()


def test_half_precision_is_computed_in_float32() -> None:
    logits, probs = random(1, 3, 16, 16, 16).half(), random(1, 3, 16, 16, 16, seed=1).softmax(1).half()
    loss = soft_dice_distillation(logits, [probs])
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, soft_dice_distillation(logits.float(), [probs.float()]))


def test_no_teacher_and_two_shapes_are_errors() -> None:
    with pytest.raises(ValueError, match="teacher_probs is empty"):
        soft_dice_distillation(torch.zeros(1, 2, 3), [])
    with pytest.raises(ValueError, match=r"teacher_probs \(1, 1, 3\) differ from logits \(1, 2, 3\)"):
        soft_dice_distillation(torch.zeros(1, 2, 3), [torch.zeros(1, 1, 3)])
