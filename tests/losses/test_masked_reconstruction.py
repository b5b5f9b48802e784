# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from medssl_components.losses.masked_reconstruction import masked_reconstruction


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_mean_over_volumes_of_their_own_ratios() -> None:
    teacher = torch.tensor([[[3.0, 0.0], [4.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])  # squares: 25 and 2
    student = torch.tensor([[[3.0, 5.0], [4.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])  # errors: 25 and 1
    assert masked_reconstruction(student, teacher).item() == pytest.approx((25 / 25 + 1 / 2) / 2)


def test_of_probabilities() -> None:
    student, teacher = random(2, 3, 2, 2, 2), random(2, 3, 2, 2, 2, seed=1)
    of_probs = masked_reconstruction(student, teacher, quantity="probability")
    torch.testing.assert_close(of_probs, masked_reconstruction(student.softmax(1), teacher.softmax(1)))
    torch.testing.assert_close(masked_reconstruction(student + 5, teacher, quantity="probability"), of_probs)


def test_scale_of_both_does_not_matter_and_agreement_is_zero() -> None:
    student, teacher = random(2, 3, 4, 4), random(2, 3, 4, 4, seed=1)
    torch.testing.assert_close(masked_reconstruction(7 * student, 7 * teacher), masked_reconstruction(student, teacher))
    assert masked_reconstruction(teacher, teacher) == 0


def test_gradient_reaches_the_student_alone() -> None:
    student, teacher = random(2, 3, 4).requires_grad_(), random(2, 3, 4, seed=1).requires_grad_()
    masked_reconstruction(student, teacher).backward()
    expected = (student - teacher).detach() / teacher.detach().square().sum((1, 2), keepdim=True)  # 2 / batch of 2
    torch.testing.assert_close(student.grad, expected)
    assert teacher.grad is None


def test_a_teacher_of_zeros_and_half_precision_are_finite() -> None:
    assert masked_reconstruction(torch.ones(1, 2, 3), torch.zeros(1, 2, 3)).item() == pytest.approx(6e6)
    large = torch.full((1, 2, 4000), 100.0, dtype=torch.float16)
    loss = masked_reconstruction(large, -large)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(4.0)


def test_unknown_quantities_and_two_shapes_are_errors() -> None:
    with pytest.raises(ValueError, match='quantity "label" is unknown'):
        masked_reconstruction(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), quantity="label")
    with pytest.raises(ValueError, match=r"\(1, 2, 3\) and \(1, 2, 4\)"):
        masked_reconstruction(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4))
