# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from medssl_components.methods import UGPL
from medssl_components.networks import DualNetwork, SubnetOutput

LABELED, UNLABELED, SHAPE = 2, 3, (4, 5, 6)
OF_LABELED = ("supervised", "consistency")
OF_PSEUDO_LABELS = ("cross_pseudo", "entropy_filtered", "uncertainty")
TERMS = (*OF_LABELED, *OF_PSEUDO_LABELS, "prototype")
PARTS = tuple(f"{term}_loss" for term in TERMS)
LOGGED_WEIGHTS = {"pseudo_supervision_weight", "prototype_weight"}
SETTINGS = {
    "sure": 0.6,
    "consistency_rule": "xor",
    "pseudo_label_threshold": None,
    "entropy_percentile": 70.0,
    "percentile_per_class": False,
    "ignore_rule": "or",
    "entropy_filtered_teacher": "other",
    "temperature": 0.5,
    "prototype_term": "push",
    "prototype_margin": 1.0,
}
OTHER_SETTINGS = (  # a value that is not the default, and the parts that it changes
    ("sure", 0.9, {"consistency_loss"}),
    ("consistency_rule", "or", {"consistency_loss"}),
    ("pseudo_label_threshold", 0.6, {"cross_pseudo_loss"}),
    ("entropy_percentile", 20.0, {"entropy_filtered_loss", "prototype_loss", "kept_of_class"}),
    ("percentile_per_class", True, {"entropy_filtered_loss", "prototype_loss", "kept_of_class"}),
    ("ignore_rule", "and", {"entropy_filtered_loss", "kept_of_class"}),
    ("entropy_filtered_teacher", "own", {"entropy_filtered_loss"}),
    ("temperature", 2.0, {"uncertainty_loss"}),
    ("prototype_term", "off", {"prototype_loss"}),
    ("prototype_term", "pull", {"prototype_loss"}),
    ("prototype_margin", 1.9, {"prototype_loss"}),
)


class FixedOutputs(nn.Module):
    """A network that answers the same to all images; its outputs are leaves, which keep what a term teaches them."""

    def __init__(self, *outputs: tuple[torch.Tensor, torch.Tensor]) -> None:
        super().__init__()
        self.outputs = tuple(SubnetOutput(*(part.detach().requires_grad_() for part in output)) for output in outputs)
        self.num_classes = outputs[0][0].shape[1]

    def both(self, image: torch.Tensor) -> tuple[SubnetOutput, ...]:
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


class Nothing(nn.Module):
    """A supervised loss that teaches nothing, since this term has no weight."""

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return 0.0 * logits.sum()


def fixed_outputs(num_classes: int = 2, batch: int = LABELED + UNLABELED) -> FixedOutputs:
    """Draw outputs that agree in part, and features that tell the classes apart in part, as in training."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(batch, num_classes, *SHAPE, generator=generator)
    truth[:, 0] += 0.5  # there is more background than objects
    outputs = []
    for _ in range(2):
        logits = 2 * (truth + 0.5 * torch.randn(truth.shape, generator=generator))
        noise = torch.rand(batch, 4, *SHAPE, generator=generator)
        outputs.append((logits, functional.pad(truth, (0, 0, 0, 0, 0, 0, 0, 4 - num_classes)).abs() + noise))
    return FixedOutputs(*outputs)


def constant(value: float) -> Callable[[float], float]:
    return lambda progress: value


def streams(num_classes: int = 2) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    label = torch.randint(num_classes, (LABELED, 1, *SHAPE), generator=generator, dtype=torch.uint8)
    labeled = {"image": torch.randn(LABELED, 1, *SHAPE, generator=generator), "label": label}
    return labeled, {"image": torch.randn(UNLABELED, 1, *SHAPE, generator=generator)}


def method(network: nn.Module, **options: object) -> UGPL:
    """Build the method with a contrast that takes all uncertain voxels, so that nothing is random."""
    defaults = {
        "loss": CrossEntropy(),
        "pseudo_supervision_weight": constant(1.0),
        "prototype_weight": constant(1.0),
        "sampled_fraction": 1.0,
        "sampled_limit": 10**6,
    }
    return UGPL(network, **{**defaults, **options})


def only(term: str, **options: object) -> dict[str, object]:
    """Give all terms but one the weight 0, save where the options say otherwise."""
    weights = {f"{name}_weight": float(name == term) for name in ("consistency", *OF_PSEUDO_LABELS)}
    weights["prototype_weight"] = constant(float(term == "prototype"))
    return {**weights, "loss": CrossEntropy() if term == "supervised" else Nothing(), **options}


def small_network(**settings: object) -> DualNetwork:
    torch.manual_seed(0)
    shape = {"base_channels": 2, "num_blocks": (1,), "num_convs": (1, 1), "strides": (2,), "dropout": 0.0}
    return DualNetwork(**{**shape, **settings})


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


def percentile(values: np.ndarray, gamma: float) -> float:
    """Return the smallest value that at least gamma % of the values do not exceed."""
    return np.sort(values.ravel())[max(math.ceil(values.size * gamma / 100), 1) - 1]


def low_entropy(probs: np.ndarray, gamma: float, per_class: bool) -> np.ndarray:
    entropy, classes = -(probs * np.log2(probs)).sum(axis=1), probs.argmax(axis=1)
    if not per_class:
        return entropy <= percentile(entropy, gamma)
    low = np.zeros_like(entropy, dtype=bool)
    for k in np.unique(classes):
        low |= (classes == k) & (entropy <= percentile(entropy[classes == k], gamma))
    return low


def contrast(
    features: np.ndarray, classes: np.ndarray, reliable: np.ndarray, term: str, margin: float, num_classes: int
) -> float:
    """Compute equation 20 with the mean over all uncertain voxels, of features of length 1."""
    rows, classes, reliable = (
        np.moveaxis(features, 1, -1).reshape(-1, features.shape[1]),
        classes.ravel(),
        reliable.ravel(),
    )
    prototypes, loss = {}, 0.0
    for k in range(num_classes):
        if (reliable & (classes == k)).any():
            mean = rows[reliable & (classes == k)].mean(axis=0)
            prototypes[k] = mean / np.linalg.norm(mean)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for k, prototype in prototypes.items():
        uncertain = units[~reliable & (classes == k)]
        if len(uncertain):
            loss += np.linalg.norm(uncertain - prototype, axis=1).mean()
    between = [np.linalg.norm(one - other) for one, other in itertools.combinations(prototypes.values(), 2)]
    if term == "off" or not between:
        return loss
    return loss + np.mean([max(0.0, margin - d) if term == "push" else d for d in between])


def consistency(p: list[np.ndarray], label: np.ndarray, sure: float, rule: str) -> float:
    error = voxels = 0.0
    for k in range(1, p[0].shape[1]):
        conditions = [(of_w.argmax(axis=1) == k) & (of_w[:, k] >= sure) for of_w in p]
        mask = (conditions[0] != conditions[1]) | ((rule == "or") & conditions[0] & conditions[1])
        error += sum((mask * (of_w[:, k] - (label == k)) ** 2).sum() for of_w in p)
        voxels += mask.sum()
    return error / max(voxels, 1)


def reference(network: FixedOutputs, label: torch.Tensor, **settings: object) -> dict[str, float]:
    """Compute each part of the loss as the equations have it, in float64."""
    chosen = {**SETTINGS, **settings}
    z = [output.logits.detach().double().numpy() for output in network.outputs]
    features = [output.features.detach().double().numpy() for output in network.outputs]
    y, count, num_classes = label[:, 0].long().numpy(), len(label), network.num_classes
    p_labeled = [softmax(of_w[:count]) for of_w in z]
    parts = {
        "supervised_loss": sum(cross_entropy(p, y).mean() for p in p_labeled),
        "consistency_loss": consistency(p_labeled, y, chosen["sure"], chosen["consistency_rule"]),
    }
    if len(z[0]) == count:
        return parts
    z, features = [of_w[count:] for of_w in z], [of_w[count:] for of_w in features]
    p = [softmax(of_w) for of_w in z]
    classes = [of_w.argmax(axis=1) for of_w in p]
    both, other = range(2), (1, 0)

    threshold = chosen["pseudo_label_threshold"]
    pseudo = classes
    if threshold is not None:
        pseudo = [np.where(of_w[:, 1:].max(axis=1) > threshold, of_w[:, 1:].argmax(axis=1) + 1, 0) for of_w in p]
    parts["cross_pseudo_loss"] = sum(cross_entropy(p[w], pseudo[other[w]]).mean() for w in both)

    low = [low_entropy(of_w, chosen["entropy_percentile"], chosen["percentile_per_class"]) for of_w in p]
    kept = low[0] & low[1] if chosen["ignore_rule"] == "or" else low[0] | low[1]
    teacher = other if chosen["entropy_filtered_teacher"] == "other" else both
    parts["entropy_filtered_loss"] = sum(cross_entropy(p[w], classes[teacher[w]])[kept].mean() for w in both)

    parts["uncertainty_loss"] = 0.0
    for student, of_teacher in zip(p, (1, 0), strict=True):
        sharp = softmax(z[of_teacher] / chosen["temperature"])
        divergence = (p[of_teacher] * np.log(p[of_teacher] / student)).sum(axis=1)
        soft = -(sharp * np.log(student)).sum(axis=1)
        parts["uncertainty_loss"] += (np.exp(-divergence) * soft + divergence).mean()

    reliable = (classes[0] == classes[1]) & low[0] & low[1]
    parts["prototype_loss"] = sum(
        contrast(features[w], classes[w], reliable, chosen["prototype_term"], chosen["prototype_margin"], num_classes)
        for w in both
    )
    mean_classes = (p[0] + p[1]).argmax(axis=1)
    for k in range(num_classes):
        parts[f"kept_of_class_{k}"] = kept[mean_classes == k].mean()
    return parts


def reliable_voxels(network: FixedOutputs) -> torch.Tensor:
    """Return where both networks predict the same class with low entropy, of the unlabelled patches."""
    p = [softmax(output.logits.detach().double().numpy()[LABELED:]) for output in network.outputs]
    low = [low_entropy(of_w, SETTINGS["entropy_percentile"], False) for of_w in p]
    return torch.from_numpy((p[0].argmax(axis=1) == p[1].argmax(axis=1)) & low[0] & low[1])


# What forward returns


def test_returns_a_scalar_loss_and_detached_parts() -> None:
    losses = method(small_network())(*images_and_label(), progress=1.0)
    assert losses["loss"].shape == () and losses["loss"].requires_grad and losses["loss"].isfinite()
    parts = {name: value for name, value in losses.items() if name != "loss"}
    assert set(parts) == {*PARTS, *LOGGED_WEIGHTS, "kept_of_class_0", "kept_of_class_1"}
    assert all(value.shape == () and not value.requires_grad for value in parts.values())


def test_a_method_without_teacher_does_nothing_after_a_step() -> None:
    ugpl = method(small_network())
    ugpl(*images_and_label(), 0.0)["loss"].backward()
    before = {name: value.clone() for name, value in ugpl.state_dict().items()}
    ugpl.after_step()
    assert {f"network.{name}" for name in ugpl.network.state_dict()} == set(before)
    assert all(torch.equal(value, before[name]) for name, value in ugpl.state_dict().items())


# Gradients


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("term", OF_PSEUDO_LABELS)
def test_pseudo_labels_teach_the_logits_of_both_networks_on_unlabelled_volumes(term: str, num_classes: int) -> None:
    network = fixed_outputs(num_classes)
    losses = method(network, **only(term))(*streams(num_classes), progress=0.5)
    assert {name for name in losses if name in PARTS} == {"supervised_loss", f"{term}_loss"}
    losses["loss"].backward()
    for name, gradient in network.gradients().items():
        assert gradient.isfinite().all() and not gradient[:LABELED].any(), name
        assert all(bool(patch.any()) == name.endswith("logits") for patch in gradient[LABELED:]), name


@pytest.mark.parametrize("term", OF_LABELED)
def test_labels_teach_the_logits_of_both_networks_on_labelled_volumes_and_nothing_else(term: str) -> None:
    network = fixed_outputs()
    method(network, **only(term))(*streams(), progress=0.5)["loss"].backward()
    for name, gradient in network.gradients().items():
        assert gradient.isfinite().all() and not gradient[LABELED:].any(), name
        assert all(bool(patch.any()) == name.endswith("logits") for patch in gradient[:LABELED]), name


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("prototype_term", ["push", "off", "pull"])
def test_contrast_teaches_features_of_uncertain_voxels_and_its_last_term_those_of_reliable_ones(
    prototype_term: str, num_classes: int
) -> None:
    network = fixed_outputs(num_classes)
    options = only("prototype", prototype_term=prototype_term, prototype_margin=2.0)
    method(network, **options)(*streams(num_classes), progress=0.5)["loss"].backward()
    reliable, gradients = reliable_voxels(network), network.gradients()
    assert 0.2 < reliable.float().mean() < 0.8
    for which in ("first", "second"):
        assert not gradients[f"{which}_logits"].any()
        gradient = gradients[f"{which}_features"]
        assert gradient.isfinite().all() and not gradient[:LABELED].any()
        moved = gradient[LABELED:].abs().sum(1) > 0
        assert moved[~reliable].all()
        assert moved[reliable].all() if prototype_term != "off" else not moved[reliable].any()


def test_no_gradient_passes_through_the_pseudo_labels() -> None:
    """For a fixed target t the gradient of a mean cross-entropy is (p - t) / n, also where it is masked."""
    network = fixed_outputs(3)
    probs = [output.logits.detach()[LABELED:].softmax(1) for output in network.outputs]
    classes = [functional.one_hot(p.argmax(1), 3).movedim(-1, 1) for p in probs]
    low = [torch.from_numpy(low_entropy(p.double().numpy(), 70.0, False)) for p in probs]
    masks = {"cross_pseudo": torch.ones_like(low[0]), "entropy_filtered": low[0] & low[1]}
    for term, mask in masks.items():
        network = fixed_outputs(3)
        method(network, **only(term))(*streams(3), 0.0)["loss"].backward()
        for which, own, other in (("first", probs[0], classes[1]), ("second", probs[1], classes[0])):
            expected = (own - other) * mask[:, None] / mask.sum()
            torch.testing.assert_close(network.gradients()[f"{which}_logits"][LABELED:], expected)


def test_uncertainty_teaches_through_the_divergence_and_not_the_teacher() -> None:
    """The gradient of e^-D H + D, for a fixed teacher p' with sharpened q, is e^-D (p - q) + (1 - e^-D H) (p - p')."""
    network = fixed_outputs(3)
    method(network, **only("uncertainty"))(*streams(3), 0.0)["loss"].backward()
    logits = [output.logits.detach()[LABELED:].double() for output in network.outputs]
    for which, own, other in (("first", *logits), ("second", *logits[::-1])):
        p, teacher, sharp = own.softmax(1), other.softmax(1), (other / 0.5).softmax(1)
        divergence = (teacher * (teacher / p).log()).sum(1, keepdim=True)
        weight, soft = (-divergence).exp(), -(sharp * p.log()).sum(1, keepdim=True)
        expected = (weight * (p - sharp) + (1 - weight * soft) * (p - teacher)) / p[:, 0].numel()
        gradient = network.gradients()[f"{which}_logits"][LABELED:]
        torch.testing.assert_close(gradient, expected.float(), rtol=1e-4, atol=1e-7)


def test_every_parameter_changes_in_a_step() -> None:
    # normalised over all channels at once: in batch normalisation the biases before it have no effect
    network = small_network(norm="group", norm_groups=1, base_channels=4)
    ugpl = method(network, prototype_term="pull")
    optimizer = torch.optim.SGD(ugpl.parameters(), lr=0.1)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    ugpl(*images_and_label(), 1.0)["loss"].backward()
    optimizer.step()
    ugpl.after_step()
    for name, parameter in network.named_parameters():
        assert parameter.isfinite().all() and not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("term", TERMS)
def test_each_term_alone_teaches_both_networks(term: str) -> None:
    network = small_network()
    options = only(term, prototype_margin=2.0, sure=0.5, entropy_percentile=90.0)
    method(network, **options)(*images_and_label(), 1.0)["loss"].backward()
    for subnet in (network.resnet_vnet, network.vnet):
        for name, part in subnet.named_children():
            gradients = [parameter.grad for parameter in part.parameters() if parameter.grad is not None]
            assert all(gradient.isfinite().all() for gradient in gradients), name
            taught = any(gradient.any() for gradient in gradients)
            assert taught == (term != "prototype" or name != "head"), name


def test_a_few_steps_lower_the_loss() -> None:
    ugpl = method(small_network(base_channels=4), pseudo_supervision_weight=constant(0.1))
    optimizer = torch.optim.SGD(ugpl.parameters(), lr=0.05)
    history = []
    for _ in range(15):
        losses = ugpl(*images_and_label(), 1.0)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        ugpl.after_step()
        history.append(losses)
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    assert history[-1]["supervised_loss"] < 0.9 * history[0]["supervised_loss"]


# Values


@pytest.mark.parametrize("num_classes", [2, 3])
def test_each_part_equals_the_reference(num_classes: int) -> None:
    network = fixed_outputs(num_classes)
    labeled, unlabeled = streams(num_classes)
    losses = method(network)(labeled, unlabeled, 0.0)
    expected = reference(network, labeled["label"])
    assert set(expected) == set(losses) - {"loss", *LOGGED_WEIGHTS}
    assert all(0.2 < expected[f"kept_of_class_{k}"] < 0.9 for k in range(num_classes))
    for name, value in expected.items():
        assert value > 0 and losses[name].item() == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("setting, value, changed", OTHER_SETTINGS)
def test_each_setting_reaches_its_parts(setting: str, value: object, changed: set[str], num_classes: int) -> None:
    network = fixed_outputs(num_classes)
    labeled, unlabeled = streams(num_classes)
    losses = method(network, **{setting: value})(labeled, unlabeled, 0.0)
    default, expected = (reference(network, labeled["label"], **chosen) for chosen in ({}, {setting: value}))
    for name in expected:
        assert losses[name].item() == pytest.approx(expected[name], rel=1e-4), name
    assert {name.rstrip("_012") for name in expected if expected[name] != default[name]} == changed


def test_loss_is_the_weighted_sum_of_its_parts() -> None:
    network = fixed_outputs()
    labeled, unlabeled = streams()
    weights = {f"{term}_weight": 0.3 + index for index, term in enumerate(OF_PSEUDO_LABELS)}
    schedules = {"pseudo_supervision_weight": constant(0.7), "prototype_weight": constant(5.0)}
    losses = method(network, consistency_weight=0.2, **weights, **schedules)(labeled, unlabeled, 0.0)
    parts = reference(network, labeled["label"])
    pseudo = sum(weights[f"{term}_weight"] * parts[f"{term}_loss"] for term in OF_PSEUDO_LABELS)
    expected = parts["supervised_loss"] + 0.2 * parts["consistency_loss"] + 0.7 * pseudo + 5.0 * parts["prototype_loss"]
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-4)
    assert losses["pseudo_supervision_weight"].item() == pytest.approx(0.7)
    assert losses["prototype_weight"].item() == 5.0


def test_defaults_are_those_of_the_paper_on_the_left_atrium() -> None:
    network = fixed_outputs()
    labeled, unlabeled = streams()
    ugpl = UGPL(network, CrossEntropy(), constant(1.0), constant(0.1), sampled_fraction=1.0)
    parts = reference(network, labeled["label"])
    expected = parts["supervised_loss"] + 0.5 * parts["consistency_loss"] + 0.1 * parts["prototype_loss"]
    expected += sum(parts[f"{term}_loss"] for term in OF_PSEUDO_LABELS)
    assert ugpl(labeled, unlabeled, 0.0)["loss"].item() == pytest.approx(expected, rel=1e-4)


def test_both_networks_count_alike() -> None:
    network = fixed_outputs(3)
    swapped = FixedOutputs(*network.outputs[::-1])
    losses, of_swapped = (method(one)(*streams(3), 0.0) for one in (network, swapped))
    for name, value in losses.items():
        torch.testing.assert_close(of_swapped[name], value)


def test_order_of_the_unlabelled_patches_does_not_matter() -> None:
    network = fixed_outputs(3)
    order = [0, 1, 4, 2, 3]
    permuted = FixedOutputs(*(tuple(part[order] for part in output) for output in network.outputs))
    losses, of_permuted = (method(one)(*streams(3), 0.0) for one in (network, permuted))
    for name, value in losses.items():
        torch.testing.assert_close(of_permuted[name], value)


def test_one_voxel_by_hand() -> None:
    """A is sure of the object with 0.8 where B has 0.6, on the labelled voxel (an object) and the unlabelled one."""
    probs = torch.tensor([0.8]), torch.tensor([0.6])
    logits = [torch.stack([1 - p, p]).log().expand(2, 2).T.reshape(2, 2, 1, 1, 1) for p in probs]
    network = FixedOutputs(*((own.clone(), torch.ones(2, 4, 1, 1, 1)) for own in logits))
    image = torch.zeros(1, 1, 1, 1, 1)
    losses = method(network, sure=0.7)({"image": image, "label": torch.ones_like(image)}, {"image": image}, 0.0)
    ln = math.log
    assert losses["supervised_loss"].item() == pytest.approx(-ln(0.8) - ln(0.6), rel=1e-5)
    assert losses["consistency_loss"].item() == pytest.approx(0.2**2 + 0.4**2, rel=1e-5)
    assert losses["cross_pseudo_loss"].item() == pytest.approx(-ln(0.8) - ln(0.6), rel=1e-5)
    assert losses["entropy_filtered_loss"].item() == pytest.approx(-ln(0.8) - ln(0.6), rel=1e-5)
    # squared and normalised, at T = 0.5: 0.8 becomes 16/17 and 0.6 becomes 9/13
    of_b, of_a = (0.6 * ln(0.6 / 0.8) + 0.4 * ln(0.4 / 0.2)), (0.8 * ln(0.8 / 0.6) + 0.2 * ln(0.2 / 0.4))
    expected = math.exp(-of_b) * (-9 / 13 * ln(0.8) - 4 / 13 * ln(0.2)) + of_b
    expected += math.exp(-of_a) * (-16 / 17 * ln(0.6) - 1 / 17 * ln(0.4)) + of_a
    assert losses["uncertainty_loss"].item() == pytest.approx(expected, rel=1e-5)
    assert losses["prototype_loss"].item() == 0  # the one voxel is reliable
    assert losses["kept_of_class_1"].item() == 1 and losses["kept_of_class_0"].item() == 0


# Nothing to learn from


def test_without_reliable_voxels_the_losses_are_finite_with_a_graph() -> None:
    network = fixed_outputs()
    first, second = network.outputs
    with torch.no_grad():
        second.logits.copy_(first.logits.flip(1))
    losses = method(network)(*streams(), 0.0)
    assert losses["prototype_loss"] == 0
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    assert all(gradient.isfinite().all() for gradient in network.gradients().values())
    assert first.features.grad is not None and not first.features.grad.any()


def test_without_kept_voxels_the_filtered_loss_is_zero_with_a_graph() -> None:
    network = fixed_outputs()
    first, second = network.outputs
    with torch.no_grad():  # each network is surest at a voxel of its own
        first.logits[LABELED, 0, 0, 0, 0] += 20
        second.logits[LABELED, 1, 1, 1, 1] += 20
    losses = method(network, **only("entropy_filtered"), entropy_percentile=0.0)(*streams(), 0.0)
    assert losses["entropy_filtered_loss"] == losses["kept_of_class_0"] == losses["kept_of_class_1"] == 0
    losses["loss"].backward()
    assert not any(gradient.any() for gradient in network.gradients().values())


@pytest.mark.parametrize("predicted", [0, 1])
def test_without_uncertain_voxels_and_with_one_class_alone_the_losses_are_finite(predicted: int) -> None:
    network = fixed_outputs()
    with torch.no_grad():
        for output in network.outputs:
            output.logits.copy_(
                torch.tensor([4.0, -4.0]).roll(predicted).reshape(1, 2, 1, 1, 1).expand_as(output.logits)
            )
    losses = method(network)(*streams(), 0.0)
    assert losses["prototype_loss"] == losses["consistency_loss"] == 0
    assert [losses[f"kept_of_class_{k}"].item() for k in range(2)] == [1 - predicted, predicted]
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    assert all(gradient.isfinite().all() for gradient in network.gradients().values())


# Streams, settings and state


@pytest.mark.parametrize("term", TERMS[1:])
def test_a_weight_of_zero_leaves_its_term_out_of_output_and_gradient(term: str) -> None:
    def run(**options: object) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        network = fixed_outputs()
        losses = method(network, consistency_weight=options.pop("consistency_weight", 1.0), **options)(*streams(), 0.0)
        losses["loss"].backward()
        return losses, network.gradients()

    zero = {f"{term}_weight": constant(0.0) if term == "prototype" else 0.0}
    (complete, with_it), (losses, without), (_, alone) = run(), run(**zero), run(**only(term))
    assert {name for name in losses if name in PARTS} == set(PARTS) - {f"{term}_loss"}
    for name in set(losses) - {"loss", "prototype_weight"}:
        torch.testing.assert_close(losses[name], complete[name])
    torch.testing.assert_close(losses["loss"] + complete[f"{term}_loss"], complete["loss"])
    for name, gradient in without.items():
        torch.testing.assert_close(gradient + alone[name], with_it[name])


def test_no_pseudo_supervision_leaves_its_three_terms_out() -> None:
    network = fixed_outputs()
    losses = method(network, pseudo_supervision_weight=constant(0.0))(*streams(), 0.0)
    assert {name for name in losses if name in PARTS} == {"supervised_loss", "consistency_loss", "prototype_loss"}
    losses["loss"].backward()
    gradients = network.gradients()
    assert not gradients["first_logits"][LABELED:].any() and not gradients["second_logits"][LABELED:].any()


def test_without_prototypes_the_features_are_left_alone() -> None:
    network = fixed_outputs()
    with torch.no_grad():
        network.outputs[0].features.fill_(float("nan"))
    losses = method(network, prototype_weight=constant(0.0))(*streams(), 0.0)
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    assert network.outputs[0].features.grad is None or not network.outputs[0].features.grad.any()


def test_progress_reaches_both_schedules() -> None:
    network = fixed_outputs()
    ramps = {"pseudo_supervision_weight": lambda progress: 2 * progress, "prototype_weight": lambda p: 1 - p}
    ugpl = method(network, **ramps)
    parts = reference(network, streams()[0]["label"])
    pseudo = sum(parts[f"{term}_loss"] for term in OF_PSEUDO_LABELS)
    for progress in (0.0, 0.25, 1.0):
        losses = ugpl(*streams(), progress)
        expected = parts["supervised_loss"] + 0.5 * parts["consistency_loss"]
        expected += 2 * progress * pseudo + (1 - progress) * parts["prototype_loss"]
        assert losses["loss"].item() == pytest.approx(expected, rel=1e-4)
        assert losses["pseudo_supervision_weight"].item() == 2 * progress
        assert losses["prototype_weight"].item() == 1 - progress


@pytest.mark.parametrize("fraction, limit", [(0.1, 4096), (0.5, 7), (0.01, 4096)])
def test_contrast_takes_a_share_of_each_class_up_to_a_limit(fraction: float, limit: int) -> None:
    network = fixed_outputs(3)
    options = only("prototype", prototype_term="off", sampled_fraction=fraction, sampled_limit=limit)
    method(network, **options)(*streams(3), 0.0)["loss"].backward()
    reliable = reliable_voxels(network)
    for which, output in zip(("first", "second"), network.outputs, strict=True):
        classes = output.logits.detach()[LABELED:].argmax(1)
        moved = network.gradients()[f"{which}_features"][LABELED:].abs().sum(1) > 0
        for k in range(3):
            uncertain = (~reliable & (classes == k)).sum().item()
            assert moved[classes == k].sum() == min(math.ceil(fraction * uncertain), limit)


def test_without_unlabelled_volumes_there_are_the_labelled_terms_alone() -> None:
    network = fixed_outputs(batch=LABELED)
    labeled, _ = streams()
    losses = method(network)(labeled, None, 1.0)
    expected = reference(network, labeled["label"])
    assert set(losses) == {"loss", *expected} == {"loss", "supervised_loss", "consistency_loss"}
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4), name
    total = expected["supervised_loss"] + 0.5 * expected["consistency_loss"]
    assert losses["loss"].item() == pytest.approx(total, rel=1e-4)
    losses["loss"].backward()
    assert all(gradient.isfinite().all() for gradient in network.gradients().values())


def test_both_streams_pass_each_network_together() -> None:
    """Statistics of batch normalisation are of all patches."""
    network, seen = small_network(), []
    for subnet in (network.resnet_vnet, network.vnet):
        subnet.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    labeled, unlabeled = images_and_label()
    method(network)(labeled, unlabeled, 0.0)
    assert len(seen) == 2
    assert all(torch.equal(images, torch.cat([labeled["image"], unlabeled["image"]])) for images in seen)


def test_unlabelled_volumes_need_no_label_and_a_label_changes_nothing() -> None:
    labeled, unlabeled = images_and_label()
    with_label = {**unlabeled, "label": torch.ones(2, 1, 4, 4, 6)}
    without, with_it = (method(small_network())(labeled, stream, 1.0) for stream in (unlabeled, with_label))
    assert without.keys() == with_it.keys()
    for name in without:
        torch.testing.assert_close(without[name], with_it[name])
    other = {"image": labeled["image"], "label": 1 - labeled["label"]}
    losses = method(small_network())(other, unlabeled, 1.0)
    assert losses["supervised_loss"] != without["supervised_loss"]
    for term in (*OF_PSEUDO_LABELS, "prototype"):
        torch.testing.assert_close(losses[f"{term}_loss"], without[f"{term}_loss"])


def test_half_precision_outputs_are_compared_in_float32() -> None:
    half = FixedOutputs(*(tuple(part.detach().bfloat16() for part in output) for output in fixed_outputs().outputs))
    same = FixedOutputs(*(tuple(part.detach().float() for part in output) for output in half.outputs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = method(half)(*streams(), 0.0)
    expected = method(same)(*streams(), 0.0)
    assert losses["loss"].dtype == torch.float32
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)


def test_deployed_network_is_the_mean_of_both() -> None:
    ugpl = method(small_network()).eval()
    image = images_and_label()[1]["image"]
    probs = [output.logits.softmax(1) for output in ugpl.network.both(image)]
    torch.testing.assert_close(ugpl.network(image).softmax(1), (probs[0] + probs[1]) / 2)
    assert not torch.allclose(probs[0], probs[1])


def test_state_dict_round_trip() -> None:
    first, second = method(small_network()), method(small_network(initialisation="default"))
    first(*images_and_label(seed=1), 0.0)  # moves the statistics of batch normalisation
    streams_ = images_and_label()
    assert not torch.isclose(first.eval()(*streams_, 0.0)["loss"], second.eval()(*streams_, 0.0)["loss"])
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(first(*streams_, 0.0)["loss"], second(*streams_, 0.0)["loss"])
    patch = streams_[1]["image"]
    assert torch.equal(first.network(patch), second.network(patch))
