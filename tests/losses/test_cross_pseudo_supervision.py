# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from medssl_components.losses import cross_pseudo_supervision, pseudo_label


def two(num_classes: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(2 * torch.randn(2, num_classes, *shape, generator=generator) for _ in range(2))


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_equals_the_cross_entropy_in_both_directions(num_classes: int, shape: tuple[int, ...]) -> None:
    first, second = two(num_classes, *shape)
    rows = [logits.movedim(1, -1).reshape(-1, num_classes).numpy() for logits in (first, second)]
    log_probs = [z - np.log(np.exp(z).sum(1, keepdims=True)) for z in rows]
    voxels = np.arange(len(rows[0]))
    expected = -log_probs[0][voxels, rows[1].argmax(1)].mean() - log_probs[1][voxels, rows[0].argmax(1)].mean()
    assert cross_pseudo_supervision(first, second).item() == pytest.approx(expected, rel=1e-5)
    assert cross_pseudo_supervision(second, first).item() == pytest.approx(expected, rel=1e-5)


def test_gradient_is_the_students_alone() -> None:
    first, second = (logits.requires_grad_() for logits in two(3, 2, 2, 2))
    cross_pseudo_supervision(first, second).backward()
    for student, teacher in ((first, second), (second, first)):
        target = functional.one_hot(teacher.detach().argmax(1), 3).movedim(-1, 1)
        torch.testing.assert_close(student.grad, (student.detach().softmax(1) - target) / 16)


@pytest.mark.parametrize(
    "probs, threshold, label",
    [
        ([0.45, 0.55], None, 1),
        ([0.45, 0.55], 0.6, 0),
        ([0.35, 0.65], 0.6, 1),
        ([0.6, 0.4], 0.3, 1),
        ([0.1, 0.2, 0.7], 0.6, 2),
        ([0.1, 0.7, 0.2], 0.6, 1),
        ([0.1, 0.55, 0.35], 0.6, 0),
        ([0.1, 0.55, 0.35], None, 1),
    ],
)
def test_pseudo_label(probs: list[float], threshold: float | None, label: int) -> None:
    logits = torch.tensor(probs).log().view(1, -1, 1, 1) + 3.0  # a constant added to all logits changes nothing
    result = pseudo_label(logits.requires_grad_(), threshold)
    assert result.shape == (1, 1, 1, 1) and not result.requires_grad
    assert result.item() == label


def test_threshold_of_one_half_is_the_largest_of_two() -> None:
    first, second = two(2, 4, 4, 4)
    torch.testing.assert_close(cross_pseudo_supervision(first, second, 0.5), cross_pseudo_supervision(first, second))


def test_threshold_changes_the_pseudo_labels_of_both() -> None:
    # Both call the voxel an object with 0.55, which 0.6 makes background.
    logits = torch.tensor([[[0.45], [0.55]]]).log()
    assert cross_pseudo_supervision(logits, logits).item() == pytest.approx(-2 * np.log(0.55), rel=1e-5)
    assert cross_pseudo_supervision(logits, logits, 0.6).item() == pytest.approx(-2 * np.log(0.45), rel=1e-5)


def test_two_shapes_are_an_error() -> None:
    with pytest.raises(ValueError, match="give two of one shape"):
        cross_pseudo_supervision(torch.zeros(2, 2, 4), torch.zeros(1, 2, 4))
