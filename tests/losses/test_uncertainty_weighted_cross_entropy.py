# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl_components.losses import uncertainty_weighted_cross_entropy


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def reference(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    """Equations 13 to 15."""
    p, target = softmax(student), softmax(teacher)
    cross_entropy = -(softmax(teacher / temperature) * np.log(p)).sum(1)
    divergence = (target * np.log(target / p)).sum(1)
    return (np.exp(-divergence) * cross_entropy + divergence).mean()


def two(num_classes: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return tuple(2 * generator.normal(size=(2, num_classes, *shape)) for _ in range(2))


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("num_classes, shape", [(2, (3, 4)), (3, (2, 3, 2))])
def test_equals_the_equations(num_classes: int, shape: tuple[int, ...], temperature: float) -> None:
    student, teacher = two(num_classes, *shape)
    loss = uncertainty_weighted_cross_entropy(torch.tensor(student), torch.tensor(teacher), temperature)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(reference(student, teacher, temperature), rel=1e-5)


def test_temperature_changes_the_loss() -> None:
    student, teacher = (torch.tensor(logits) for logits in two(3, 4, 4))
    losses = [uncertainty_weighted_cross_entropy(student, teacher, t).item() for t in (0.05, 0.5, 1.0)]
    assert len({round(loss, 4) for loss in losses}) == 3


def test_agreement_at_temperature_one_leaves_the_entropy() -> None:
    logits = torch.tensor([0.25, 0.75]).log().view(1, 2, 1)
    expected = -0.25 * np.log(0.25) - 0.75 * np.log(0.75)
    assert uncertainty_weighted_cross_entropy(logits, logits, 1.0).item() == pytest.approx(expected, rel=1e-5)


def test_students_gradient_passes_the_weight_too() -> None:
    student, teacher = two(3, 2)
    logits = torch.tensor(student, requires_grad=True)
    uncertainty_weighted_cross_entropy(logits, torch.tensor(teacher), 0.5).backward()
    expected = np.zeros_like(student)
    for position in np.ndindex(student.shape):
        step = np.zeros_like(student)
        step[position] = 1e-5
        expected[position] = (reference(student + step, teacher, 0.5) - reference(student - step, teacher, 0.5)) / 2e-5
    np.testing.assert_allclose(logits.grad.numpy(), expected, rtol=1e-3, atol=1e-5)


def test_teacher_gets_no_gradient() -> None:
    student, teacher = (torch.tensor(logits, requires_grad=True) for logits in two(2, 3, 3))
    uncertainty_weighted_cross_entropy(student, teacher).backward()
    assert student.grad.abs().min() > 0
    assert teacher.grad is None


def test_certain_and_opposite_predictions_stay_finite() -> None:
    student = torch.tensor([[[1e3], [-1e3]]], requires_grad=True)
    loss = uncertainty_weighted_cross_entropy(student, -student.detach())
    loss.backward()
    assert loss.item() == pytest.approx(2e3) and student.grad.isfinite().all()


def test_errors() -> None:
    with pytest.raises(ValueError, match="temperature is 0; give a number above 0"):
        uncertainty_weighted_cross_entropy(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), 0)
    with pytest.raises(ValueError, match="give two of one shape"):
        uncertainty_weighted_cross_entropy(torch.zeros(2, 2, 3), torch.zeros(1, 2, 3))
