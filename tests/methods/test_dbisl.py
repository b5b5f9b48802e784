# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from medssl_components.methods import DBiSL
from medssl_components.networks import DualTaskOutput, DualTaskVNet
from medssl_components.ops import SignedDistanceMap

LABELED, UNLABELED, SHAPE = 2, 3, (4, 5, 6)
UNLABELED_TERMS = (
    "segmentation_consistency",
    "distance_consistency",
    "s2r_consistency",
    "r2s_consistency",
    "pseudo_label",
)
WEIGHTS = (
    "distance_weight",
    "s2r_supervised_weight",
    "r2s_supervised_weight",
    "segmentation_consistency_weight",
    "distance_consistency_weight",
    "s2r_consistency_weight",
    "r2s_consistency_weight",
)
PARTS = ("segmentation_loss", *(name.replace("_weight", "_loss") for name in WEIGHTS), "pseudo_label_loss")


class FixedOutputs(nn.Module):
    """A network that answers the same to all images; its outputs are leaves, which keep what a term teaches them."""

    def __init__(self, *outputs: tuple[torch.Tensor, torch.Tensor]) -> None:
        super().__init__()
        self.outputs = tuple(DualTaskOutput(*(part.requires_grad_() for part in output)) for output in outputs)
        self.num_classes = outputs[0][0].shape[1]

    def dual_task(self, image: torch.Tensor) -> tuple[DualTaskOutput, ...]:
        assert len(image) == len(self.outputs[0].logits)
        return self.outputs

    def gradients(self) -> dict[str, torch.Tensor]:
        """Return the gradient of each output, zeros where none came."""
        return {
            f"{which}_{name}": torch.zeros_like(part) if part.grad is None else part.grad
            for which, output in zip(("first", "second"), self.outputs, strict=True)
            for name, part in output._asdict().items()
        }


class CrossEntropy(nn.Module):
    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits, label[:, 0].long())


class FourMaps(FixedOutputs):
    """One patch of which each row says, for one voxel, the classes by logits and by distances of both decoders."""

    def __init__(self, votes: list[list[int]], num_classes: int = 2, patches: int = 1) -> None:
        classes = torch.tensor(votes).T.reshape(4, 1, 1, 1, len(votes)).expand(-1, patches, -1, -1, -1)
        one_hot = functional.one_hot(classes, num_classes).movedim(-1, 2).float()
        super().__init__(*((2 * one_hot[w], 0.25 - 0.5 * one_hot[w + 2, :, 1:]) for w in range(2)))


def fixed_outputs(num_classes: int = 2, batch: int = LABELED + UNLABELED) -> FixedOutputs:
    """Draw outputs that agree in part, as those of a network in training do."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(batch, num_classes, *SHAPE, generator=generator)
    noisy = [truth + 0.5 * torch.randn(truth.shape, generator=generator) for _ in range(4)]
    distances = [torch.tanh(0.5 * (of_w[:, :1] - of_w[:, 1:])) for of_w in noisy[2:]]
    return FixedOutputs((2 * noisy[0], distances[0]), (2 * noisy[1], distances[1]))


def opposite(probs: torch.Tensor) -> torch.Tensor:
    """A stand-in for T_s2r whose values a reference knows."""
    return 1 - 2 * probs


def constant(value: float) -> Callable[[float], float]:
    return lambda progress: value


def streams(num_classes: int = 2) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    label = torch.randint(num_classes, (LABELED, 1, *SHAPE), generator=generator, dtype=torch.uint8)
    labeled = {"image": torch.randn(LABELED, 1, *SHAPE, generator=generator), "label": label}
    return labeled, {"image": torch.randn(UNLABELED, 1, *SHAPE, generator=generator)}


def method(network: nn.Module, **options: object) -> DBiSL:
    defaults = {
        "signed_distance_map": opposite,
        "pseudo_label_weight": constant(1.0),
        "consistency_weight": constant(0.5),
        "k": 5.0,
    }
    return DBiSL(network, CrossEntropy(), **{**defaults, **options})


def only(term: str, **options: object) -> dict[str, object]:
    """Give all terms but one the weight 0, save where the options say otherwise."""
    weights = {name: float(name == f"{term}_weight") for name in WEIGHTS}
    pseudo_label_weight = constant(float(term == "pseudo_label"))
    return {**weights, "supervised_weight": 0.0, "pseudo_label_weight": pseudo_label_weight, **options}


def small_network(**settings: object) -> DualTaskVNet:
    torch.manual_seed(0)
    return DualTaskVNet(**{"base_channels": 2, "num_convs": (1, 1), "strides": (2,), "dropout": 0.0, **settings})


def images_and_label(seed: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(4, 1, 4, 4, 6, generator=generator)
    return {"image": images[:2], "label": (images[:2] > 0).to(torch.uint8)}, {"image": images[2:]}


# A reference in NumPy


def softmax(logits: np.ndarray) -> np.ndarray:
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponential / exponential.sum(axis=1, keepdims=True)


def cross_entropy(probs: np.ndarray, label: np.ndarray) -> np.ndarray:
    return -np.log(np.take_along_axis(probs, label[:, None], axis=1)[:, 0])


def reference(network: FixedOutputs, label: torch.Tensor, k: float) -> dict[str, float]:
    """Compute each part of the loss as the equations have it, in float64, with `opposite` as T_s2r."""
    y = [softmax(output.logits.detach().double().numpy()) for output in network.outputs]
    r = [output.distance.detach().double().numpy() for output in network.outputs]
    true_y, count = label[:, 0].long().numpy(), len(label)
    true_r = np.stack([1.0 - 2.0 * (true_y == c) for c in range(1, network.num_classes)], axis=1)
    r2s = [softmax(np.concatenate([0 * of_w[:, :1], -k * of_w], axis=1)) for of_w in r]
    s2r = [1 - 2 * of_w[:, 1:] for of_w in y]
    votes = [of_w.argmax(axis=1) for of_w in y]
    votes += [np.where(of_w.min(axis=1) < 0, of_w.argmin(axis=1) + 1, 0) for of_w in r]
    mask = np.all([vote == votes[0] for vote in votes], axis=0)
    pseudo_label = (y[0] + y[1]).argmax(axis=1)
    both = range(2)
    return {
        "segmentation_loss": sum(cross_entropy(y[w][:count], true_y).mean() for w in both),
        "distance_loss": sum(((r[w][:count] - true_r) ** 2).mean() for w in both),
        "s2r_supervised_loss": sum(((s2r[w][:count] - true_r) ** 2).mean() for w in both),
        "r2s_supervised_loss": sum(cross_entropy(r2s[w][:count], true_y).mean() for w in both),
        "segmentation_consistency_loss": ((y[0] - y[1])[:, 1:] ** 2).mean(),
        "distance_consistency_loss": ((r[0] - r[1]) ** 2).mean(),
        "s2r_consistency_loss": sum(((s2r[w] - r[w]) ** 2).mean() for w in both),
        "r2s_consistency_loss": sum(((r2s[w] - y[w])[:, 1:] ** 2).mean() for w in both),
        "pseudo_label_loss": sum(cross_entropy(y[w], pseudo_label)[mask].mean() for w in both),
        "agreement": mask.mean(),
    }


# What forward returns


def test_returns_a_scalar_loss_and_detached_parts() -> None:
    losses = method(small_network(), signed_distance_map=SignedDistanceMap())(*images_and_label(), progress=1.0)
    assert losses["loss"].shape == () and losses["loss"].requires_grad and losses["loss"].isfinite()
    parts = {name: value for name, value in losses.items() if name != "loss"}
    assert set(parts) == {*PARTS, "agreement", "pseudo_label_weight"}
    assert all(value.shape == () and not value.requires_grad for value in parts.values())


def test_a_method_without_teacher_does_nothing_after_a_step() -> None:
    dbisl = method(small_network())
    dbisl(*images_and_label(), 0.0)["loss"].backward()
    before = {name: value.clone() for name, value in dbisl.state_dict().items()}
    dbisl.after_step()
    assert {f"network.{name}" for name in dbisl.network.state_dict()} == set(before)
    assert all(torch.equal(value, before[name]) for name, value in dbisl.state_dict().items())


# Gradients


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("term", UNLABELED_TERMS)
def test_each_term_alone_teaches_both_decoders_on_unlabelled_volumes(term: str, num_classes: int) -> None:
    network = fixed_outputs(num_classes)
    options = only(term, consistency_weight=constant(1.0), signed_distance_map=SignedDistanceMap(scale=1.0))
    losses = method(network, **options)(*streams(num_classes), progress=0.5)
    assert {name for name in losses if name in PARTS} == {f"{term}_loss"}
    losses["loss"].backward()
    taught = {
        "segmentation_consistency": {"logits"},
        "distance_consistency": {"distance"},
        "s2r_consistency": {"logits", "distance"},
        "r2s_consistency": {"logits", "distance"},
        "pseudo_label": {"logits"},
    }[term]
    for name, gradient in network.gradients().items():
        assert gradient.isfinite().all()
        for patch in gradient[LABELED:]:
            assert bool(patch.abs().sum() > 0) == (name.split("_")[1] in taught), name


def test_the_decoders_move_towards_each_other() -> None:
    """Equation 9 has no target: both sides get the gradient 2 (a - b) / N, with opposite signs."""
    network = fixed_outputs()
    options = {"consistency_weight": constant(1.0), "segmentation_consistency_weight": 1.0}
    method(network, **{**only("distance_consistency"), **options})(*streams(), 0.0)["loss"].backward()
    gradients = network.gradients()
    first, second = (output.distance.detach() for output in network.outputs)
    expected = 2 * (first - second) / first.numel()
    torch.testing.assert_close(gradients["first_distance"], expected)
    torch.testing.assert_close(gradients["second_distance"], -expected)
    first, second = (output.logits.detach().softmax(1)[:, 1:] for output in network.outputs)
    expected = 2 * (first - second) / first.numel()
    torch.testing.assert_close(gradients["first_logits"][:, 1:], expected * first * (1 - first))
    torch.testing.assert_close(gradients["second_logits"][:, 1:], -expected * second * (1 - second))


@pytest.mark.parametrize("term", ["s2r", "r2s"])
def test_the_tasks_move_towards_each_other(term: str) -> None:
    """Equation 10 has no target either: a step along the gradient of one side alone makes the loss smaller."""
    for moved in ("logits", "distance"):
        network = fixed_outputs()
        dbisl = method(network, **only(f"{term}_consistency", consistency_weight=constant(1.0), k=2.0))
        before = dbisl(*streams(), 0.0)["loss"]
        before.backward()
        with torch.no_grad():
            for output in network.outputs:
                getattr(output, moved).sub_(getattr(output, moved).grad, alpha=10.0)
        assert dbisl(*streams(), 0.0)["loss"] < before


@pytest.mark.parametrize("hard", [True, False])
def test_no_gradient_passes_through_the_pseudo_label(hard: bool) -> None:
    """For a fixed target t the gradient of equation 14 is (p - t) M / sum(M), and the distances get none."""
    network = fixed_outputs(num_classes=3)
    dbisl = method(network, **only("pseudo_label", hard_pseudo_labels=hard))
    losses = dbisl(*streams(3), 0.0)
    losses["loss"].backward()
    gradients = network.gradients()
    probs = [output.logits.detach().softmax(1) for output in network.outputs]
    mean = (probs[0] + probs[1]) / 2
    target = functional.one_hot(mean.argmax(1), 3).movedim(-1, 1) if hard else mean
    votes = [label for output in network.outputs for label in output.label_maps()]
    mask = torch.stack([vote == votes[0] for vote in votes]).all(0)
    for which, p in zip(("first", "second"), probs, strict=True):
        torch.testing.assert_close(gradients[f"{which}_logits"], (p - target) * mask / mask.sum())
        assert not gradients[f"{which}_distance"].any()
    cross_entropy = -sum((target * p.log()).sum(1, keepdim=True) for p in probs)
    torch.testing.assert_close(losses["pseudo_label_loss"], (cross_entropy * mask).sum() / mask.sum())


@pytest.mark.parametrize("part", PARTS[:4])
def test_supervision_teaches_labelled_volumes_and_no_others(part: str) -> None:
    def gradients(term: str, supervised_weight: float) -> dict[str, torch.Tensor]:
        network = fixed_outputs()
        weights = {"consistency_weight": constant(0.0), "supervised_weight": supervised_weight}
        transform = SignedDistanceMap(scale=1.0)
        losses = method(network, **only(term, **weights), signed_distance_map=transform)(*streams(), 0.0)
        if losses["loss"].requires_grad:
            losses["loss"].backward()
        return network.gradients()

    # the segmentation loss has no weight of its own
    rest = gradients("segmentation", float(part != "segmentation_loss"))
    taught = "distance" if part in ("distance_loss", "r2s_supervised_loss") else "logits"
    for name, gradient in gradients(part.replace("_loss", ""), 1.0).items():
        assert not gradient[LABELED:].any()
        for patch in (gradient - rest[name])[:LABELED]:
            assert bool(patch.any()) == name.endswith(taught), name


def test_every_parameter_of_a_network_learns() -> None:
    network = small_network()
    method(network, signed_distance_map=SignedDistanceMap())(*images_and_label(), 1.0)["loss"].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


# Values


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("k", [2.0, 5.0])
def test_each_part_equals_the_reference(num_classes: int, k: float) -> None:
    network = fixed_outputs(num_classes)
    labeled, unlabeled = streams(num_classes)
    losses = method(network, k=k)(labeled, unlabeled, 0.0)
    expected = reference(network, labeled["label"], k)
    assert 0.05 < expected["agreement"] < 0.95
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4), name


def test_loss_is_the_weighted_sum_of_its_parts() -> None:
    network = fixed_outputs()
    labeled, unlabeled = streams()
    weights = {name: 0.5 + index for index, name in enumerate(WEIGHTS)}
    schedules = {"pseudo_label_weight": constant(7.0), "consistency_weight": constant(0.3)}
    losses = method(network, supervised_weight=0.2, **weights, **schedules)(labeled, unlabeled, 0.0)
    parts = reference(network, labeled["label"], 5.0)
    supervised = parts["segmentation_loss"] + sum(
        weights[name] * parts[name.replace("_weight", "_loss")] for name in WEIGHTS[:3]
    )
    consistency = sum(weights[name] * parts[name.replace("_weight", "_loss")] for name in WEIGHTS[3:])
    expected = 0.2 * supervised + 0.3 * consistency + 7.0 * parts["pseudo_label_loss"]
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-4)
    assert losses["pseudo_label_weight"].item() == 7.0


def test_defaults_are_those_of_equation_15() -> None:
    network = fixed_outputs()
    labeled, unlabeled = streams()
    dbisl = DBiSL(network, CrossEntropy(), opposite, constant(0.25), constant(0.5))
    parts = reference(network, labeled["label"], 100.0)
    expected = 0.5 * sum(parts[name] for name in PARTS[:-1]) + 0.25 * parts["pseudo_label_loss"]
    assert dbisl(labeled, unlabeled, 0.0)["loss"].item() == pytest.approx(expected, rel=1e-4)


def test_distances_of_the_real_transform_belong_to_their_decoder_and_patch() -> None:
    network, transform = fixed_outputs(num_classes=3), SignedDistanceMap(scale=1.0)
    labeled, unlabeled = streams(3)
    losses = method(network, signed_distance_map=transform)(labeled, unlabeled, 0.0)
    true_maps = [
        transform((patch == torch.tensor([1, 2]).reshape(2, 1, 1, 1)).float()[None]) for patch in labeled["label"]
    ]
    regression = supervised = consistency = 0.0
    for logits, distance in network.outputs:
        maps = [transform(patch.softmax(0)[None, 1:]) for patch in logits]
        assert all(of_class.min() < 0 < of_class.max() for patch in maps for of_class in patch[0])
        regression += functional.mse_loss(distance[:LABELED], torch.cat(true_maps))
        supervised += functional.mse_loss(torch.cat(maps[:LABELED]), torch.cat(true_maps))
        consistency += functional.mse_loss(torch.cat(maps), distance)
    torch.testing.assert_close(losses["distance_loss"], regression.detach())
    torch.testing.assert_close(losses["s2r_supervised_loss"], supervised.detach())
    torch.testing.assert_close(losses["s2r_consistency_loss"], consistency.detach())


# Pseudo-labels


def test_one_dissenting_map_of_four_takes_the_voxel_out() -> None:
    votes = [[1, 1, 1, 1], [0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0], [0, 0, 0, 0]]
    network = FourMaps(votes, patches=2)
    labeled = {"image": torch.zeros(1, 1, 1, 1, 6), "label": torch.zeros(1, 1, 1, 1, 6)}
    losses = method(network, **only("pseudo_label"))(labeled, {"image": labeled["image"]}, 0.0)
    assert losses["agreement"].item() == pytest.approx(2 / 6)
    assert losses["pseudo_label_loss"].item() == pytest.approx(2 * np.log(1 + np.exp(-2)), rel=1e-5)
    losses["loss"].backward()
    for gradient in (network.gradients()[f"{which}_logits"] for which in ("first", "second")):
        assert gradient.abs().sum((0, 1)).flatten().gt(0).tolist() == [True, False, False, False, False, True]


def test_without_votes_of_the_distances_only_the_classes_must_agree() -> None:
    network = FourMaps([[1, 1, 1, 1], [0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]])
    labeled = {"image": torch.zeros(1, 1, 1, 1, 5), "label": torch.zeros(1, 1, 1, 1, 5)}
    losses = method(network, **only("pseudo_label"), distances_vote=False)(labeled, None, 0.0)
    assert losses["agreement"].item() == pytest.approx(3 / 5)
    losses["loss"].backward()
    assert network.gradients()["first_logits"].abs().sum(1).flatten().gt(0).tolist() == [True, False, False, True, True]


def test_maps_of_different_objects_do_not_agree() -> None:
    network = FourMaps([[2, 2, 2, 2], [1, 1, 1, 2], [2, 2, 1, 1], [1, 2, 1, 2], [0, 0, 0, 0]], num_classes=3)
    labeled = {"image": torch.zeros(1, 1, 1, 1, 5), "label": torch.zeros(1, 1, 1, 1, 5)}
    losses = method(network, **only("pseudo_label"))(labeled, None, 0.0)
    assert losses["agreement"].item() == pytest.approx(2 / 5)
    assert losses["pseudo_label_loss"].item() == pytest.approx(2 * np.log(1 + 2 * np.exp(-2)), rel=1e-5)


def test_no_agreement_at_all_is_a_loss_of_zero() -> None:
    network = FourMaps([[0, 1, 1, 1], [1, 0, 1, 1]])
    labeled = {"image": torch.zeros(1, 1, 1, 1, 2), "label": torch.zeros(1, 1, 1, 1, 2)}
    losses = method(network, **only("pseudo_label"))(labeled, None, 0.0)
    assert losses["pseudo_label_loss"].item() == losses["agreement"].item() == 0
    losses["loss"].backward()
    assert not any(gradient.any() for gradient in network.gradients().values())


def test_pseudo_labels_of_labelled_volumes_can_be_left_out() -> None:
    network = fixed_outputs()
    labeled, unlabeled = streams()
    dbisl = method(network, **only("pseudo_label"), pseudo_labels_on_labeled=False)
    losses = dbisl(labeled, unlabeled, 0.0)
    losses["loss"].backward()
    for which in ("first", "second"):
        gradient = network.gradients()[f"{which}_logits"]
        assert not gradient[:LABELED].any()
        assert all(patch.any() for patch in gradient[LABELED:])
    others = FixedOutputs(*(tuple(part.detach()[LABELED:].clone() for part in output) for output in network.outputs))
    expected = reference(others, torch.zeros(UNLABELED, 1, *SHAPE), 5.0)
    assert losses["pseudo_label_loss"].item() == pytest.approx(expected["pseudo_label_loss"], rel=1e-4)
    assert losses["agreement"].item() == pytest.approx(expected["agreement"])


# Patches without distances


@pytest.mark.parametrize("filled", [0, 1])
def test_a_patch_in_which_a_class_is_empty_or_full_is_left_out_of_the_terms_with_s2r(filled: int) -> None:
    network, transform = fixed_outputs(), SignedDistanceMap(scale=1.0)
    first, second = network.outputs
    with torch.no_grad():
        first.logits[0] = first.logits[-1] = torch.tensor([-4.0, 4.0]).roll(1 - filled).reshape(2, 1, 1, 1)
    labeled, unlabeled = streams()
    losses = method(network, **only("s2r_consistency"), signed_distance_map=transform)(labeled, unlabeled, 0.0)
    maps = [transform(output.logits.softmax(1)[:, 1:]) for output in network.outputs]
    expected = functional.mse_loss(maps[0][1:-1], first.distance[1:-1]) + functional.mse_loss(maps[1], second.distance)
    torch.testing.assert_close(losses["s2r_consistency_loss"], expected.detach())
    losses["loss"].backward()
    gradients = network.gradients()
    for patch, taught in enumerate([False, True, True, True, False]):
        assert bool(gradients["first_logits"][patch].any()) == bool(gradients["first_distance"][patch].any()) == taught
        assert gradients["second_logits"][patch].any() and gradients["second_distance"][patch].any()

    true_maps = transform(labeled["label"].float())
    losses = method(network, signed_distance_map=transform)(labeled, unlabeled, 0.0)
    expected = functional.mse_loss(maps[0][1:2], true_maps[1:]) + functional.mse_loss(maps[1][:2], true_maps)
    torch.testing.assert_close(losses["s2r_supervised_loss"], expected.detach())


def test_an_empty_class_leaves_the_patch_its_other_class() -> None:
    network, transform = fixed_outputs(num_classes=3), SignedDistanceMap(scale=1.0)
    first, second = network.outputs
    with torch.no_grad():
        first.logits[3, 1] = -9.0
    losses = method(network, **only("s2r_consistency"), signed_distance_map=transform)(*streams(3), 0.0)
    expected = 0.0
    for output in network.outputs:
        errors = (transform(output.logits.softmax(1)[:, 1:]) - output.distance).square().mean((2, 3, 4)).flatten()
        counted = [value for index, value in enumerate(errors) if output is second or index != 3 * 2]
        expected = expected + torch.stack(counted).mean()
    torch.testing.assert_close(losses["s2r_consistency_loss"], expected.detach())


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.3])
@pytest.mark.parametrize("logits", [(60.0, -60.0), (-60.0, 60.0), (0.0, 0.0)])
def test_gradients_stay_finite_where_all_patches_are_empty_or_full(logits: tuple[float, float], scale: float) -> None:
    network = fixed_outputs()
    with torch.no_grad():
        for output in network.outputs:
            output.logits.copy_(torch.tensor(logits).reshape(1, 2, 1, 1, 1).expand_as(output.logits))
    transform = SignedDistanceMap(scale=scale)
    losses = method(network, signed_distance_map=transform)(*streams(), 0.0)
    assert losses["s2r_consistency_loss"] == losses["s2r_supervised_loss"] == 0
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    assert all(gradient.isfinite().all() for gradient in network.gradients().values())


# Streams, settings and state


@pytest.mark.parametrize(
    "options, absent",
    [
        *(({name: 0.0}, {name.replace("_weight", "_loss")}) for name in WEIGHTS),
        ({"supervised_weight": 0.0}, set(PARTS[:4])),
        ({"consistency_weight": constant(0.0)}, set(PARTS[4:8])),
        ({"pseudo_label_weight": constant(0.0)}, {"pseudo_label_loss"}),
        ({"distance_weight": 0.0, "s2r_supervised_weight": 0.0}, {"distance_loss", "s2r_supervised_loss"}),
        (
            {"s2r_supervised_weight": 0.0, "s2r_consistency_weight": 0.0},
            {"s2r_supervised_loss", "s2r_consistency_loss"},
        ),
    ],
)
def test_a_weight_of_zero_leaves_its_part_out_and_the_others_as_they_are(
    options: dict[str, object], absent: set[str]
) -> None:
    network = fixed_outputs()
    complete, losses = (method(network, **chosen)(*streams(), 0.0) for chosen in ({}, options))
    assert {name for name in losses if name in PARTS} == set(PARTS) - absent
    assert all(torch.equal(losses[name], complete[name]) for name in set(PARTS) - absent)
    assert losses["loss"] < complete["loss"]


def test_no_transform_is_computed_where_no_term_needs_it() -> None:
    def fail(probs: torch.Tensor) -> torch.Tensor:
        raise AssertionError

    weights = {"distance_weight": 0.0, "s2r_supervised_weight": 0.0, "s2r_consistency_weight": 0.0}
    assert method(fixed_outputs(), signed_distance_map=fail, **weights)(*streams(), 0.0)["loss"].isfinite()


def test_progress_reaches_both_schedules() -> None:
    network = fixed_outputs()
    ramps = {"pseudo_label_weight": lambda progress: 2 * progress, "consistency_weight": lambda progress: 1 - progress}
    dbisl = method(network, supervised_weight=0.0, **ramps)
    for progress in (0.0, 0.25, 1.0):
        losses = dbisl(*streams(), progress)
        parts = reference(network, streams()[0]["label"], 5.0)
        consistency = sum(parts[name] for name in PARTS[4:8])
        expected = (1 - progress) * consistency + 2 * progress * parts["pseudo_label_loss"]
        assert losses["loss"].item() == pytest.approx(expected, rel=1e-4)
        assert losses["pseudo_label_weight"].item() == 2 * progress


@pytest.mark.parametrize("num_classes", [2, 3])
def test_distances_beside_the_label_are_used_as_they_are(num_classes: int) -> None:
    network = fixed_outputs(num_classes)
    labeled, unlabeled = streams(num_classes)
    distance = torch.rand(LABELED, num_classes - 1, *SHAPE, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with_distance = {**labeled, "label": torch.cat([labeled["label"].float(), distance], dim=1)}
    plain, losses = (method(network)(stream, unlabeled, 0.0) for stream in (labeled, with_distance))
    distances = [output.distance[:LABELED] for output in network.outputs]
    maps = [opposite(output.logits[:LABELED].softmax(1)[:, 1:]) for output in network.outputs]
    expected = sum(functional.mse_loss(of_w, distance) for of_w in distances)
    torch.testing.assert_close(losses["distance_loss"], expected.detach())
    expected = sum(functional.mse_loss(of_w, distance) for of_w in maps)
    torch.testing.assert_close(losses["s2r_supervised_loss"], expected.detach())
    for name in set(PARTS) - {"distance_loss", "s2r_supervised_loss"}:
        assert torch.equal(losses[name], plain[name])


@pytest.mark.parametrize("pseudo_labels_on_labeled", [True, False])
def test_without_unlabelled_volumes_the_labelled_ones_serve_all_terms(pseudo_labels_on_labeled: bool) -> None:
    network = fixed_outputs(batch=LABELED)
    labeled, _ = streams()
    losses = method(network, pseudo_labels_on_labeled=pseudo_labels_on_labeled)(labeled, None, 1.0)
    expected = reference(network, labeled["label"], 5.0)
    if not pseudo_labels_on_labeled:
        expected.update(pseudo_label_loss=0.0, agreement=0.0)
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4), name
    losses["loss"].backward()
    assert all(gradient.isfinite().all() for gradient in network.gradients().values())


def test_both_streams_pass_the_network_together() -> None:
    """Statistics of batch normalisation are of all patches."""
    network, seen = small_network(), []
    network.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    labeled, unlabeled = images_and_label()
    method(network)(labeled, unlabeled, 0.0)
    assert len(seen) == 1
    assert torch.equal(seen[0], torch.cat([labeled["image"], unlabeled["image"]]))


def test_unlabelled_volumes_need_no_label_and_a_label_changes_nothing() -> None:
    labeled, unlabeled = images_and_label()
    with_label = {**unlabeled, "label": torch.ones(2, 2, 4, 4, 6)}
    without, with_it = (method(small_network())(labeled, stream, 1.0) for stream in (unlabeled, with_label))
    assert without.keys() == with_it.keys()
    assert all(torch.equal(without[name], with_it[name]) for name in without)
    other = {"image": labeled["image"], "label": 1 - labeled["label"]}
    assert method(small_network())(other, unlabeled, 1.0)["loss"] != without["loss"]


def test_half_precision_outputs_are_compared_in_float32() -> None:
    half = FixedOutputs(*(tuple(part.detach().bfloat16() for part in output) for output in fixed_outputs().outputs))
    same = FixedOutputs(*(tuple(part.detach().float() for part in output) for output in half.outputs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = method(half, signed_distance_map=SignedDistanceMap())(*streams(), 0.0)
    expected = method(same, signed_distance_map=SignedDistanceMap())(*streams(), 0.0)
    assert losses["loss"].dtype == torch.float32
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)


def test_state_dict_round_trip() -> None:
    first, second = method(small_network()), method(small_network(initialisation="default"))
    first(*images_and_label(seed=1), 0.0)  # moves the statistics of batch normalisation
    streams_ = images_and_label()
    assert first.eval()(*streams_, 0.0)["loss"] != second.eval()(*streams_, 0.0)["loss"]
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(*streams_, 0.0)["loss"], second(*streams_, 0.0)["loss"])
    patch = streams_[1]["image"]
    assert torch.equal(first.network(patch), second.network(patch))
