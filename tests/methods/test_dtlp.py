# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss
from torch import nn
from torch.nn import functional

from medssl_components.losses import DifficultyWeights
from medssl_components.methods import DTLP, DiverseTeachers, Teaching
from medssl_components.networks import DiffusionVNet, PathOutput
from medssl_components.ops import CutMixBoxes, LabelDiffusion, sample_block_mask, sample_cutmix

LABELED, UNLABELED, SHAPE, GRID, CHANNELS = 2, 3, (4, 4, 6), (2, 2, 3), 5
KEPT = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
MODULE = "medssl_components.methods.dtlp"
ALWAYS = {"denoising_loss", "difficulty_loss"}
OF_UNLABELED = {
    "mix_loss": "mix_weight",
    "masked_loss": "masked_weight",
    "unlabeled_loss": "unlabeled_weight",
    "distillation_loss": "distillation_weight",
    "reconstruction_loss": "reconstruction_weight",
    "unlabeled_propagation_loss": "propagation_weight",
}
WEIGHTS = {**OF_UNLABELED, "propagation_loss": "propagation_weight", "labeled_loss": "labeled_weight"}
PARTS = {*ALWAYS, *WEIGHTS}
TAUGHT = {  # the outputs that each part's gradient reaches
    "mix_loss": {"mixed"},
    "masked_loss": {"masked"},
    "unlabeled_loss": {"whole_logits"},
    "distillation_loss": {"whole_logits"},
    "reconstruction_loss": {"masked"},
    "labeled_loss": {"labeled"},
}


class FixedOutputs(nn.Module):
    """A network whose paths answer the same to all images; the answers are leaves, which keep what a term teaches them.

    The deployed path is asked for the mixed unlabelled volumes, for all masked ones and for the labelled ones, and
    tells these apart by their number.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def leaf(*shape: int) -> torch.Tensor:
            return (1.5 * torch.randn(*shape, generator=generator)).requires_grad_()

        def path(count: int) -> PathOutput:
            return PathOutput(leaf(count, num_classes, *SHAPE), leaf(count, 4, *GRID))

        self.num_classes = num_classes
        self.denoised, self.direct, self.whole = path(LABELED), path(LABELED), path(UNLABELED)
        self.of_count = {count: leaf(count, num_classes, *SHAPE) for count in (LABELED, UNLABELED, LABELED + UNLABELED)}
        self.projections = leaf(CHANNELS, 4), leaf(CHANNELS, 4)
        self.deployed = nn.ModuleDict({"decoder": nn.Linear(2, 2)})
        self.labeled_decoder, self.diffusion_decoder = nn.Linear(2, 2), nn.Linear(2, 2)
        self.calls: list[tuple[str, tuple[torch.Tensor, ...]]] = []

    def diffusion_path(self, *inputs: torch.Tensor) -> PathOutput:
        self.calls.append(("diffusion", inputs))
        return self.denoised

    def labeled_path(self, *inputs: torch.Tensor) -> PathOutput:
        self.calls.append(("direct", inputs))
        return self.direct

    def unlabeled_path(self, *inputs: torch.Tensor) -> PathOutput:
        self.calls.append(("whole", inputs))
        return self.whole

    def project(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return tuple(torch.einsum("dc,bcxyz->bdxyz", weights, features) for weights in self.projections)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        name = {LABELED: "labeled", UNLABELED: "mixed", LABELED + UNLABELED: "masked"}[len(inputs[0])]
        self.calls.append((name, inputs))
        return self.of_count[len(inputs[0])]

    def inputs_of(self, name: str) -> tuple[torch.Tensor, ...]:
        (inputs,) = (inputs for called, inputs in self.calls if called == name)
        return inputs

    def leaves(self) -> dict[str, torch.Tensor]:
        paths = {"denoised": self.denoised, "direct": self.direct, "whole": self.whole}
        parts = {f"{path}_{name}": part for path, output in paths.items() for name, part in output._asdict().items()}
        parts.update(zip(("labeled", "mixed", "masked"), (self.of_count[count] for count in (2, 3, 5)), strict=True))
        return {**parts, "source_projection": self.projections[0], "target_projection": self.projections[1]}

    def gradients(self) -> dict[str, torch.Tensor]:
        """Return the gradient of each output, zeros where none came."""
        return {name: torch.zeros_like(x) if x.grad is None else x.grad for name, x in self.leaves().items()}


class FixedTeachers(nn.Module):
    """Teachers that say the same of all images, by leaves, which would keep a gradient."""

    def __init__(self, num_classes: int, soft: int = 2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)

        def leaf(count: int) -> torch.Tensor:
            return torch.randn(count, num_classes, *SHAPE, generator=generator).requires_grad_()

        self.diffusion = LabelDiffusion(num_classes, sample_steps=2)
        self.logits, self.of_unlabeled = leaf(LABELED + UNLABELED), leaf(UNLABELED)
        self.of_soft = [leaf(UNLABELED) for _ in range(soft)]
        self.asked: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.updates = 0

    def start(self, network: nn.Module) -> None:
        pass

    def forward(self, network: nn.Module, labeled: torch.Tensor, unlabeled: torch.Tensor) -> Teaching:
        self.asked.append((labeled, unlabeled))
        probs = self.of_unlabeled.softmax(1)
        return Teaching(probs, probs, probs, [logits.softmax(1) for logits in self.of_soft], self.logits)

    def update(self, network: nn.Module) -> None:
        self.updates += 1


class CrossEntropy(nn.Module):
    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits, label[:, 0].long())


class Draws:
    """What the method drew: the boxes and masks of each step, and the arguments that it drew them with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.boxes: list[CutMixBoxes] = []
        self.masks: list[torch.Tensor] = []
        self.arguments: dict[str, tuple[object, ...]] = {}
        for name, draw, kept in (
            ("sample_cutmix", sample_cutmix, self.boxes),
            ("sample_block_mask", sample_block_mask, self.masks),
        ):
            monkeypatch.setattr(f"{MODULE}.{name}", self.recorded(name, draw, kept))

    def recorded(self, name: str, draw: Callable[..., object], kept: list) -> Callable[..., object]:
        def draw_and_keep(*arguments: object, device: torch.device) -> object:
            self.arguments[name] = arguments
            kept.append(draw(*arguments, device=device))
            return kept[-1]

        return draw_and_keep


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> Draws:
    return Draws(monkeypatch)


def constant(value: float) -> Callable[[float], float]:
    return lambda progress: value


def streams(num_classes: int = 3) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    label = torch.randint(num_classes, (LABELED, 1, *SHAPE), generator=generator, dtype=torch.uint8)
    labeled = {"image": torch.randn(LABELED, 1, *SHAPE, generator=generator), "label": label}
    return labeled, {"image": torch.randn(UNLABELED, 1, *SHAPE, generator=generator)}


def method(network: nn.Module, **options: object) -> DTLP:
    """Build the method with known teachers; all terms have the weight 1 where the options do not say otherwise."""
    defaults = {
        "loss": CrossEntropy(),
        "teachers": FixedTeachers(network.num_classes),
        "difficulty": DifficultyWeights(network.num_classes),
        "unsupervised_weight": constant(1.0),
        "blocks": 2,
        **dict.fromkeys(WEIGHTS.values(), 1.0),
    }
    return DTLP(network, **{**defaults, **options})


def only(*parts: str, **options: object) -> dict[str, object]:
    """Give all weights but those of some parts the value 0; the two parts without weight remain."""
    chosen = {WEIGHTS[part] for part in parts}
    return {**{weight: float(weight in chosen) for weight in WEIGHTS.values()}, **options}


def small_network(**settings: object) -> DiffusionVNet:
    torch.manual_seed(0)
    shape = {"num_classes": 2, "base_channels": 2, "num_convs": (1, 1), "strides": (2,), "projection_channels": 3}
    times = {"time_channels": 4, "time_hidden_channels": 8}
    return DiffusionVNet(**{**shape, **times, "dropout": 0.0, "unit_dropout": 0.0, **settings})


def real_method(network: DiffusionVNet | None = None, **options: object) -> DTLP:
    """Build the method as a bundle does, on a small network and with a short sampling."""
    network = network or small_network()
    of_teachers = {name: options.pop(name) for name in ("sampling_interval", "ema_decay") if name in options}
    diffusion = LabelDiffusion(network.num_classes, sample_steps=2)
    defaults = {
        "loss": DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True),
        "teachers": DiverseTeachers(network, diffusion, **of_teachers),
        "difficulty": DifficultyWeights(network.num_classes),
        "unsupervised_weight": constant(1.0),
        "blocks": 2,
    }
    return DTLP(network, **{**defaults, **options})


def images_and_label(labeled: int = 2, seed: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(4, 1, 4, 4, 6, generator=generator)
    label = (images[:labeled] > 0).to(torch.uint8)
    return {"image": images[:labeled], "label": label}, {"image": images[labeled:]}


# A reference in NumPy


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def softmax(logits: np.ndarray, axis: int = 1) -> np.ndarray:
    exponential = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return exponential / exponential.sum(axis=axis, keepdims=True)


def cross_entropy(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return the cross-entropy of each voxel, for a label without channel."""
    return -np.log(np.take_along_axis(softmax(logits), label[:, None], axis=1)[:, 0])


def linear(old: int, new: int) -> np.ndarray:
    """Return the matrix that interpolates `old` values at the middles of `new` intervals of the same length."""
    middles = (np.arange(new) + 0.5) * old / new - 0.5
    return np.stack([np.interp(middles, np.arange(old), unit) for unit in np.eye(old)], axis=1)


def resized(volume: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    matrices = [linear(old, new) for old, new in zip(volume.shape[2:], shape, strict=True)]
    return np.einsum("ax,by,cz,nkxyz->nkabc", *matrices, volume)


def propagated(
    network: FixedOutputs, output: PathOutput, scale: str = "inside", sum_to_one: str = "source"
) -> np.ndarray:
    """Return equation 19 of the logits and features of a path."""
    features = array(output.features).reshape(len(output.features), 4, -1)
    e_1, e_2 = (np.einsum("dc,bcn->bdn", array(weights), features) for weights in network.projections)
    similarity = np.einsum("bdi,bdj->bij", e_1, e_2)
    axis = 1 if sum_to_one == "source" else 2
    if scale == "inside":
        correlation = softmax(similarity / np.sqrt(CHANNELS), axis)
    else:
        correlation = softmax(similarity, axis) / np.sqrt(CHANNELS)
    coarse = resized(array(output.logits), GRID)
    spread = np.einsum("bki,bij->bkj", coarse.reshape(*coarse.shape[:2], -1), correlation)
    return resized(spread.reshape(coarse.shape), SHAPE)


def one_hot(label: np.ndarray, num_classes: int) -> np.ndarray:
    return np.moveaxis(np.eye(num_classes)[label], -1, 1)


def difficulty_weights(predicted: np.ndarray, label: np.ndarray, num_classes: int) -> np.ndarray:
    """Return equations 4 to 6 after the first step, before which the Dice was 1e-8 and nothing was learned."""
    weights = np.zeros(num_classes)
    for k in range(num_classes):
        dice = 2 * ((predicted == k) & (label == k)).sum() / ((predicted == k).sum() + (label == k).sum())
        learned = (dice - 1e-8) * np.log(dice / 1e-8) / 50
        weights[k] = max((1e-8 / (learned + 1e-8)) ** 0.2, 0.02)
    return weights


def weighted_loss(logits: np.ndarray, label: np.ndarray, weights: np.ndarray) -> float:
    """Return equation 3: weighted mean of the cross-entropy, and the objects' weighted Dice over the batch."""
    loss = (weights[label] * cross_entropy(logits, label)).sum() / weights[label].sum()
    probs, true, axes = softmax(logits), one_hot(label, len(weights)), (0, 2, 3, 4)
    dice = (2 * (probs * true).sum(axes) + 1) / (probs.sum(axes) + true.sum(axes) + 1)
    return loss + (weights * (1 - dice))[1:].mean()


def soft_dice(probs: np.ndarray, other: np.ndarray) -> float:
    axes = (0, 2, 3, 4)
    overlap, sizes = 2 * (probs * other).sum(axes), (probs**2).sum(axes) + (other**2).sum(axes)
    return 1 - ((overlap + 1e-5) / (sizes + 1e-5)).mean()


def mixed(labeled: np.ndarray, unlabeled: np.ndarray, boxes: CutMixBoxes) -> np.ndarray:
    result, both = unlabeled.copy(), [*labeled, *unlabeled]
    for volume, (partner, start, stop) in enumerate(zip(*(part.tolist() for part in boxes), strict=True)):
        box = (slice(None), *itertools.starmap(slice, zip(start, stop, strict=True)))
        result[volume][box] = both[partner][box]
    return result


def pseudo_labels(teachers: FixedTeachers) -> np.ndarray:
    return array(teachers.of_unlabeled).argmax(axis=1)


def reference(dtlp: DTLP, label: torch.Tensor, boxes: CutMixBoxes, **settings: str) -> dict[str, float]:
    """Compute each part of the loss as the equations have it, in float64."""
    network, teachers = dtlp.network, dtlp.teachers
    num_classes, y, pseudo = network.num_classes, label[:, 0].long().numpy(), pseudo_labels(teachers)
    denoised, direct, whole = (array(path.logits) for path in (network.denoised, network.direct, network.whole))
    masked, of_teacher = array(network.of_count[LABELED + UNLABELED]), array(teachers.logits)
    of_mix, mixed_label = array(network.of_count[UNLABELED]), mixed(y[:, None], pseudo[:, None], boxes)[:, 0]
    branch = {"diffusion": network.denoised, "labeled": network.direct}[settings.pop("branch", "diffusion")]
    axes = (1, 2, 3, 4)
    return {
        "denoising_loss": cross_entropy(denoised, y).mean(),
        "difficulty_loss": weighted_loss(direct, y, difficulty_weights(denoised.argmax(axis=1), y, num_classes)),
        "propagation_loss": cross_entropy(propagated(network, branch, **settings), y).mean(),
        "labeled_loss": cross_entropy(array(network.of_count[LABELED]), y).mean(),
        "distillation_loss": sum(soft_dice(softmax(whole), softmax(array(soft))) for soft in teachers.of_soft),
        "unlabeled_propagation_loss": cross_entropy(propagated(network, network.whole, **settings), pseudo).mean(),
        "mix_loss": cross_entropy(of_mix, mixed_label).mean(),
        "masked_loss": cross_entropy(masked[LABELED:], pseudo).mean(),
        "unlabeled_loss": cross_entropy(whole, pseudo).mean(),
        "reconstruction_loss": (((masked - of_teacher) ** 2).sum(axes) / (of_teacher**2).sum(axes)).mean(),
    }


# What forward returns


def test_returns_a_scalar_loss_and_detached_parts() -> None:
    losses = real_method(unlabeled_weight=1.0, labeled_weight=1.0)(*images_and_label(), progress=1.0)
    assert losses["loss"].shape == () and losses["loss"].requires_grad and losses["loss"].isfinite()
    parts = {name: value for name, value in losses.items() if name != "loss"}
    assert set(parts) == {*PARTS, "unsupervised_weight"}
    assert all(value.shape == () and not value.requires_grad and value.isfinite() for value in parts.values())


# Values


@pytest.mark.parametrize("num_classes", [2, 3])
def test_each_part_equals_the_reference(draws: Draws, num_classes: int) -> None:
    dtlp = method(FixedOutputs(num_classes))
    labeled, unlabeled = streams(num_classes)
    losses = dtlp(labeled, unlabeled, 0.5)
    expected = reference(dtlp, labeled["label"], draws.boxes[0])
    assert set(losses) == {"loss", "unsupervised_weight", *expected} and set(expected) == PARTS
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4), name
    assert losses["loss"].item() == pytest.approx(sum(expected.values()), rel=1e-4)
    assert len({round(value, 4) for value in expected.values()}) == len(PARTS)


@pytest.mark.parametrize(
    "option, settings",
    [
        ({"propagation_branch": "labeled"}, {"branch": "labeled"}),
        ({"propagation_scale": "outside"}, {"scale": "outside"}),
        ({"propagation_sum": "target"}, {"sum_to_one": "target"}),
    ],
)
def test_settings_of_the_propagation_reach_it(draws: Draws, option: dict[str, str], settings: dict[str, str]) -> None:
    dtlp = method(FixedOutputs(3), **option)
    labeled, unlabeled = streams()
    losses = dtlp(labeled, unlabeled, 0.0)
    default, expected = (reference(dtlp, labeled["label"], draws.boxes[0], **chosen) for chosen in ({}, settings))
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4), name
    changed = {name for name in expected if abs(expected[name] - default[name]) > 1e-3}
    of_both = {"propagation_loss", "unlabeled_propagation_loss"}
    assert changed == ({"propagation_loss"} if "branch" in settings else of_both)


def test_features_are_pooled_to_the_largest_map_of_the_propagation(draws: Draws) -> None:
    """One voxel passes its logits on to itself, so all of the patch has those of its centre."""
    dtlp = method(FixedOutputs(3), propagation_voxels=1)
    labeled, unlabeled = streams()
    losses = dtlp(labeled, unlabeled, 0.0)
    logits = array(dtlp.network.denoised.logits)
    centre = np.broadcast_to(resized(logits, (1, 1, 1)), logits.shape)
    expected = cross_entropy(centre, labeled["label"][:, 0].long().numpy()).mean()
    assert losses["propagation_loss"].item() == pytest.approx(expected, rel=1e-4)


def test_loss_is_the_weighted_sum_of_its_parts(draws: Draws) -> None:
    weights = {name: 0.3 + 0.2 * index for index, name in enumerate(sorted(set(WEIGHTS.values())))}
    dtlp = method(FixedOutputs(3), unsupervised_weight=constant(0.7), **weights)
    labeled, unlabeled = streams()
    losses = dtlp(labeled, unlabeled, 0.0)
    parts = reference(dtlp, labeled["label"], draws.boxes[0])
    expected = sum(parts[name] for name in ALWAYS)
    for name in set(PARTS) - ALWAYS:
        ramp = 0.7 if name in OF_UNLABELED else 1.0
        expected += ramp * weights[WEIGHTS[name]] * parts[name]
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-4)
    assert losses["unsupervised_weight"].item() == pytest.approx(0.7)


def test_defaults_are_those_of_table_i_for_the_left_atrium(draws: Draws) -> None:
    network = FixedOutputs(2)
    dtlp = DTLP(network, CrossEntropy(), FixedTeachers(2), DifficultyWeights(2), constant(1.0))
    labeled, unlabeled = streams(2)
    losses = dtlp(labeled, unlabeled, 0.0)
    parts = reference(dtlp, labeled["label"], draws.boxes[0])
    expected = parts["denoising_loss"] + parts["difficulty_loss"] + parts["mix_loss"] + 2.0 * parts["masked_loss"]
    expected += 0.1 * parts["distillation_loss"] + 0.2 * parts["reconstruction_loss"]
    expected += 1.2 * (parts["propagation_loss"] + parts["unlabeled_propagation_loss"])
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-4)
    assert draws.arguments["sample_block_mask"] == (LABELED + UNLABELED, SHAPE, 0.7, 16)
    assert draws.arguments["sample_cutmix"] == (SHAPE, LABELED, UNLABELED, 0.5, 4)
    assert dtlp.pull == 0.01


def test_progress_reaches_the_terms_of_unlabelled_volumes_alone(draws: Draws) -> None:
    dtlp = method(FixedOutputs(3), unsupervised_weight=lambda progress: 3 * progress)
    labeled, unlabeled = streams()
    for progress in (0.25, 1.0):
        dtlp.difficulty.load_state_dict(DifficultyWeights(3).state_dict())
        losses = dtlp(labeled, unlabeled, progress)
        parts = reference(dtlp, labeled["label"], draws.boxes[-1])
        of_unlabeled = sum(parts[name] for name in OF_UNLABELED)
        expected = sum(parts.values()) - of_unlabeled + 3 * progress * of_unlabeled
        assert losses["loss"].item() == pytest.approx(expected, rel=1e-4)
        assert losses["unsupervised_weight"].item() == 3 * progress


def test_one_voxel_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two classes, of which the object gets 0.8 where it is true and 0.6 where a teacher sees it."""
    whole_volume = CutMixBoxes(*(torch.tensor(part) for part in ([0], [[0, 0, 0]], [[1, 1, 1]])))
    monkeypatch.setattr(f"{MODULE}.sample_cutmix", lambda *arguments, device: whole_volume)

    def logits(*of_object: float) -> torch.Tensor:
        p = torch.tensor(of_object).reshape(-1, 1, 1, 1, 1)
        return torch.cat([1 - p, p], 1).log()

    network = FixedOutputs(2)
    ones = torch.ones(1, 4, 1, 1, 1)
    network.denoised, network.direct = PathOutput(logits(0.8), ones), PathOutput(logits(0.8), ones)
    network.whole = PathOutput(logits(0.6), ones)
    answers = {1: logits(0.6), 2: logits(0.6, 0.8)}
    monkeypatch.setattr(network, "forward", lambda image: answers[len(image)])
    teachers = FixedTeachers(2)
    teachers.of_unlabeled, teachers.of_soft, teachers.logits = logits(0.6), [logits(0.9)], logits(0.5, 0.5)
    dtlp = method(network, teachers=teachers, labeled_weight=0.0)
    image = torch.zeros(1, 1, 1, 1, 1)
    losses = dtlp({"image": image, "label": torch.ones_like(image)}, {"image": image}, 0.0)
    ln = np.log
    expected = {
        "denoising_loss": -ln(0.8),
        "propagation_loss": -ln(0.8),  # one voxel keeps its own logits
        "unlabeled_propagation_loss": -ln(0.6),
        "mix_loss": -ln(0.6),  # of the label, which the box covers
        "masked_loss": -ln(0.8),
        "unlabeled_loss": -ln(0.6),
        "distillation_loss": 1 - (2 * 0.4 * 0.1 / (0.4**2 + 0.1**2) + 2 * 0.6 * 0.9 / (0.6**2 + 0.9**2)) / 2,
    }
    errors = [ln(q / 0.5) ** 2 + ln((1 - q) / 0.5) ** 2 for q in (0.6, 0.8)]
    expected["reconstruction_loss"] = sum(errors) / (2 * 2 * ln(0.5) ** 2)
    # Dice 1 from 1e-8: learned ln(1e8) / 50, so d^(1/5) is (1e-8 / 0.368)^(1/5) = 0.0307
    weight = (1e-8 / (ln(1e8) / 50 + 1e-8)) ** 0.2
    expected["difficulty_loss"] = -ln(0.8) + weight * (1 - (2 * 0.8 + 1) / (0.8 + 1 + 1))
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-3), name


# What each pass gets


def test_noisy_labels_follow_equation_1_with_new_times_and_noise() -> None:
    network = FixedOutputs(3)
    dtlp = method(network)
    labeled, unlabeled = streams()
    drawn = []
    for _ in range(2):
        dtlp(labeled, unlabeled, 0.0)
        image, noisy, times = network.inputs_of("diffusion")
        network.calls.clear()
        assert torch.equal(image, labeled["image"]) and times.shape == (LABELED,)
        kept = KEPT[times.numpy()].reshape(-1, 1, 1, 1, 1)
        clean = 2 * one_hot(labeled["label"][:, 0].long().numpy(), 3) - 1
        noise = (array(noisy) - np.sqrt(kept) * clean) / np.sqrt(1 - kept)
        assert abs(noise.mean()) < 0.2 and noise.std() == pytest.approx(1, abs=0.15)
        drawn.append((noise, times))
    assert not np.allclose(drawn[0][0], drawn[1][0]) and not torch.equal(drawn[0][1], drawn[1][1])


def test_passes_get_their_images(draws: Draws) -> None:
    network = FixedOutputs(3)
    dtlp = method(network, mask_ratio=0.4, labeled_share=0.8, concentration=2)
    labeled, unlabeled = streams()
    dtlp(labeled, unlabeled, 0.0)
    images = [array(stream["image"]) for stream in (labeled, unlabeled)]
    assert torch.equal(network.inputs_of("direct")[0], labeled["image"])
    assert torch.equal(network.inputs_of("labeled")[0], labeled["image"])
    assert torch.equal(network.inputs_of("whole")[0], unlabeled["image"])
    np.testing.assert_allclose(network.inputs_of("mixed")[0], mixed(*images, draws.boxes[0]))
    (visible,) = draws.masks
    masked = np.where(visible.numpy(), np.concatenate(images), 0.0)
    np.testing.assert_allclose(network.inputs_of("masked")[0], masked)
    assert 0 < visible.float().mean() < 1
    assert draws.arguments["sample_cutmix"] == (SHAPE, LABELED, UNLABELED, 0.8, 2)
    assert draws.arguments["sample_block_mask"] == (LABELED + UNLABELED, SHAPE, 0.4, 2)
    ((first, second),) = dtlp.teachers.asked
    assert torch.equal(first, labeled["image"]) and torch.equal(second, unlabeled["image"])


def test_boxes_and_masks_are_new_at_each_step(draws: Draws) -> None:
    dtlp = method(FixedOutputs(3))
    for _ in range(3):
        dtlp(*streams(), 0.0)
    assert len({str([part.tolist() for part in boxes]) for boxes in draws.boxes}) == 3
    assert len({str(mask.tolist()) for mask in draws.masks}) == 3


# Gradients of the outputs


def gradients_of(part: str | None, num_classes: int = 3, seed: int = 0, **options: object) -> dict[str, torch.Tensor]:
    """Return what one part teaches, which is what the two parts without weight leave to be taught."""
    found = []
    for parts in ((part,) if part else (), ()):
        network = FixedOutputs(num_classes)
        torch.manual_seed(seed)
        losses = method(network, **only(*parts, **options))(*streams(num_classes), progress=0.5)
        losses["loss"].backward()
        found.append(network.gradients())
    return {name: gradient - found[1][name] for name, gradient in found[0].items()} if part else found[0]


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("part", sorted(TAUGHT))
def test_each_part_teaches_its_own_outputs(part: str, num_classes: int) -> None:
    gradients = gradients_of(part, num_classes)
    assert {name for name, gradient in gradients.items() if gradient.any()} == TAUGHT[part]
    (gradient,) = (gradients[name] for name in TAUGHT[part])
    assert gradient.isfinite().all()
    of_labeled = gradient[:LABELED] if part == "masked_loss" else gradient[:0]
    assert not of_labeled.any()  # what masked labelled volumes look like is in the reconstruction alone
    assert all(volume.any() for volume in gradient[len(of_labeled) :])


@pytest.mark.parametrize("branch", ["diffusion", "labeled"])
@pytest.mark.parametrize("detach", [False, True])
def test_propagation_teaches_logits_features_and_projections(branch: str, detach: bool) -> None:
    gradients = gradients_of("propagation_loss", propagation_branch=branch, detach_logits=detach)
    path = {"diffusion": "denoised", "labeled": "direct"}[branch]
    features = {f"{path}_features", "whole_features", "source_projection", "target_projection"}
    logits = set() if detach else {f"{path}_logits", "whole_logits"}
    assert {name for name, gradient in gradients.items() if gradient.any()} == features | logits
    for name in features | logits:
        assert gradients[name].isfinite().all()
        assert name.endswith("projection") or all(volume.any() for volume in gradients[name]), name


def test_parts_without_weight_teach_the_two_decoders_of_labelled_volumes() -> None:
    gradients = gradients_of(None)
    assert {name for name, gradient in gradients.items() if gradient.any()} == {"denoised_logits", "direct_logits"}
    logits, label = FixedOutputs(3).denoised.logits, streams()[0]["label"][:, 0].long()
    target = functional.one_hot(label, 3).movedim(-1, 1)
    torch.testing.assert_close(gradients["denoised_logits"], (logits.detach().softmax(1) - target) / label.numel())


@pytest.mark.parametrize(("weight", "expected"), [(0.0, 1.0), (0.5, 0.5)])
def test_without_unlabelled_volumes_the_deployed_decoder_learns_from_the_labelled_ones(
    weight: float, expected: float
) -> None:
    dtlp = real_method(labeled_weight=weight)
    losses = dtlp(images_and_label()[0], None, progress=0.0)
    others = sum(losses[name] for name in ("denoising_loss", "difficulty_loss"))
    others += dtlp.propagation_weight * losses["propagation_loss"]
    torch.testing.assert_close(losses["loss"] - others, expected * losses["labeled_loss"])
    losses["loss"].backward()
    assert all(parameter.grad.any() for parameter in dtlp.network.deployed.decoder.parameters())


def test_no_gradient_passes_the_difficulty_weights() -> None:
    """That of L_diff is the gradient for these weights as constants."""
    gradients, network = gradients_of(None), FixedOutputs(3)
    label = streams()[0]["label"]
    predicted, y = array(network.denoised.logits).argmax(axis=1), label[:, 0].long().numpy()
    weights = torch.from_numpy(difficulty_weights(predicted, y, 3)).float()
    logits = network.direct.logits.detach().requires_grad_()
    loss = functional.cross_entropy(logits, label[:, 0].long(), weight=weights)
    probs, true = logits.softmax(1), functional.one_hot(label[:, 0].long(), 3).movedim(-1, 1)
    for k in (1, 2):
        dice = (2 * (probs[:, k] * true[:, k]).sum() + 1) / (probs[:, k].sum() + true[:, k].sum() + 1)
        loss = loss + weights[k] * (1 - dice) / 2
    loss.backward()
    torch.testing.assert_close(gradients["direct_logits"], logits.grad, rtol=1e-4, atol=1e-7)


def test_no_gradient_passes_the_pseudo_labels(draws: Draws) -> None:
    """For a fixed target t the gradient of a mean cross-entropy is (p - t) / n."""
    network = FixedOutputs(3)
    dtlp = method(network, **only("mix_loss", "masked_loss", "unlabeled_loss"))
    labeled, unlabeled = streams()
    dtlp(labeled, unlabeled, 0.0)["loss"].backward()
    pseudo, y = pseudo_labels(dtlp.teachers), labeled["label"][:, 0].long().numpy()
    mixed_label = mixed(y[:, None], pseudo[:, None], draws.boxes[0])[:, 0]
    assert (mixed_label != pseudo).any()
    gradients = network.gradients()
    for output, gradient, target in (
        (network.of_count[UNLABELED], gradients["mixed"], mixed_label),
        (network.whole.logits, gradients["whole_logits"], pseudo),
        (network.of_count[LABELED + UNLABELED][LABELED:], gradients["masked"][LABELED:], pseudo),
    ):
        expected = (softmax(array(output)) - one_hot(target, 3)) / target.size
        np.testing.assert_allclose(gradient.numpy(), expected, atol=1e-6)


def test_reconstruction_draws_the_students_logits_to_the_averages() -> None:
    gradient = gradients_of("reconstruction_loss")["masked"]
    own, of_teacher = FixedOutputs(3).of_count[LABELED + UNLABELED].detach(), FixedTeachers(3).logits.detach()
    sizes = of_teacher.square().sum((1, 2, 3, 4), keepdim=True)
    torch.testing.assert_close(gradient, 2 * (own - of_teacher) / sizes / (LABELED + UNLABELED))


def test_no_gradient_reaches_the_teachers() -> None:
    dtlp = method(FixedOutputs(3))
    dtlp(*streams(), 1.0)["loss"].backward()
    said = [dtlp.teachers.logits, dtlp.teachers.of_unlabeled, *dtlp.teachers.of_soft]
    assert all(part.requires_grad and part.grad is None for part in said)


# Weights of zero, and streams


@pytest.mark.parametrize("weight", sorted(set(WEIGHTS.values())))
def test_a_weight_of_zero_leaves_its_term_out(weight: str) -> None:
    torch.manual_seed(0)
    losses = method(FixedOutputs(3), **{weight: 0.0})(*streams(), 0.0)
    left_out = {part for part, own in WEIGHTS.items() if own == weight}
    assert {name for name in losses if name in PARTS} == PARTS - left_out
    assert losses["loss"].item() == pytest.approx(sum(losses[name].item() for name in PARTS - left_out), rel=1e-5)


@pytest.mark.parametrize(
    "weights, passes",
    [
        ({}, "diffusion direct labeled whole mixed masked"),
        ({"mix_weight": 0.0}, "diffusion direct labeled whole masked"),
        ({"masked_weight": 0.0}, "diffusion direct labeled whole mixed masked"),
        ({"reconstruction_weight": 0.0}, "diffusion direct labeled whole mixed masked"),
        ({"masked_weight": 0.0, "reconstruction_weight": 0.0}, "diffusion direct labeled whole mixed"),
        ({"distillation_weight": 0.0}, "diffusion direct labeled whole mixed masked"),
        ({"unlabeled_weight": 0.0, "distillation_weight": 0.0}, "diffusion direct labeled whole mixed masked"),
        (
            dict.fromkeys(("unlabeled_weight", "distillation_weight", "propagation_weight"), 0.0),
            "diffusion direct labeled mixed masked",
        ),
        ({"labeled_weight": 0.0}, "diffusion direct whole mixed masked"),
    ],
)
def test_a_pass_that_no_term_needs_is_left_out(weights: dict[str, float], passes: str) -> None:
    network = FixedOutputs(3)
    method(network, **weights)(*streams(), 0.0)
    assert sorted(name for name, _ in network.calls) == sorted(passes.split())


def test_a_ramp_that_is_at_zero_leaves_the_terms_of_unlabelled_volumes_out() -> None:
    losses = method(FixedOutputs(3), unsupervised_weight=constant(0.0))(*streams(), 0.0)
    assert {name for name in losses if name in PARTS} == PARTS - set(OF_UNLABELED)


def test_without_unlabelled_volumes_there_are_the_labelled_terms_alone() -> None:
    network = FixedOutputs(3)
    dtlp = method(network)
    losses = dtlp(streams()[0], None, 1.0)
    assert set(losses) == {"loss", *PARTS - set(OF_UNLABELED)}
    assert sorted(name for name, _ in network.calls) == ["diffusion", "direct", "labeled"]
    assert dtlp.teachers.asked == []
    losses["loss"].backward()
    assert losses["loss"].isfinite()


def test_distillation_of_a_step_that_does_not_sample_has_one_teacher() -> None:
    labeled, unlabeled = streams()
    two, one = (method(FixedOutputs(3), teachers=FixedTeachers(3, soft)) for soft in (2, 1))
    losses = [dtlp(labeled, unlabeled, 0.0)["distillation_loss"].item() for dtlp in (two, one)]
    whole, soft = (softmax(array(logits)) for logits in (one.network.whole.logits, one.teachers.of_soft[0]))
    assert losses[1] == pytest.approx(soft_dice(whole, soft), rel=1e-4) and losses[0] > 1.5 * losses[1]


def test_unlabelled_volumes_need_no_label_and_a_label_changes_nothing() -> None:
    labeled, unlabeled = images_and_label()

    def losses(stream: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        dtlp = real_method()
        torch.manual_seed(3)
        return dtlp(labeled, stream, 1.0)

    without, with_it = losses(unlabeled), losses({**unlabeled, "label": torch.ones(2, 1, 4, 4, 6)})
    assert without.keys() == with_it.keys()
    assert all(torch.equal(value, with_it[name]) for name, value in without.items())


@pytest.mark.parametrize("labeled", [1, 3])
def test_streams_of_different_lengths(labeled: int) -> None:
    dtlp = real_method()
    losses = dtlp(*images_and_label(labeled), progress=1.0)
    losses["loss"].backward()
    of_equation_22 = PARTS - {"unlabeled_loss", "labeled_loss"}
    assert losses["loss"].isfinite() and {name for name in losses if name in PARTS} == of_equation_22


def test_half_precision_outputs_are_compared_in_float32() -> None:
    torch.manual_seed(0)
    half, same = FixedOutputs(3), FixedOutputs(3)
    for network, cast in ((half, lambda x: x.detach().bfloat16()), (same, lambda x: x.detach().bfloat16().float())):
        for path in ("denoised", "direct", "whole"):
            setattr(network, path, PathOutput(*(cast(part) for part in getattr(network, path))))
        network.of_count = {count: cast(logits) for count, logits in network.of_count.items()}
    found = []
    for network, enabled in ((half, True), (same, False)):
        torch.manual_seed(3)
        # the propagation's projections are layers, which compute in half precision
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            found.append(method(network, propagation_weight=0.0)(*streams(), 0.0))
    assert found[0]["loss"].dtype == torch.float32
    for name, value in found[1].items():
        torch.testing.assert_close(found[0][name], value)


def test_half_precision_of_a_whole_step_is_finite_in_float32() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        dtlp = real_method(unlabeled_weight=1.0, labeled_weight=1.0)
        losses = dtlp(*images_and_label(), 1.0)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())
    losses["loss"].backward()
    for name, parameter in dtlp.network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


# The network's parts


PATHS = {
    "image stem": "deployed.stem",
    "encoder": "deployed.encoder",
    "theta": "deployed.decoder",
    "psi": "labeled_decoder",
    "xi": "diffusion_decoder",
    "noisy stem": "diffusion_stem",
    "time": "time_embedding",
    "projections": ("source_projection", "target_projection"),
}
DEPLOYED = {"image stem", "encoder", "theta"}


def trained(network: DiffusionVNet) -> set[str]:
    named = [name for name, parameter in network.named_parameters() if parameter.grad is not None]
    return {part for part, prefix in PATHS.items() if any(name.startswith(prefix) for name in named)}


@pytest.mark.parametrize(
    "part, parts",
    [
        ("mix_loss", {"theta"}),
        ("masked_loss", {"theta"}),
        ("unlabeled_loss", {"theta"}),
        ("distillation_loss", {"theta"}),
        ("reconstruction_loss", {"theta"}),
        ("labeled_loss", {"theta"}),
        ("propagation_loss", {"theta", "projections"}),
        (None, set()),
    ],
)
def test_each_term_trains_its_own_parts_of_the_network(part: str | None, parts: set[str]) -> None:
    """Beside those that the two terms without weight train: both stems, the encoder and the other decoders."""
    network = small_network()
    chosen = only(*([part] if part else []))
    real_method(network, **chosen)(*images_and_label(), 1.0)["loss"].backward()
    assert trained(network) == set(PATHS) - {"theta", "projections"} | parts


def test_terms_of_unlabelled_volumes_train_the_deployed_path_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small_network()
    dtlp = real_method(network, **only("mix_loss", "masked_loss", "distillation_loss", "reconstruction_loss"))
    monkeypatch.setattr(dtlp, "_terms_of_labeled", lambda image, label: {})
    dtlp(*images_and_label(), 1.0)["loss"].backward()
    assert trained(network) == DEPLOYED
    for name, parameter in network.deployed.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_every_parameter_changes_in_a_step() -> None:
    # normalised over all channels at once: in batch normalisation the biases before it have no effect
    network = small_network(norm="group", norm_groups=1, base_channels=4)
    dtlp = real_method(network, pull=0.0)
    dtlp(*images_and_label(), 1.0)["loss"].backward()
    assert {id(parameter) for parameter in dtlp.parameters() if parameter.requires_grad} == {
        id(parameter) for parameter in network.parameters()
    }
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_a_few_steps_lower_the_loss() -> None:
    torch.manual_seed(0)
    dtlp = real_method(small_network(base_channels=4), labeled_weight=1.0, unsupervised_weight=constant(0.1))
    optimizer = torch.optim.SGD(dtlp.parameters(), lr=0.05, momentum=0.9)
    history = []
    for _ in range(12):
        losses = dtlp(*images_and_label(), 1.0)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        dtlp.after_step()
        history.append(losses)
    for name in ("denoising_loss", "difficulty_loss", "labeled_loss"):
        before, after = (np.mean([losses[name].item() for losses in part]) for part in (history[:3], history[-3:]))
        assert after < 0.95 * before, name


def test_deployed_decoder_is_drawn_to_the_mean_of_the_others_before_the_step() -> None:
    network = small_network()
    decoders = (network.deployed.decoder, network.diffusion_decoder, network.labeled_decoder)
    before = [[parameter.detach().clone() for parameter in decoder.parameters()] for decoder in decoders]
    seen = []
    network.deployed.decoder.register_forward_pre_hook(
        lambda module, inputs: seen.append([parameter.detach().clone() for parameter in module.parameters()])
    )
    real_method(network, pull=0.3, **only("mix_loss"))(*images_and_label(), 1.0)
    expected = [0.7 * own + 0.3 * (xi + psi) / 2 for own, xi, psi in zip(*before, strict=True)]
    for index, wanted in enumerate(expected):
        torch.testing.assert_close(list(network.deployed.decoder.parameters())[index], wanted)
        torch.testing.assert_close(seen[0][index], wanted)
    for decoder, own in zip(decoders[1:], before[1:], strict=True):
        assert all(torch.equal(parameter, old) for parameter, old in zip(decoder.parameters(), own, strict=True))


@pytest.mark.parametrize("pull", [0.0, 0.01, 1.0])
def test_pull_after_k_steps_is_the_closed_form(pull: float) -> None:
    """With the others at rest the distance to their mean shrinks by 1 - pull a step."""
    network = FixedOutputs(2)
    weights = [decoder.weight for decoder in (network.labeled_decoder, network.diffusion_decoder)]
    mean, start = (weights[0] + weights[1]).detach() / 2, network.deployed["decoder"].weight.detach().clone()
    dtlp = method(network, pull=pull)
    for step in range(1, 5):
        dtlp(streams(2)[0], None, 0.0)
        expected = mean + (1 - pull) ** step * (start - mean)
        torch.testing.assert_close(network.deployed["decoder"].weight.detach(), expected)
    assert network.deployed["decoder"].weight.requires_grad


def test_pull_leaves_statistics_alone() -> None:
    network = small_network()
    network.labeled_decoder(network.deployed.encoder(network.deployed.stem(torch.randn(2, 1, 4, 4, 6)), []), [])
    buffers = [buffer.clone() for buffer in network.deployed.decoder.buffers()]
    real_method(network, pull=1.0, **only())(*images_and_label(), 0.0)
    assert all(torch.equal(*pair) for pair in zip(network.deployed.decoder.buffers(), buffers, strict=True))


def batches(network: DiffusionVNet) -> dict[str, set[int]]:
    """Return how many batches the layers of each part of the network have counted."""
    found: dict[str, set[int]] = {}
    for name, buffer in network.named_buffers():
        if name.endswith("num_batches_tracked"):
            part = next(part for part, prefix in PATHS.items() if name.startswith(prefix))
            found.setdefault(part, set()).add(int(buffer))
    return found


@pytest.mark.parametrize("sampling_interval", [1, 2])
def test_running_statistics_are_those_of_the_students_images(sampling_interval: int) -> None:
    network = small_network(dropout=0.5, unit_dropout=0.1)
    dtlp = real_method(network, sampling_interval=sampling_interval)
    for step in range(1, 3):
        dtlp(*images_and_label(), 1.0)
        dtlp.after_step()
        # psi of labelled images; theta of whole, mixed and masked ones; the encoder of all of these
        expected = {"image stem": {4 * step}, "encoder": {4 * step}, "theta": {3 * step}, "psi": {step}}
        assert batches(network) == {**expected, "xi": {0}, "noisy stem": {0}}
    unseen = [buffer for name, buffer in network.named_buffers() if "diffusion" in name and "running_mean" in name]
    assert unseen and not any(buffer.any() for buffer in unseen)
    for module in network.modules():
        assert module.training and getattr(module, "track_running_stats", True)


def test_running_statistics_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small_network(dropout=0.5)

    def fail(*inputs: torch.Tensor) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(network, "diffusion_path", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        real_method(network)(*images_and_label(), 1.0)
    for module in network.modules():
        assert module.training and getattr(module, "track_running_stats", True)


# Teachers, state and deployment


@pytest.mark.parametrize("has_unlabeled", [True, False])
def test_second_teacher_after_k_steps_is_the_closed_form(has_unlabeled: bool) -> None:
    network = small_network()
    dtlp = real_method(network, ema_decay=0.6)
    with torch.no_grad():  # as if loaded after the construction
        network.deployed.stem[0][0].weight.fill_(2.0)
    labeled, unlabeled = images_and_label()
    dtlp(labeled, unlabeled if has_unlabeled else None, 0.0)
    expected = 2.0
    for step in range(1, 6):
        with torch.no_grad():
            network.deployed.stem[0][0].weight.fill_(2.0 + step)
        dtlp.after_step()
        decay = min(0.6, step / (step + 1))
        expected = decay * expected + (1 - decay) * (2.0 + step)
        weight = dtlp.published.deployed.stem[0][0].weight
        torch.testing.assert_close(weight, torch.full_like(weight, expected))
        assert int(dtlp.teachers.average.steps) == step


def test_after_a_step_the_teachers_are_told() -> None:
    dtlp = method(FixedOutputs(2))
    dtlp(*streams(2), 0.0)
    assert dtlp.teachers.updates == 0
    dtlp.after_step()
    assert dtlp.teachers.updates == 1


def test_state_dict_round_trip() -> None:
    def losses(dtlp: DTLP) -> dict[str, torch.Tensor]:
        torch.manual_seed(5)
        return dtlp(*images_and_label(), 0.5)

    def trained_for(steps: int) -> DTLP:
        dtlp = real_method(sampling_interval=2)
        optimizer = torch.optim.SGD(dtlp.parameters(), lr=0.1)
        for _ in range(steps):
            losses(dtlp)["loss"].backward()
            optimizer.step()
            dtlp.after_step()
        return dtlp

    first = trained_for(3)
    second = real_method(small_network(initialisation="kaiming"), sampling_interval=2)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.difficulty.learned.any()
    of_first, of_second = losses(first), losses(second)
    assert of_first.keys() == of_second.keys()
    for name, value in of_first.items():
        assert torch.equal(value, of_second[name]), name
    assert first.state_dict().keys() == second.state_dict().keys()
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_the_average_is_published_and_it_and_the_student_are_networks_alone() -> None:
    dtlp = real_method()
    for _ in range(2):
        dtlp(*images_and_label(), 1.0)["loss"].backward()
        with torch.no_grad():
            for parameter in dtlp.network.parameters():
                parameter.mul_(0.5)
        dtlp.after_step()
    image = images_and_label()[1]["image"]
    with torch.no_grad():
        for network in (dtlp.published.eval(), dtlp.network.eval()):
            alone = small_network()
            alone.load_state_dict(network.state_dict())
            expected = network.unlabeled_path(image).logits
            assert torch.equal(alone.eval()(image), expected) and torch.equal(network(image), expected)
            assert torch.equal(alone.deployed(image), expected)  # without the other decoders
        of_teacher = dtlp.teachers.average.eval()(image)
        assert torch.equal(dtlp.published(image), of_teacher)
        assert not torch.allclose(of_teacher, expected)


def test_an_unknown_branch_is_an_error_of_one_line() -> None:
    with pytest.raises(ValueError, match='propagation_branch "psi" is unknown: use one of diffusion, labeled') as error:
        method(FixedOutputs(2), propagation_branch="psi")
    assert "\n" not in str(error.value)
