# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceCELoss

from medssl_components.losses import difficulty_weights
from medssl_components.losses.difficulty_weights import DifficultyWeights, weighted_dice_cross_entropy


def logits_of(label: torch.Tensor, num_classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(label[:, 0], num_classes).movedim(-1, 1).float()


def volume(*classes: int) -> torch.Tensor:
    return torch.tensor(classes).reshape(1, 1, -1)


def update(weights: DifficultyWeights, label: torch.Tensor, predicted: torch.Tensor) -> None:
    weights.update(logits_of(predicted, weights.num_classes), label)


LABEL, GOOD, BETTER = volume(0, 0, 1, 1, 2, 2), volume(0, 0, 1, 0, 2, 1), volume(0, 0, 1, 1, 2, 1)
MISSED = volume(0, 0, 0, 0, 0, 0)


class Reference:
    """Recipe of the weights, one class at a time and in double precision."""

    def __init__(self, num_classes: int) -> None:
        self.state = [{"last": 1e-8, "learned": 0.0, "unlearned": 0.0, "mistaken": 1.0} for _ in range(num_classes)]

    def update(self, label: torch.Tensor, predicted: torch.Tensor, absent: str = "skip") -> None:
        for k, state in enumerate(self.state):
            true, found = (label == k).sum().item(), (predicted == k).sum().item()
            both = ((label == k) & (predicted == k)).sum().item()
            if absent == "skip" and true + found == 0:
                continue
            dice = min(max((2 * both + 1e-8) / (true + found + 2e-8), 1e-8), 1.0)
            delta, ratio = dice - state["last"], math.log(dice / state["last"])
            news = {"learned": max(delta, 0) * ratio, "unlearned": min(delta, 0) * ratio, "mistaken": 1 - dice}
            for name, value in news.items():
                state[name] = 49 / 50 * state[name] + 1 / 50 * value
            state["last"] = dice

    def weights(self, mistakes: bool) -> list[float]:
        def weight(state: dict[str, float]) -> float:
            difficulty = ((state["unlearned"] + 1e-8) / (state["learned"] + 1e-8)) ** (1 / 5)
            factor = len(self.state) * state["mistaken"] if mistakes else 1
            return factor * min(max(difficulty, 0.02), 30)

        return [weight(state) for state in self.state]


@pytest.mark.parametrize("mistakes, expected", [(False, 1.0), (True, 4.0)])
def test_weights_start_at_1_with_mistakes_at_the_number_of_classes(mistakes: bool, expected: float) -> None:
    weights = DifficultyWeights(4, mistakes=mistakes)()
    assert weights.tolist() == [expected] * 4 and not weights.requires_grad


@pytest.mark.parametrize("mistakes, expected", [(False, [1, 1, 1]), (True, [0.03, 0.75, 0.75])])
def test_equal_difficulties_give_1_or_classes_times_the_share_of_mistakes(mistakes: bool, expected: list) -> None:
    """A background of which little is mistaken weighs as much as an object only without the mistakes."""
    weights = DifficultyWeights(3, mistakes=mistakes)
    weights.mistaken.copy_(torch.tensor([0.01, 0.25, 0.25]))
    assert weights().tolist() == pytest.approx(expected)
    weights.learned.fill_(0.3)
    weights.unlearned.fill_(0.3)
    assert weights().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("learned, unlearned, expected", [(0.1, 0.0, 0.040), (0.0, 0.1, 25.1), (0.1, 0.1, 1.0)])
def test_range_of_the_difficulty(learned: float, unlearned: float, expected: float) -> None:
    weights = DifficultyWeights(1)
    weights.learned.fill_(learned)
    weights.unlearned.fill_(unlearned)
    assert weights().item() == pytest.approx(expected, rel=0.01)


def test_difficulty_is_clamped() -> None:
    weights = DifficultyWeights(1)
    weights.learned.fill_(1e3)
    assert weights().item() == pytest.approx(0.02)
    weights.learned.zero_()
    weights.unlearned.fill_(1e3)
    assert weights().item() == pytest.approx(30)


def test_first_step_by_hand() -> None:
    weights = DifficultyWeights(3)
    update(weights, LABEL, GOOD)  # Dice of class 1: 2 * 1 / (2 + 2)
    assert weights.dice[1].item() == pytest.approx(0.5)
    assert weights.learned[1].item() == pytest.approx(0.5 * math.log(0.5e8) / 50)
    assert weights.unlearned[1].item() == 0
    assert weights.mistaken[1].item() == pytest.approx(0.98 + 0.02 * 0.5)


@pytest.mark.parametrize("mistakes", [False, True])
@pytest.mark.parametrize("absent", ["skip", "half"])
def test_a_sequence_equals_the_recipe(absent: str, mistakes: bool) -> None:
    weights, reference = DifficultyWeights(4, absent=absent, mistakes=mistakes), Reference(4)  # class 3 is never there
    for predicted in (GOOD, MISSED, BETTER, LABEL, GOOD, BETTER, MISSED, GOOD):
        update(weights, LABEL, predicted)
        reference.update(LABEL, predicted, absent)
        assert weights().tolist() == pytest.approx(reference.weights(mistakes), rel=1e-4)
    assert weights().isfinite().all()


def test_a_class_that_falls_behind_weighs_more_than_one_that_improves() -> None:
    weights = DifficultyWeights(3)
    for predicted in (volume(0, 0, 1, 1, 2, 0), volume(0, 0, 1, 0, 2, 2)):  # class 1 falls, class 2 rises
        update(weights, LABEL, predicted)
    assert weights()[1] > weights()[2]


def test_a_class_in_neither_label_nor_prediction_keeps_its_state() -> None:
    weights = DifficultyWeights(3)
    update(weights, LABEL, GOOD)
    before = [buffer[2].clone() for buffer in weights.buffers()]
    update(weights, volume(0, 0, 1, 1), volume(0, 1, 1, 1))
    assert [buffer[2].item() for buffer in weights.buffers()] == [value.item() for value in before]
    assert weights.dice[1].item() == pytest.approx(0.8)
    update(weights, volume(0, 0, 1, 1), volume(0, 2, 1, 1))  # predicted only: it counts, with a Dice of 0
    assert weights.dice[2].item() == pytest.approx(1e-8)
    exact = DifficultyWeights(3, absent="half")
    update(exact, volume(0, 0, 1, 1), volume(0, 1, 1, 1))
    assert exact.dice[2].item() == pytest.approx(0.5)


def test_a_dice_of_zero_for_ever_is_finite() -> None:
    weights = DifficultyWeights(3, mistakes=True)
    for _ in range(3):
        update(weights, LABEL, MISSED)
    assert weights().isfinite().all()
    assert weights.dice[1:].tolist() == pytest.approx([1e-8] * 2)
    assert weights()[1:].tolist() == pytest.approx([3.0] * 2)  # nothing learned, nothing unlearned, all mistaken
    update(weights, LABEL, LABEL)
    update(weights, LABEL, MISSED)
    assert weights().isfinite().all() and (weights.unlearned[1:] > 0).all()


def test_state_is_in_buffers_and_resumes() -> None:
    one, other = DifficultyWeights(3), DifficultyWeights(3)
    update(one, LABEL, GOOD)
    assert set(one.state_dict()) == {"dice", "learned", "unlearned", "mistaken"}
    other.load_state_dict(one.state_dict())
    for weights in (one, other):
        update(weights, LABEL, BETTER)
    assert torch.equal(one(), other())
    assert list(one.parameters()) == []


def test_batch_and_space_are_pooled_and_logits_need_no_gradient() -> None:
    weights, pooled = DifficultyWeights(3), DifficultyWeights(3)
    update(weights, LABEL.reshape(3, 1, 1, 2), GOOD.reshape(3, 1, 1, 2))
    update(pooled, LABEL, GOOD)
    assert torch.equal(weights.dice, pooled.dice)
    weights.update(logits_of(GOOD, 3).requires_grad_().bfloat16(), LABEL.to(torch.uint8))
    assert not weights().requires_grad


def test_counts_of_all_processes_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    there = torch.tensor([[2, 2, 2], [4, 4, 4]])  # the other process found all voxels of each class
    monkeypatch.setattr(difficulty_weights.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(difficulty_weights.distributed, "all_reduce", lambda counts: counts.add_(there))
    weights = DifficultyWeights(3)
    update(weights, LABEL, MISSED)
    assert weights.dice.tolist() == pytest.approx([8 / 12, 4 / 6, 4 / 6])


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"window": 0.5}, "window is 0.5"),
        ({"absent": "one"}, 'absent "one" is unknown'),
        ({"smallest_dice": 0.0}, "above 0"),
        ({"smooth": 0.0}, "above 0"),
    ],
)
def test_settings_out_of_range_are_errors(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DifficultyWeights(3, **settings)


# The weighted loss


def case(num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, num_classes, 3, 4, 2, generator=generator)
    return logits, torch.randint(num_classes, (2, 1, 3, 4, 2), generator=generator)


def by_hand(logits: torch.Tensor, label: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    log_probs, target = logits.double().log_softmax(1), label[:, 0]
    of_voxels = weights.double()[target]
    picked = log_probs.gather(1, label)[:, 0]
    loss = -(of_voxels * picked).sum() / of_voxels.sum()
    for k in range(1, logits.shape[1]):
        p, y = log_probs[:, k].exp(), (target == k).double()
        dice = (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
        loss = loss + weights[k].double() * (1 - dice) / (logits.shape[1] - 1)
    return loss


@pytest.mark.parametrize("num_classes", [2, 4])
def test_weighted_loss_by_hand(num_classes: int) -> None:
    logits, label = case(num_classes)
    weights = torch.arange(1.0, num_classes + 1) / 2
    loss = weighted_dice_cross_entropy(logits, label, weights)
    assert loss.item() == pytest.approx(by_hand(logits, label, weights).item(), rel=1e-5)


@pytest.mark.parametrize("num_classes, weight", [(2, 1.0), (4, 1.0), (4, [0.5, 2.0, 3.0, 0.1])])
def test_weighted_loss_is_monais_with_the_settings_of_the_recipe(num_classes: int, weight: float | list) -> None:
    logits, label = case(num_classes)
    weights = torch.ones(num_classes) * torch.tensor(weight)
    monai = DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=True, smooth_nr=1, smooth_dr=1, weight=weights
    )
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss, expected = weighted_dice_cross_entropy(ours, label, weights), monai(theirs, label)
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_weighted_loss_refuses_shapes_that_would_broadcast() -> None:
    logits, label = case(4)
    with pytest.raises(ValueError, match=r"give \(4,\), one for each class"):
        weighted_dice_cross_entropy(logits, label, torch.ones(1))
    with pytest.raises(ValueError, match="label has the shape"):
        weighted_dice_cross_entropy(logits, label[:, 0], torch.ones(4))
