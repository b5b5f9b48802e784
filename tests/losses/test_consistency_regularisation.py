# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from medssl_components.losses import consistency_regularisation

SURE, UNSURE, BACKGROUND = 0.9, 0.55, 0.2  # probabilities of the object


def logits_of(*probs: float) -> torch.Tensor:
    """Logits (1, 2, n) of two classes, from the object's probability in each of n voxels."""
    foreground = torch.tensor(probs)
    return torch.stack([1 - foreground, foreground])[None].log()


def by_voxel(first: np.ndarray, second: np.ndarray, label: np.ndarray, threshold: float, rule: str) -> float:
    """Equations 4 to 6, one voxel and object at a time; probabilities (n, K), label (n,)."""
    error, voxels = 0.0, 0
    for p, q, y in zip(first, second, label, strict=True):
        for k in range(1, first.shape[1]):
            conditions = [scores.argmax() == k and scores[k] >= threshold for scores in (p, q)]
            if sum(conditions) == 1 or (rule == "or" and sum(conditions) == 2):
                error += (p[k] - (y == k)) ** 2 + (q[k] - (y == k)) ** 2
                voxels += 1
    return error / max(voxels, 1)


@pytest.mark.parametrize("rule", ["xor", "or"])
@pytest.mark.parametrize("first, second", list(itertools.product((SURE, UNSURE, BACKGROUND), repeat=2)))
@pytest.mark.parametrize("label", [0, 1])
def test_truth_table(rule: str, first: float, second: float, label: int) -> None:
    one, both = (first == SURE) != (second == SURE), first == second == SURE
    expected = (first - label) ** 2 + (second - label) ** 2 if one or (both and rule == "or") else 0.0
    loss = consistency_regularisation(logits_of(first), logits_of(second), torch.tensor([[[label]]]), rule=rule)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("rule", ["xor", "or"])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_equals_the_loop_over_voxels_and_objects(num_classes: int, rule: str) -> None:
    generator = np.random.default_rng(0)
    first, second = (generator.normal(size=(2, 3, 4, 2, num_classes)).astype(np.float32) for _ in range(2))
    label = generator.integers(num_classes, size=(2, 3, 4, 2))
    tensors = [torch.from_numpy(logits).movedim(-1, 1) for logits in (first, second)]
    loss = consistency_regularisation(*tensors, torch.from_numpy(label)[:, None].float(), threshold=0.3, rule=rule)
    probs = [np.exp(z) / np.exp(z).sum(-1, keepdims=True) for z in (first, second)]
    flat = [p.reshape(-1, num_classes) for p in probs]
    assert loss.item() == pytest.approx(by_voxel(*flat, label.ravel(), 0.3, rule), rel=1e-5)
    assert loss > 0


def test_threshold_decides_who_is_sure() -> None:
    voxel = logits_of(UNSURE), logits_of(BACKGROUND), torch.tensor([[[1]]])
    assert consistency_regularisation(*voxel, threshold=0.6) == 0
    assert consistency_regularisation(*voxel, threshold=0.5) > 0


def test_two_networks_sure_of_two_objects_are_both_corrected() -> None:
    first, second = (torch.tensor(probs).log().view(1, 3, 1) for probs in ([0.1, 0.8, 0.1], [0.1, 0.2, 0.7]))
    loss = consistency_regularisation(first, second, torch.tensor([[[1]]]))
    # voxel and object 1: 0.2^2 + 0.8^2, object 2: 0.1^2 + 0.7^2
    assert loss.item() == pytest.approx((0.04 + 0.64 + 0.01 + 0.49) / 2)


def test_gradient_reaches_both_networks_where_they_differ_and_nowhere_else() -> None:
    first, second = logits_of(SURE, SURE, UNSURE).requires_grad_(), logits_of(BACKGROUND, SURE, UNSURE).requires_grad_()
    consistency_regularisation(first, second, torch.tensor([[[0, 0, 0]]])).backward()
    for logits in (first, second):
        assert logits.grad[..., 0].abs().min() > 0
        assert not logits.grad[..., 1:].any()
    assert first.grad[0, 1, 0] > 0  # descent lowers the object's logit, as the label wants


def test_without_a_voxel_the_loss_is_zero_with_a_graph() -> None:
    first = logits_of(SURE).requires_grad_()
    loss = consistency_regularisation(first, logits_of(SURE), torch.tensor([[[1]]]))
    loss.backward()
    assert loss == 0 and not first.grad.any()


def test_literal_form_compares_logits() -> None:
    first, second = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[0.5], [0.4]]])
    loss = consistency_regularisation(first, second, torch.tensor([[[1]]]), quantity="logit")
    assert loss.item() == pytest.approx((2 - 1) ** 2 + (0.4 - 1) ** 2)


def test_half_precision_is_computed_in_float32() -> None:
    first, second = logits_of(SURE).bfloat16(), logits_of(BACKGROUND).bfloat16()
    assert consistency_regularisation(first, second, torch.tensor([[[1]]])).dtype == torch.float32


@pytest.mark.parametrize(
    "settings, words",
    [({"rule": "and"}, 'rule "and" is unknown'), ({"quantity": "label"}, 'quantity "label" is unknown')],
)
def test_unknown_words_are_errors(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        consistency_regularisation(logits_of(SURE), logits_of(SURE), torch.tensor([[[1]]]), **settings)


def test_shapes_that_would_broadcast_are_errors() -> None:
    pair = torch.zeros(2, 2, 4, 4)
    with pytest.raises(ValueError, match=r"label has the shape \(1, 1, 4, 4\).*has to be \(2, 1, 4, 4\)"):
        consistency_regularisation(pair, pair, torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match=r"two logits have the shapes \(2, 2, 4, 4\) and \(1, 2, 4, 4\)"):
        consistency_regularisation(pair, pair[:1], torch.zeros(2, 1, 4, 4))
