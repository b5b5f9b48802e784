# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss
from torch import nn
from torch.nn import functional

from medssl_components.methods import SKCDF
from medssl_components.networks import DecoupledOutput, DecoupledVNet, KnowledgeComplementarity
from medssl_components.ops import PolynomialDecay, SigmoidRampUp

LABELED, UNLABELED, SHAPE = 2, 3, (4, 5, 6)
PATCH = (8, 8, 4)
SEED = 5
OF_LABELED = ("supervised_loss", "supervised_auxiliary_loss")
OF_UNLABELED = ("unlabeled_loss", "unlabeled_auxiliary_loss")
PARTS = (*OF_LABELED, *OF_UNLABELED)  # in the order in which the losses are computed
OUTPUTS = dict(zip(PARTS, ("joint_main", "joint_auxiliary", "alone_main", "alone_auxiliary"), strict=True))
MODULES = (
    "encoder",
    "complementarity",
    *(
        f"{which}_decoder.{part}"
        for which in ("labeled", "unlabeled")
        for part in ("decoder", "head", "auxiliary_head")
    ),
)
COUNTS = {2: (300, 100), 3: (400, 100, 50)}
CROSS_ENTROPY_AND_DICE = {
    "house": {"squared_pred": True, "smooth_nr": 1e-5, "smooth_dr": 1e-5, "lambda_dice": 0.5, "lambda_ce": 0.5},
    "code": {"squared_pred": False, "smooth_nr": 1.0, "smooth_dr": 1.0, "lambda_dice": 1.0, "lambda_ce": 1.0},
}
ORDERS = {  # table 5
    "D": ("decoder",),
    "H-D": ("labeled_head", "decoder"),
    "D-H-H": ("decoder", "labeled_head", "unlabeled_head"),
    "H-H-D": ("labeled_head", "unlabeled_head", "decoder"),
    "H-D-H": ("labeled_head", "decoder", "unlabeled_head"),
    "none": (),
}


class FixedOutputs(nn.Module):
    """A network without weights; its outputs are leaves, which keep what a term teaches them."""

    def __init__(self, joint: tuple[torch.Tensor, ...], alone: tuple[torch.Tensor, ...]) -> None:
        super().__init__()
        self.of_joint, self.of_alone = (
            DecoupledOutput(*(logits.detach().requires_grad_() for logits in output)) for output in (joint, alone)
        )
        self.num_classes = joint[0].shape[1]
        self.labeled_decoder = self.unlabeled_decoder = None

    def joint(self, image: torch.Tensor, num_labeled: int) -> DecoupledOutput:
        assert 0 < num_labeled <= len(image) == len(self.of_joint.logits)
        return self.of_joint

    def alone(self, image: torch.Tensor) -> DecoupledOutput:
        assert len(image) == len(self.of_alone.logits)
        return self.of_alone

    def gradients(self) -> dict[str, torch.Tensor]:
        """Return the gradient of each output, zeros where none came."""
        outputs = zip(OUTPUTS.values(), (*self.of_joint, *self.of_alone), strict=True)
        return {name: torch.zeros_like(part) if part.grad is None else part.grad for name, part in outputs}


class CrossEntropy(nn.Module):
    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits, label[:, 0].long())


class OneTerm(nn.Module):
    """A loss that teaches for one of the four parts alone."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.wanted, self.calls = PARTS.index(part), 0

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        weight = float(self.calls == self.wanted)
        self.calls += 1
        return weight * functional.cross_entropy(logits, label[:, 0].long())


def fixed_outputs(num_classes: int = 2, labeled: int = LABELED, unlabeled: int = UNLABELED) -> FixedOutputs:
    """Draw outputs of which main and auxiliary heads agree in part, as in training."""
    generator = torch.Generator().manual_seed(0)

    def draw(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        truth = torch.randn(batch, num_classes, *SHAPE, generator=generator)
        truth[:, 0] += 0.5  # there is more background than objects
        return tuple(2 * (truth + 0.5 * torch.randn(truth.shape, generator=generator)) for _ in range(2))

    return FixedOutputs(draw(labeled + unlabeled), draw(unlabeled))


def constant(value: float) -> Callable[[float], float]:
    return lambda progress: value


def streams(
    num_classes: int = 2, labeled: int = LABELED, unlabeled: int = UNLABELED
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    label = torch.randint(num_classes, (labeled, 1, *SHAPE), generator=generator, dtype=torch.uint8)
    image = torch.randn(labeled + unlabeled, 1, *SHAPE, generator=generator)
    return {"image": image[:labeled], "label": label}, {"image": image[labeled:]}


def dice_cross_entropy(form: str = "house") -> DiceCELoss:
    return DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=True, **CROSS_ENTROPY_AND_DICE[form]
    )


def method(network: nn.Module, **options: object) -> SKCDF:
    defaults = {
        "loss": dice_cross_entropy(),
        "class_counts": COUNTS[network.num_classes],
        "unlabeled_weight": constant(1.0),
    }
    return SKCDF(network, **{**defaults, **options})


def run(skcdf: SKCDF, *batch: object, progress: float = 1.0) -> dict[str, torch.Tensor]:
    torch.manual_seed(SEED)  # of the voxels that are dropped
    return skcdf(*batch, progress)


def small_network(**settings: object) -> DecoupledVNet:
    torch.manual_seed(0)
    shape = {
        "num_classes": 3,
        "base_channels": 4,
        "patch_size": PATCH,
        "num_convs": (1, 1, 1),
        "strides": (2, 2),
        "dropout": 0.0,
        "complementarity": partial(KnowledgeComplementarity, dropout=0.0),
    }
    return DecoupledVNet(**{**shape, **settings})


def images_and_label(
    labeled: int = 2, unlabeled: int = 2, seed: int = 0
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    images = torch.randn(labeled + unlabeled, 1, *PATCH, generator=torch.Generator().manual_seed(seed))
    label = (images[:labeled] > 0).to(torch.uint8) + (images[:labeled] > 1)
    return {"image": images[:labeled], "label": label}, {"image": images[labeled:]}


def taught(network: DecoupledVNet) -> set[str]:
    """Return the modules to whose parameters a gradient came."""
    gradients = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    return {
        module
        for module in MODULES
        if any(gradient.any() for name, gradient in gradients.items() if name.startswith(f"{module}."))
    }


# A reference in NumPy


def softmax(logits: np.ndarray) -> np.ndarray:
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponential / exponential.sum(axis=1, keepdims=True)


def reference_loss(logits: np.ndarray, label: np.ndarray, form: str = "house") -> float:
    """Compute cross-entropy and Dice without background over the whole batch."""
    setting = CROSS_ENTROPY_AND_DICE[form]
    probs, num_classes = softmax(logits), logits.shape[1]
    cross_entropy = -np.log(np.take_along_axis(probs, label[:, None], axis=1)).mean()
    dice = []
    for k in range(1, num_classes):
        p, y = probs[:, k], (label == k).astype(float)
        sizes = (p**2).sum() + y.sum() if setting["squared_pred"] else p.sum() + y.sum()
        dice.append((2 * (p * y).sum() + setting["smooth_nr"]) / (sizes + setting["smooth_dr"]))
    return setting["lambda_ce"] * cross_entropy + setting["lambda_dice"] * (1 - np.mean(dice))


def reference(
    network: FixedOutputs,
    label: torch.Tensor,
    counts: tuple[int, ...],
    progress: float = 1.0,
    reading: str = "loss",
    form: str = "house",
) -> dict[str, float]:
    """Compute each part of the loss as equations 16 to 20 have it, in float64, with the same random numbers."""

    def balanced(logits: np.ndarray, target: np.ndarray, kept: np.ndarray) -> float:
        if reading == "logits":
            return reference_loss(logits * kept[:, None], target * kept, form)
        return reference_loss(np.moveaxis(logits, 1, -1)[kept].T[None], target[kept][None], form)

    joint, alone = (
        [logits.detach().double().numpy() for logits in output] for output in (network.of_joint, network.of_alone)
    )
    present = [number for number in counts if number]
    ratios = np.array([min(present) / number if number else 1.0 for number in counts])
    y, count = label[:, 0].long().numpy(), len(label)
    torch.manual_seed(SEED)
    kept = torch.rand(label.shape)[:, 0].numpy() < ratios[y]
    parts = {
        "supervised_loss": reference_loss(joint[0][:count], y, form),
        "supervised_auxiliary_loss": balanced(joint[1][:count], y, kept),
    }
    if len(joint[0]) == count:
        return parts
    main, auxiliary = (logits[count:].argmax(axis=1) for logits in joint)
    draw = torch.rand(len(main), 1, *SHAPE)[:, 0].numpy()
    kept = draw < 1 - progress * (1 - ratios[auxiliary])
    parts["unlabeled_loss"] = reference_loss(alone[0], main, form)
    parts["unlabeled_auxiliary_loss"] = balanced(alone[1], auxiliary, kept)
    return parts


# What forward returns


def test_returns_a_scalar_loss_and_detached_parts() -> None:
    losses = method(small_network())(*images_and_label(), progress=1.0)
    assert losses["loss"].shape == () and losses["loss"].requires_grad and losses["loss"].isfinite()
    parts = {name: value for name, value in losses.items() if name != "loss"}
    assert set(parts) == {*PARTS, "unlabeled_weight"}
    assert all(value.shape == () and not value.requires_grad for value in parts.values())


def test_after_a_step_nothing_moves() -> None:
    skcdf = method(small_network())
    skcdf(*images_and_label(), 0.0)["loss"].backward()
    before = {name: value.clone() for name, value in skcdf.state_dict().items()}
    skcdf.after_step()
    assert {f"network.{name}" for name in skcdf.network.state_dict()} | {"class_ratios"} == set(before)
    assert all(torch.equal(value, before[name]) for name, value in skcdf.state_dict().items())


# Gradients


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("part", OF_UNLABELED)
def test_pseudo_labels_teach_the_unlabelled_decoder_and_not_the_one_they_come_from(part: str, num_classes: int) -> None:
    network = fixed_outputs(num_classes)
    run(method(network, loss=OneTerm(part)), *streams(num_classes))["loss"].backward()
    for name, gradient in network.gradients().items():
        assert gradient.isfinite().all()
        assert all(bool(patch.any()) == (name == OUTPUTS[part]) for patch in gradient), name


@pytest.mark.parametrize("part", OF_LABELED)
def test_labels_teach_one_head_of_the_labelled_decoder_on_labelled_volumes(part: str) -> None:
    network = fixed_outputs(3)
    run(method(network, loss=OneTerm(part)), *streams(3))["loss"].backward()
    for name, gradient in network.gradients().items():
        assert gradient.isfinite().all() and not gradient[LABELED:].any(), name
        assert all(bool(patch.any()) == (name == OUTPUTS[part]) for patch in gradient[:LABELED]), name


@pytest.mark.parametrize("part", PARTS)
def test_each_term_trains_encoder_module_decoder_and_head_of_its_stream(part: str) -> None:
    network = small_network()
    method(network, loss=OneTerm(part))(*images_and_label(), 0.5)["loss"].backward()
    decoder = "labeled_decoder" if part in OF_LABELED else "unlabeled_decoder"
    head = "auxiliary_head" if "auxiliary" in part else "head"
    assert taught(network) == {"encoder", "complementarity", f"{decoder}.decoder", f"{decoder}.{head}"}


@pytest.mark.parametrize("part", OF_UNLABELED)
def test_without_decoupling_pseudo_labels_teach_the_one_decoder(part: str) -> None:
    network = small_network(decoupled=False)
    method(network, loss=OneTerm(part))(*images_and_label(), 0.5)["loss"].backward()
    head = "auxiliary_head" if "auxiliary" in part else "head"
    assert taught(network) == {"encoder", "complementarity", "labeled_decoder.decoder", f"labeled_decoder.{head}"}


@pytest.mark.parametrize("part", PARTS)
def test_no_gradient_passes_to_the_images_of_the_other_stream(part: str) -> None:
    labeled, unlabeled = images_and_label()
    skcdf = method(small_network(), loss=OneTerm(part)).eval()  # batch normalisation couples the streams in training
    labeled["image"].requires_grad_(), unlabeled["image"].requires_grad_()
    skcdf(labeled, unlabeled, 0.5)["loss"].backward()
    own, other = (labeled, unlabeled) if part in OF_LABELED else (unlabeled, labeled)
    assert own["image"].grad.any()
    assert other["image"].grad is None or not other["image"].grad.any()


@pytest.mark.parametrize("progress, kept", [(0.0, "all"), (1.0, "rare")])
def test_dropped_voxels_have_no_gradient_and_kept_ones_that_of_the_pseudo_label(progress: float, kept: str) -> None:
    """With counts of 10^9 to 1 a voxel of class 0 is always dropped at the end, and never at the start."""
    network = fixed_outputs()
    options = {"loss": CrossEntropy(), "class_counts": (10**9, 1)}
    run(method(network, **options), *streams(), progress=progress)["loss"].backward()
    target = network.of_joint.auxiliary_logits.detach()[LABELED:].argmax(1)
    probs = network.of_alone.auxiliary_logits.detach().softmax(1)
    expected = probs - functional.one_hot(target, 2).movedim(-1, 1)
    if kept == "rare":
        assert 0.1 < target.float().mean() < 0.9
        expected = expected * target[:, None] / target.sum()
    else:
        expected = expected / target.numel()
    torch.testing.assert_close(network.gradients()["alone_auxiliary"], expected)


def test_every_parameter_gets_a_gradient_in_a_step() -> None:
    # normalised over all channels at once: in batch normalisation the biases before it have no effect
    network = small_network(norm="group", norm_groups=1)
    skcdf = method(network)
    run(skcdf, *images_and_label())["loss"].backward()
    # what a bias adds to one token of all channels is what the layer norms over the channels take away
    without_effect = {f"complementarity.{block}_block.tokens.bias" for block in ("local", "global")}
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert name in without_effect or parameter.grad.any(), name


def test_a_few_steps_lower_the_loss() -> None:
    skcdf = method(small_network(), unlabeled_weight=constant(0.1))
    optimizer = torch.optim.SGD(skcdf.parameters(), lr=0.1)
    history = []
    for _ in range(15):
        losses = skcdf(*images_and_label(), 0.5)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        skcdf.after_step()
        history.append(losses)
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    assert history[-1]["supervised_loss"] < 0.9 * history[0]["supervised_loss"]


# Values


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("reading", ["logits", "loss"])
def test_each_part_equals_the_reference(num_classes: int, progress: float, reading: str) -> None:
    network, batch = fixed_outputs(num_classes), streams(num_classes)
    losses = run(method(network, balance_reading=reading), *batch, progress=progress)
    expected = reference(network, batch[0]["label"], COUNTS[num_classes], progress, reading)
    assert set(expected) == set(losses) - {"loss", "unlabeled_weight"} == set(PARTS)
    for name, value in expected.items():
        assert value > 0 and losses[name].item() == pytest.approx(value, rel=1e-5), name


def test_progress_and_reading_change_the_auxiliary_parts_alone() -> None:
    network, label = fixed_outputs(3), streams(3)[0]["label"]
    first, *others = (
        reference(network, label, COUNTS[3], progress, reading)
        for progress, reading in ((0.0, "logits"), (1.0, "logits"), (0.0, "loss"))
    )
    changed = [{name for name in PARTS if other[name] != first[name]} for other in others]
    assert changed == [{"unlabeled_auxiliary_loss"}, {"supervised_auxiliary_loss"}]


def test_the_loss_of_the_released_code_is_among_the_settings() -> None:
    network, batch = fixed_outputs(3), streams(3)
    losses = run(method(network, loss=dice_cross_entropy("code"), balance_reading="logits"), *batch)
    expected = reference(network, batch[0]["label"], COUNTS[3], reading="logits", form="code")
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("labeled, unlabeled", [(1, 3), (3, 1)])
def test_any_share_of_labelled_patches(labeled: int, unlabeled: int) -> None:
    network, batch = fixed_outputs(3, labeled, unlabeled), streams(3, labeled, unlabeled)
    losses = run(method(network), *batch)
    for name, value in reference(network, batch[0]["label"], COUNTS[3]).items():
        assert losses[name].item() == pytest.approx(value, rel=1e-5), name
    whole = method(small_network())(*images_and_label(labeled, unlabeled), 0.5)["loss"]
    whole.backward()
    assert whole.isfinite()


def test_loss_is_the_weighted_sum_of_its_parts() -> None:
    network, batch = fixed_outputs(), streams()
    losses = run(method(network, auxiliary_weight=0.3, unlabeled_weight=constant(7.0)), *batch)
    parts = reference(network, batch[0]["label"], COUNTS[2])
    expected = parts["supervised_loss"] + 0.3 * parts["supervised_auxiliary_loss"]
    expected += 7 * (parts["unlabeled_loss"] + 0.3 * parts["unlabeled_auxiliary_loss"])
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert losses["unlabeled_weight"].item() == 7


def test_defaults_are_those_of_equations_17_to_20() -> None:
    network, batch = fixed_outputs(3), streams(3)
    skcdf = SKCDF(network, dice_cross_entropy(), COUNTS[3], constant(10.0))
    parts = reference(network, batch[0]["label"], COUNTS[3], reading="loss")
    expected = sum(parts[name] for name in OF_LABELED) + 10 * sum(parts[name] for name in OF_UNLABELED)
    assert run(skcdf, *batch)["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert (skcdf.transfers, skcdf.ema_decay) == (ORDERS["H-D-H"], 0.99)


@pytest.mark.parametrize("progress, weight", [(0.0, 0.0673795), (0.5, 10 * math.exp(-1.25)), (1.0, 10.0)])
def test_the_weight_of_the_unlabelled_terms_rises_over_the_whole_training(progress: float, weight: float) -> None:
    network, batch = fixed_outputs(), streams()
    losses = run(method(network, unlabeled_weight=SigmoidRampUp(10.0)), *batch, progress=progress)
    parts = reference(network, batch[0]["label"], COUNTS[2], progress)
    assert losses["unlabeled_weight"].item() == pytest.approx(weight, rel=1e-5)
    expected = sum(parts[name] for name in OF_LABELED) + weight * sum(parts[name] for name in OF_UNLABELED)
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_one_voxel_by_hand() -> None:
    """The heads of the labelled decoder are of different mind on the unlabelled voxel, and each teaches its like."""

    def logits(*of_object: float) -> torch.Tensor:
        p = torch.tensor(of_object)
        return torch.stack([1 - p, p]).log().T.reshape(-1, 2, 1, 1, 1)

    network = FixedOutputs((logits(0.8, 0.6), logits(0.9, 0.4)), (logits(0.7), logits(0.7)))
    image = torch.zeros(1, 1, 1, 1, 1)
    options = {"loss": CrossEntropy(), "class_counts": (1, 1), "unlabeled_weight": constant(10.0)}
    losses = run(method(network, **options), {"image": image, "label": torch.ones_like(image)}, {"image": image})
    expected = {
        "supervised_loss": -math.log(0.8),
        "supervised_auxiliary_loss": -math.log(0.9),
        "unlabeled_loss": -math.log(0.7),
        "unlabeled_auxiliary_loss": -math.log(0.3),
    }
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-5), name
    assert losses["loss"].item() == pytest.approx(-math.log(0.8 * 0.9) - 10 * math.log(0.7 * 0.3), rel=1e-5)


@pytest.mark.parametrize("reading, expected", [("logits", math.log(3)), ("loss", 0.0)])
def test_where_all_voxels_are_dropped_the_auxiliary_head_learns_nothing(reading: str, expected: float) -> None:
    network, (labeled, unlabeled) = fixed_outputs(3), streams(3)
    empty = {"image": labeled["image"], "label": torch.zeros_like(labeled["label"])}
    options = {"loss": CrossEntropy(), "class_counts": (10**9, 10**9, 1), "balance_reading": reading}
    losses = run(method(network, **options), empty, unlabeled)
    assert losses["supervised_auxiliary_loss"].item() == pytest.approx(expected, rel=1e-6)
    losses["loss"].backward()
    gradients = network.gradients()
    assert not gradients["joint_auxiliary"].any() and gradients["joint_main"][:LABELED].any()


# Transfers


def moved(order: tuple[str, ...], decay: float, steps: int, head_decay: float | None = None) -> np.ndarray:
    """Return the matrix that moves (main, auxiliary) of the labelled and of the unlabelled decoder."""
    pulls = {"labeled_head": ((0, 1),), "decoder": ((2, 0), (3, 1)), "unlabeled_head": ((2, 3),)}
    step = np.eye(4)
    for transfer in order:
        pull = np.eye(4)
        share = decay if transfer == "decoder" or head_decay is None else head_decay
        for target, source in pulls[transfer]:
            pull[target, target], pull[target, source] = share, 1 - share
        step = pull @ step
    return np.linalg.matrix_power(step, steps)


def heads(network: DecoupledVNet) -> list[np.ndarray]:
    decoders = network.labeled_decoder, network.unlabeled_decoder
    modules = [head for decoder in decoders for head in (decoder.head, decoder.auxiliary_head)]
    return [nn.utils.parameters_to_vector(head.parameters()).detach().double().numpy() for head in modules]


@pytest.mark.parametrize("decay", [0.99, 0.7])
@pytest.mark.parametrize("order", ORDERS)
def test_transfers_equal_the_closed_form_and_leave_statistics_alone(order: str, decay: float) -> None:
    network, steps = small_network(), 3
    skcdf = method(network, transfers=ORDERS[order], ema_decay=decay).eval()  # batch normalisation counts nothing
    for buffer in network.labeled_decoder.buffers():
        buffer.add_(1)
    before = {name: value.double().clone() for name, value in network.state_dict().items()}
    expected = moved(ORDERS[order], decay, steps) @ np.stack(heads(network))
    for _ in range(steps):
        skcdf(*images_and_label(), 0.5)
    np.testing.assert_allclose(heads(network), expected, rtol=1e-5, atol=1e-6)
    share = decay**steps if "decoder" in ORDERS[order] else 1.0
    for name, value in network.state_dict().items():
        if ".head." in name or ".auxiliary_head." in name:
            continue
        wanted = before[name]
        if name.startswith("unlabeled_decoder.") and name in dict(network.named_parameters()):
            wanted = share * wanted + (1 - share) * before[name.replace("unlabeled_", "labeled_")]
        torch.testing.assert_close(value.double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("progress, head_decay", [(0.0, 0.6), (0.75, 0.8), (1.0, 1.0)])
def test_transfers_between_heads_may_fade_while_the_decoders_stay(progress: float, head_decay: float) -> None:
    network, steps, order = small_network(), 3, ORDERS["H-D-H"]
    skcdf = method(network, ema_decay=0.6, head_transfer=PolynomialDecay(1.0, power=0.5)).eval()
    expected = moved(order, 0.6, steps, head_decay) @ np.stack(heads(network))
    for _ in range(steps):
        skcdf(*images_and_label(), progress)
    np.testing.assert_allclose(heads(network), expected, rtol=1e-5, atol=1e-6)


def test_knowledge_moves_before_the_forward_pass() -> None:
    skcdf = method(small_network(), ema_decay=0.5).eval()
    by_hand = method(small_network(), transfers=()).eval()
    labeled, unlabeled = by_hand.network.labeled_decoder, by_hand.network.unlabeled_decoder
    with torch.no_grad():
        for target, source in (
            (labeled.head, labeled.auxiliary_head),
            (unlabeled, labeled),
            (unlabeled.head, unlabeled.auxiliary_head),
        ):
            for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
                mine.copy_(0.5 * mine + 0.5 * theirs)
    losses, expected = (run(one, *images_and_label()) for one in (skcdf, by_hand))
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)
    untouched = run(method(small_network(), transfers=()).eval(), *images_and_label())
    assert all(not torch.isclose(untouched[name], expected[name]) for name in ("supervised_loss", "unlabeled_loss"))


def test_what_receives_a_transfer_trains_too() -> None:
    skcdf = method(small_network())
    optimizer = torch.optim.SGD(skcdf.parameters(), lr=0.1)
    skcdf(*images_and_label(), 1.0)["loss"].backward()
    before = heads(skcdf.network)
    optimizer.step()
    assert all(not np.allclose(after, head) for after, head in zip(heads(skcdf.network), before, strict=True))


# Switches


@pytest.mark.parametrize("complementarity", [True, False])
@pytest.mark.parametrize("auxiliary_heads", [True, False])
@pytest.mark.parametrize("decoupled", [True, False])
def test_what_the_network_lacks_is_left_out(complementarity: bool, auxiliary_heads: bool, decoupled: bool) -> None:
    """All rows of table 3, with the transfers as they are."""
    settings = {} if complementarity else {"complementarity": None}
    network = small_network(auxiliary_heads=auxiliary_heads, decoupled=decoupled, **settings)
    losses = method(network)(*images_and_label(), 0.5)
    expected = PARTS if auxiliary_heads else ("supervised_loss", "unlabeled_loss")
    assert set(losses) == {"loss", "unlabeled_weight", *expected}
    losses["loss"].backward()
    lacks = [("complementarity", complementarity), ("auxiliary_head", auxiliary_heads), ("unlabeled", decoupled)]
    there = {module for module in MODULES if all(wanted or name not in module for name, wanted in lacks)}
    assert taught(network) == there
    torch.testing.assert_close(losses["loss"], sum(losses[name] for name in expected))


def test_without_auxiliary_heads_the_decoders_still_pass_knowledge_on() -> None:
    network = small_network(auxiliary_heads=False)
    skcdf = method(network, ema_decay=0.25).eval()
    first, second = (
        nn.utils.parameters_to_vector(decoder.parameters()).detach()
        for decoder in (network.labeled_decoder, network.unlabeled_decoder)
    )
    skcdf(*images_and_label(), 0.5)
    after = nn.utils.parameters_to_vector(network.unlabeled_decoder.parameters()).detach()
    torch.testing.assert_close(after, 0.25 * second + 0.75 * first)
    torch.testing.assert_close(nn.utils.parameters_to_vector(network.labeled_decoder.parameters()).detach(), first)


def test_an_auxiliary_weight_of_zero_leaves_both_auxiliary_terms_out() -> None:
    network, batch = fixed_outputs(3), streams(3)
    losses = run(method(network, auxiliary_weight=0.0), *batch)
    assert set(losses) == {"loss", "unlabeled_weight", "supervised_loss", "unlabeled_loss"}
    parts = reference(network, batch[0]["label"], COUNTS[3])
    assert losses["loss"].item() == pytest.approx(parts["supervised_loss"] + parts["unlabeled_loss"], rel=1e-5)
    losses["loss"].backward()
    gradients = network.gradients()
    assert not gradients["joint_auxiliary"].any() and not gradients["alone_auxiliary"].any()


def test_an_unlabelled_weight_of_zero_teaches_nothing_of_the_unlabelled_terms() -> None:
    network, batch = fixed_outputs(3), streams(3)
    losses = run(method(network, unlabeled_weight=constant(0.0)), *batch)
    parts = reference(network, batch[0]["label"], COUNTS[3])
    assert losses["loss"].item() == pytest.approx(sum(parts[name] for name in OF_LABELED), rel=1e-5)
    losses["loss"].backward()
    gradients = network.gradients()
    assert not gradients["alone_main"].any() and not gradients["alone_auxiliary"].any()


def test_at_a_weight_of_zero_the_second_pass_gives_statistics_and_losses_without_gradients() -> None:
    """The unlabelled decoder is deployed, and its statistics come from that pass alone."""
    passes, results = [], []
    for weight in (1.0, 0.0):
        network, seen = small_network(), []
        network.encoder.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output[0]))
        losses = run(method(network, unlabeled_weight=constant(weight)), *images_and_label())
        losses["loss"].backward()
        passes.append([maps.requires_grad for maps in seen])
        results.append((losses, dict(network.named_buffers())))
        received = {name.split(".")[0] for name, weights in network.named_parameters() if weights.grad is not None}
        assert ("unlabeled_decoder" in received) == bool(weight)
    assert passes == [[True, True], [True, False]]
    (losses, statistics), (same_losses, same_statistics) = results
    for name in PARTS:
        torch.testing.assert_close(same_losses[name], losses[name])
    for name, value in statistics.items():
        assert torch.equal(same_statistics[name], value), name
    assert any(value.any() for name, value in statistics.items() if "unlabeled_decoder" in name and "mean" in name)


# Streams, counts and state


def test_without_unlabelled_volumes_the_labelled_decoder_trains_alone() -> None:
    network, (labeled, _) = fixed_outputs(3, unlabeled=0), streams(3, unlabeled=0)
    losses = run(method(network), labeled, None)
    expected = reference(network, labeled["label"], COUNTS[3])
    assert set(losses) == {"loss", *expected} == {"loss", *OF_LABELED}
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-5), name
    assert losses["loss"].item() == pytest.approx(sum(expected.values()), rel=1e-5)
    whole, seen = small_network(), []
    whole.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    method(whole)(images_and_label()[0], None, 0.5)["loss"].backward()
    assert len(seen) == 1
    assert taught(whole) == {name for name in MODULES if not name.startswith("unlabeled")}


def test_both_streams_pass_together_and_the_unlabelled_one_once_more() -> None:
    """Statistics of batch normalisation are first of all patches, then of the unlabelled ones."""
    network, seen = small_network(), []
    network.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    labeled, unlabeled = images_and_label()
    method(network)(labeled, unlabeled, 0.0)
    assert len(seen) == 2
    assert torch.equal(seen[0], torch.cat([labeled["image"], unlabeled["image"]]))
    assert torch.equal(seen[1], unlabeled["image"])


def test_unlabelled_volumes_need_no_label_and_a_label_changes_nothing() -> None:
    labeled, unlabeled = images_and_label()
    with_label = {**unlabeled, "label": torch.ones(2, 1, *PATCH)}
    without, with_it = (run(method(small_network()), labeled, stream) for stream in (unlabeled, with_label))
    assert without.keys() == with_it.keys()
    for name in without:
        torch.testing.assert_close(without[name], with_it[name])
    other = {"image": labeled["image"], "label": 2 - labeled["label"]}
    losses = run(method(small_network()), other, unlabeled)
    assert losses["supervised_loss"] != without["supervised_loss"]
    for name in OF_UNLABELED:
        torch.testing.assert_close(losses[name], without[name])


def test_a_class_without_voxels_is_never_dropped() -> None:
    counts = (100, 0, 50)
    network, (labeled, unlabeled) = fixed_outputs(3), streams(3)
    labeled["label"][labeled["label"] == 1] = 0
    skcdf = method(network, class_counts=counts)
    torch.testing.assert_close(skcdf.class_ratios, torch.tensor([0.5, 1.0, 1.0]))
    losses = run(skcdf, labeled, unlabeled)
    for name, value in reference(network, labeled["label"], counts).items():
        assert losses[name].item() == pytest.approx(value, rel=1e-5), name
    losses["loss"].backward()
    assert all(gradient.isfinite().all() for gradient in network.gradients().values())


def test_half_precision_outputs_are_compared_in_float32() -> None:
    outputs = fixed_outputs(3)
    half = FixedOutputs(*(tuple(z.detach().bfloat16() for z in out) for out in (outputs.of_joint, outputs.of_alone)))
    same = FixedOutputs(*(tuple(z.detach().float() for z in out) for out in (half.of_joint, half.of_alone)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = run(method(half), *streams(3))
    expected = run(method(same), *streams(3))
    assert losses["loss"].dtype == torch.float32
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)


@pytest.mark.parametrize("decoder", ["unlabeled", "labeled"])
def test_the_network_alone_is_what_is_deployed(decoder: str) -> None:
    skcdf = method(small_network(inference_decoder=decoder))
    skcdf(*images_and_label(), 1.0)  # moves weights and statistics
    alone = small_network(inference_decoder=decoder, initialisation="default")
    alone.load_state_dict(skcdf.network.state_dict())
    image = images_and_label(seed=3)[1]["image"]
    skcdf.eval(), alone.eval()
    logits = alone(image)
    assert logits.shape == (2, 3, *PATCH)
    torch.testing.assert_close(logits, skcdf.network(image))
    if decoder == "unlabeled":
        torch.testing.assert_close(logits, skcdf.network.alone(image).logits)
    else:
        torch.testing.assert_close(logits, skcdf.network.joint(image, len(image)).logits)


def test_state_dict_round_trip() -> None:
    first = method(small_network())
    second = method(small_network(initialisation="default"), class_counts=(1, 1, 1))
    first(*images_and_label(seed=1), 0.0)  # moves weights and the statistics of batch normalisation
    losses = [run(skcdf.eval(), *images_and_label())["loss"] for skcdf in (first, second)]
    assert not torch.isclose(*losses)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second.class_ratios, torch.tensor([0.125, 0.5, 1.0]))
    torch.testing.assert_close(run(first, *images_and_label())["loss"], run(second, *images_and_label())["loss"])
    patch = images_and_label()[1]["image"]
    assert torch.equal(first.network(patch), second.network(patch))


# Errors


@pytest.mark.parametrize(
    "options, words",
    [
        ({"transfers": ("labeled_head", "decoders")}, ('"decoders"', "labeled_head, decoder, unlabeled_head")),
        ({"class_counts": (1, 2)}, ("class_counts has 2 numbers", "3 classes")),
        ({"class_counts": (0, 0, 0)}, ("0.0, 0.0, 0.0", "number of voxels")),
        ({"class_counts": (-1, 5, 5)}, ("-1.0", "number of voxels")),
        ({"ema_decay": 1.5}, ("decay is 1.5", "0 to 1")),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(options: dict[str, object], words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        method(small_network(), **options)(*images_and_label(), 0.5)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    "options, words",
    [
        (
            {"transfers": ("heads",)},
            'transfers names "heads", which is unknown: use labeled_head, decoder, unlabeled_head',
        ),
        ({"balance_reading": "labels"}, 'balance_reading "labels" is unknown: use one of loss, logits'),
        ({"balance_reading": "labels", "auxiliary_weight": 0.0}, 'balance_reading "labels" is unknown'),
    ],
)
def test_unknown_words_stop_before_the_first_step(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}"):
        method(small_network(), **options)
