# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from medssl_components.losses import entropy_filtered_supervision, kept_voxels, low_entropy, pseudo_label


def random_logits(seed: int, num_classes: int = 3, shape: tuple[int, ...] = (3, 4, 5)) -> torch.Tensor:
    return 3 * torch.randn(2, num_classes, *shape, generator=torch.Generator().manual_seed(seed))


def entropies(logits: torch.Tensor) -> np.ndarray:
    log_probs = logits.double().log_softmax(1)
    return -(log_probs.exp() * log_probs).sum(1, keepdim=True).numpy() / np.log(2)  # equation 9


def masked_mean(student: torch.Tensor, target: torch.Tensor, kept: torch.Tensor) -> float:
    """Equation 11, one voxel at a time."""
    rows = student.movedim(1, -1).flatten(0, -2).double()
    voxels = zip(rows, target.flatten(), kept.flatten(), strict=True)
    return np.mean([scores.logsumexp(0) - scores[label] for scores, label, counts in voxels if counts])


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 5)])
@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("percentile", [0, 0.1, 30, 70, 99.9, 100])
def test_low_entropy_is_at_most_the_percentile(percentile: float, num_classes: int, shape: tuple[int, ...]) -> None:
    logits = random_logits(0, num_classes, shape)
    entropy = entropies(logits)
    expected = entropy <= np.percentile(entropy, percentile, method="inverted_cdf")
    low = low_entropy(logits, percentile)
    assert low.dtype == torch.bool and low.shape == (2, 1, *shape)
    np.testing.assert_array_equal(low.numpy(), expected)


@pytest.mark.parametrize("percentile", [0, 30, 70, 100])
def test_percentiles_of_each_class(percentile: float) -> None:
    logits = random_logits(1, 4)
    logits[:, 0] += 2  # more background than objects
    logits[:, 2] -= 1e3  # a class that nobody predicts
    entropy, classes = entropies(logits), logits.argmax(1, keepdim=True).numpy()
    expected = np.zeros_like(classes, dtype=bool)
    for k in (0, 1, 3):
        members = classes == k
        expected |= members & (entropy <= np.percentile(entropy[members], percentile, method="inverted_cdf"))
    low = low_entropy(logits, percentile, per_class=True)
    np.testing.assert_array_equal(low.numpy(), expected)
    assert set(classes[expected]) == {0, 1, 3}


def test_last_class_may_be_missing() -> None:
    logits = random_logits(1, 3)
    logits[:, 2] -= 1e3
    assert low_entropy(logits, 70, per_class=True).float().mean().item() == pytest.approx(0.7, abs=0.02)


def test_one_percentile_for_all_keeps_fewer_voxels_of_an_unsure_class() -> None:
    logits = torch.zeros(1, 2, 100)
    logits[0, 0, :80] = torch.linspace(5, 9, 80)
    logits[0, 1, 80:] = torch.linspace(1, 2, 20)
    assert low_entropy(logits, 80)[0, 0, 80:].sum() == 0
    assert low_entropy(logits, 80, per_class=True)[0, 0, 80:].sum() == 16


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("value", [0.0, 1.0, 1e4])
def test_equal_entropies_are_all_low(value: float, per_class: bool) -> None:
    logits = torch.tensor([0.0, value]).view(1, 2, 1, 1).expand(2, 2, 3, 3)
    assert low_entropy(logits, 30, per_class).all()


@pytest.mark.parametrize("rule, table", [("or", [True, False, False, False]), ("and", [True, True, True, False])])
def test_truth_table(rule: str, table: list[bool]) -> None:
    # "or" ignores a voxel if one entropy is high or the other, "and" only if both are.
    low = torch.tensor(list(itertools.product([True, False], repeat=2)))
    assert kept_voxels(low[:, 0], low[:, 1], rule).tolist() == table


@pytest.mark.parametrize("teacher", ["other", "own"])
@pytest.mark.parametrize("rule", ["or", "and"])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_loss_is_the_masked_mean_of_both_networks(num_classes: int, rule: str, teacher: str) -> None:
    first, second = random_logits(0, num_classes), random_logits(1, num_classes)
    kept = kept_voxels(low_entropy(first, 60), low_entropy(second, 60), rule)
    assert 0 < kept.sum() < kept.numel()
    pairs = ((first, second), (second, first)) if teacher == "other" else ((first, first), (second, second))
    expected = sum(masked_mean(student, source.argmax(1, keepdim=True), kept) for student, source in pairs)
    loss = entropy_filtered_supervision(first, second, kept, teacher)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_gradient_reaches_the_student_where_kept_and_never_the_teacher() -> None:
    first, second = random_logits(0).requires_grad_(), random_logits(1).requires_grad_()
    kept = kept_voxels(low_entropy(first, 50), low_entropy(second, 50))
    entropy_filtered_supervision(first, second, kept).backward()
    for student, teacher in ((first, second), (second, first)):
        target = functional.one_hot(teacher.detach().argmax(1), 3).movedim(-1, 1)
        expected = (student.detach().softmax(1) - target) * kept / kept.sum()
        assert expected.any()
        torch.testing.assert_close(student.grad, expected)
    detached = entropy_filtered_supervision(first.detach(), second, kept)
    (gradient,) = torch.autograd.grad(detached, second)
    torch.testing.assert_close(gradient, second.grad)


def test_without_a_kept_voxel_the_loss_is_zero_with_a_graph() -> None:
    first, second = random_logits(0).requires_grad_(), random_logits(1)
    loss = entropy_filtered_supervision(first, second, torch.zeros(2, 1, 3, 4, 5, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and not first.grad.any()


def test_masks_have_no_gradient_and_half_precision_is_computed_in_float32() -> None:
    first, second = random_logits(0).bfloat16().requires_grad_(), random_logits(1).bfloat16()
    low = low_entropy(first, 70)
    assert not low.requires_grad and not pseudo_label(first).requires_grad
    assert entropy_filtered_supervision(first, second, low).dtype == torch.float32


def test_errors() -> None:
    logits = torch.zeros(2, 2, 4, 4)
    with pytest.raises(ValueError, match="percentile is 101"):
        low_entropy(logits, 101)
    with pytest.raises(ValueError, match='rule "xor" is unknown: use one of or, and'):
        kept_voxels(logits > 0, logits > 0, "xor")
    with pytest.raises(ValueError, match='teacher "both" is unknown: use one of other, own'):
        entropy_filtered_supervision(logits, logits, torch.ones(2, 1, 4, 4), "both")
    with pytest.raises(ValueError, match=r"kept has the shape \(2, 4, 4\).*has to be \(2, 1, 4, 4\)"):
        entropy_filtered_supervision(logits, logits, torch.ones(2, 4, 4))
