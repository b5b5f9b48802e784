# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from medssl_components.methods import DiverseTeachers, Teaching
from medssl_components.networks import DiffusionVNet, PathOutput
from medssl_components.ops import LabelDiffusion

LABELED, UNLABELED, SHAPE = 2, 3, (4, 5, 6)
KEPT = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
MODULE = "medssl_components.methods.diverse_teachers"


class KnownNetwork(nn.Module):
    """Its paths are short formulas, which a reference can repeat; it remembers what the diffusion path saw."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.num_classes = num_classes
        self.deployed = nn.Conv3d(1, num_classes, 1)
        self.scale = nn.Parameter(torch.linspace(-2, 2, num_classes).reshape(1, -1, 1, 1, 1))
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.deployed(image)

    def labeled_path(self, image: torch.Tensor) -> PathOutput:
        return PathOutput(image * self.scale + 0.5 * image.square(), image)

    def diffusion_path(self, image: torch.Tensor, noisy: torch.Tensor, times: torch.Tensor) -> PathOutput:
        self.seen.append((noisy, times))
        return PathOutput(image * self.scale + noisy.flip(1) + times.view(-1, 1, 1, 1, 1) / 2000, image)


def images() -> tuple[torch.Tensor, torch.Tensor]:
    both = torch.randn(LABELED + UNLABELED, 1, *SHAPE, generator=torch.Generator().manual_seed(1))
    return both[:LABELED], both[LABELED:]


def teachers(network: nn.Module, **options: object) -> DiverseTeachers:
    diffusion = LabelDiffusion(network.num_classes, sample_steps=options.pop("sample_steps", 2))
    return DiverseTeachers(network, diffusion, **options)


def small_network(**settings: object) -> DiffusionVNet:
    torch.manual_seed(0)
    shape = {"num_classes": 3, "base_channels": 2, "num_convs": (1, 1), "strides": (2,), "projection_channels": 3}
    times = {"time_channels": 4, "time_hidden_channels": 8}
    return DiffusionVNet(**{**shape, **times, "dropout": 0.0, "unit_dropout": 0.0, **settings})


def volumes(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    both = torch.randn(4, 1, 4, 4, 6, generator=torch.Generator().manual_seed(seed))
    return both[:2], both[2:]


@pytest.fixture
def gumbel(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Draw the noise of the Gumbel softmax from a seed, and keep it."""
    draws: list[torch.Tensor] = []

    def draw(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
        uniform = torch.rand(shape, generator=torch.Generator().manual_seed(len(draws)))
        draws.append(-(-uniform.clamp(min=1e-6).log()).log())
        return draws[-1]

    monkeypatch.setattr(f"{MODULE}.sample_gumbel", draw)
    return draws


# A reference in NumPy


def softmax(logits: np.ndarray) -> np.ndarray:
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponential / exponential.sum(axis=1, keepdims=True)


def entropy(probs: np.ndarray) -> np.ndarray:
    return -(probs * np.log2(probs)).sum(axis=1, keepdims=True)


def blurred(volume: np.ndarray, sigma: float) -> np.ndarray:
    """Average each voxel with its neighbours along each axis; beyond the border is the border's voxel again."""
    side, middle = np.exp(-1 / (2 * sigma**2)), 1.0
    for axis in (2, 3, 4):
        pad = [(1, 1) if axis == other else (0, 0) for other in range(5)]
        padded, count = np.pad(volume, pad, mode="edge"), volume.shape[axis]
        before, own, after = (padded.take(range(first, first + count), axis) for first in range(3))
        volume = (side * before + middle * own + side * after) / (2 * side + middle)
    return volume


def sampled(network: KnownNetwork, image: np.ndarray, noise: np.ndarray, times: list[int]) -> np.ndarray:
    """Return the last logits of the DDIM sampler with eta = 0, whose estimates are clamped to [-1, 1]."""
    scale, noisy = network.scale.detach().double().numpy(), noise
    for time, earlier in zip(times, [*times[1:], None], strict=True):
        logits = image * scale + noisy[:, ::-1] + time / 2000
        clean = logits.clip(-1, 1)
        epsilon = (noisy - np.sqrt(KEPT[time]) * clean) / np.sqrt(1 - KEPT[time])
        kept = 1.0 if earlier is None else KEPT[earlier]
        noisy = np.sqrt(kept) * clean + np.sqrt(1 - kept) * epsilon
    return logits


def reference(
    network: KnownNetwork, noise: torch.Tensor, gumbel_noise: torch.Tensor, times: list[int], tau: float, sigma: float
) -> dict[str, np.ndarray]:
    labeled, unlabeled = (image.double().numpy() for image in images())
    weight, bias = (value.detach().double().numpy().reshape(1, -1, 1, 1, 1) for value in network.deployed.parameters())
    logits = np.concatenate([labeled, unlabeled]) * weight + bias
    direct = softmax(unlabeled * network.scale.detach().double().numpy() + 0.5 * unlabeled**2)
    denoised = sampled(network, unlabeled, noise.double().numpy(), times)
    smooth = softmax((denoised.clip(-1, 1) + gumbel_noise.double().numpy()) / tau)
    first = (direct + (blurred(smooth, sigma) if sigma else smooth)) / 2  # equation 7
    second = softmax(logits[LABELED:])
    weights = [np.exp(-entropy(probs)) for probs in (first, second)]  # equations 8 to 10
    return {
        "probs": (weights[0] * first + weights[1] * second) / sum(weights),
        "first": first,
        "second": second,
        "logits": logits,
        "of_diffusion": softmax(denoised),
        "of_labeled": direct,
    }


def as_dict(teaching: Teaching) -> dict[str, torch.Tensor]:
    parts = {**teaching._asdict(), "of_diffusion": teaching.soft[0], "of_labeled": teaching.soft[-1]}
    return {name: part for name, part in parts.items() if isinstance(part, torch.Tensor)}


# Values


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("steps, tau, sigma", [(10, 1.0, 1.0), (1, 1.0, 1.0), (3, 0.5, 0.7), (2, 2.0, 0.0)])
def test_teaching_equals_the_reference(
    gumbel: list[torch.Tensor], num_classes: int, steps: int, tau: float, sigma: float
) -> None:
    network = KnownNetwork(num_classes)
    both = teachers(network, sample_steps=steps, temperature=tau, blur=sigma)
    teaching = both(network, *images())
    times = both.diffusion.sample_times
    assert [seen.tolist() for _, seen in network.seen] == [[time] * UNLABELED for time in times]
    expected = reference(network, network.seen[0][0], gumbel[0], times, tau, sigma)
    found = as_dict(teaching)
    assert found.keys() == expected.keys() and len(teaching.soft) == 2
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        np.testing.assert_allclose(found[name].numpy(), value, rtol=1e-3, atol=1e-4, err_msg=name)
    assert not np.allclose(expected["probs"], (expected["first"] + expected["second"]) / 2, atol=1e-2)


def test_diffusion_starts_from_new_standard_normal_noise() -> None:
    network = KnownNetwork(3)
    both = teachers(network)
    both(network, *images())
    both(network, *images())
    first, second = network.seen[0][0], network.seen[2][0]
    assert first.shape == (UNLABELED, 3, *SHAPE) and not torch.equal(first, second)
    assert abs(first.mean()) < 0.1 and first.std().item() == pytest.approx(1, abs=0.1)


def test_one_teacher_alone_gives_its_own_prediction(gumbel: list[torch.Tensor]) -> None:
    found = {}
    for chosen in (["first"], ["second"], ["first", "second"], ["second", "first"]):
        torch.manual_seed(0)
        gumbel.clear()
        network = KnownNetwork(3)
        found[tuple(chosen)] = teachers(network, teachers=chosen)(network, *images())
    both = found["first", "second"]
    assert torch.equal(both.probs, found["second", "first"].probs)
    for name in ("first", "second"):
        alone, other = found[(name,)], {"first": "second", "second": "first"}[name]
        assert alone.probs is getattr(alone, name) and torch.equal(alone.probs, getattr(both, name))
        assert getattr(alone, other) is None
        assert not torch.allclose(alone.probs, both.probs, atol=1e-2)
        assert torch.equal(alone.logits, both.logits)  # for the reconstruction, whoever labels
        assert all(torch.equal(*pair) for pair in zip(alone.soft, both.soft, strict=True))


@pytest.mark.parametrize("name", ["first", "second"])
def test_probabilities_sum_to_one(name: str) -> None:
    network = KnownNetwork(3)
    teaching = teachers(network)(network, *images())
    for probs in (teaching.probs, getattr(teaching, name), *teaching.soft):
        torch.testing.assert_close(probs.sum(1), torch.ones(UNLABELED, *SHAPE))


# What the passes leave behind


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_no_gradient_reaches_anyone() -> None:
    network = small_network()
    both = teachers(network)
    teaching = both(network, *volumes())
    parts = [teaching.probs, teaching.first, teaching.second, teaching.logits, *teaching.soft]
    assert not any(part.requires_grad for part in parts)
    assert not any(parameter.requires_grad for parameter in both.parameters())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_network_is_left_as_it_was() -> None:
    network = small_network(dropout=0.5, unit_dropout=0.1)
    network(volumes()[0])  # moves the running statistics of one path
    before, switches = state(network), [module.training for module in network.modules()]
    assert any(name.endswith("num_batches_tracked") for name in before)
    both = teachers(network)
    both(network, *volumes())
    both.update(network)
    assert same(state(network), before)
    assert [module.training for module in network.modules()] == switches and all(switches)
    assert all(module.track_running_stats for module in network.modules() if isinstance(module, nn.BatchNorm3d))


def test_network_is_left_as_it_was_when_a_pass_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small_network(dropout=0.5, unit_dropout=0.1)
    before, both = state(network), teachers(network)

    def fail(*inputs: torch.Tensor) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(network, "diffusion_path", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        both(network, *volumes())
    assert same(state(network), before) and all(module.training for module in network.modules())
    assert all(module.track_running_stats for module in network.modules() if isinstance(module, nn.BatchNorm3d))


def test_teachers_drop_no_channel_and_normalise_as_stated() -> None:
    """The first teacher by the batch's statistics, the average by those that it copied."""
    network = small_network(dropout=0.5, unit_dropout=0.1)
    labeled, unlabeled = volumes()
    network(3 * labeled + 1)
    without = small_network()
    without.load_state_dict(network.state_dict())
    average = copy.deepcopy(without.deployed).eval()
    teaching = teachers(network)(network, labeled, unlabeled)
    with torch.no_grad():
        torch.testing.assert_close(teaching.soft[1], without.labeled_path(unlabeled).logits.softmax(1))
        torch.testing.assert_close(teaching.logits, average(torch.cat([labeled, unlabeled])))
        torch.testing.assert_close(teaching.second, average(unlabeled).softmax(1))
        assert not torch.allclose(teaching.soft[1], without.eval().labeled_path(unlabeled).logits.softmax(1))
        assert not torch.allclose(teaching.logits, average.train()(torch.cat([labeled, unlabeled])))


def test_average_keeps_its_statistics_in_training_mode_too() -> None:
    network = small_network()
    both = teachers(network).train()
    both.average.start(network)
    before = state(both.average)
    both(network, *volumes())
    assert same(state(both.average), before)


# The average over the steps


def test_average_starts_with_the_first_use_and_follows_the_network() -> None:
    network = KnownNetwork(2)
    both = teachers(network, ema_decay=0.6)
    with torch.no_grad():
        network.deployed.weight.fill_(10.0)  # as if loaded after the construction
    both(network, *images())
    expected = 10.0
    for step in range(1, 5):
        assert (both.average.average.deployed.weight - expected).abs().max() < 1e-5
        with torch.no_grad():
            network.deployed.weight.fill_(10.0 + step)
        both.update(network)
        decay = min(0.6, 1 - 1 / (step + 1))
        expected = decay * expected + (1 - decay) * (10.0 + step)
    labeled, unlabeled = images()
    logits = torch.cat([labeled, unlabeled]) * expected + network.deployed.bias.detach().reshape(1, 2, 1, 1, 1)
    torch.testing.assert_close(both(network, labeled, unlabeled).logits, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("options", "kept"), [({}, 0.5), ({"buffers": "copy"}, 0.0)])
def test_running_statistics_of_the_average_are_averages_or_copies(options: dict[str, str], kept: float) -> None:
    network = small_network()
    both = teachers(network, **options)
    both(network, *volumes())
    before = {name: buffer.clone() for name, buffer in both.average.average.named_buffers()}
    network(5 * volumes()[0] + 3)
    both.update(network)  # the first of all updates, which makes the mean of two
    for (name, own), theirs in zip(both.average.average.named_buffers(), network.buffers(), strict=True):
        share = kept if own.is_floating_point() else 0.0
        expected = (share * before[name] + (1 - share) * theirs).to(own.dtype)
        assert torch.equal(own, expected) or share and torch.allclose(own, expected, rtol=1e-6, atol=1e-6), name
    assert any(buffer.abs().max() > 1 for buffer in network.buffers())


# Steps that sample


def steps_that_sample(both: DiverseTeachers, network: nn.Module, count: int) -> list[bool]:
    sampled_at = []
    for _ in range(count):
        before = len(network.seen)
        teaching = both(network, *images())
        sampled_at.append(len(network.seen) > before)
        assert len(teaching.soft) == 1 + sampled_at[-1]
        both.update(network)
    return sampled_at


@pytest.mark.parametrize("interval, expected", [(1, "xxxxxxx"), (2, "x-x-x-x"), (3, "x--x--x"), (9, "x------")])
def test_diffusion_samples_at_its_interval(interval: int, expected: str) -> None:
    network = KnownNetwork(2)
    found = steps_that_sample(teachers(network, sampling_interval=interval), network, 7)
    assert "".join("x" if sampled_now else "-" for sampled_now in found) == expected


def test_interval_goes_on_after_a_resumption() -> None:
    network = KnownNetwork(2)
    first = teachers(network, sampling_interval=3)
    assert steps_that_sample(first, network, 2) == [True, False]
    second = teachers(network, sampling_interval=3)
    second.load_state_dict(first.state_dict())
    assert steps_that_sample(second, network, 4) == [False, True, False, False]


def test_without_sampling_the_first_teacher_is_the_labelled_decoder() -> None:
    network = KnownNetwork(3)
    both = teachers(network, sampling_interval=2)
    both(network, *images())
    both.update(network)
    teaching = both(network, *images())
    expected = network.labeled_path(images()[1]).logits.softmax(1)
    assert len(teaching.soft) == 1
    torch.testing.assert_close(teaching.soft[0], expected)
    torch.testing.assert_close(teaching.first, expected)
    assert not torch.allclose(teaching.probs, teaching.second)


# Half precision and state


def test_half_precision_is_compared_in_float32() -> None:
    network = small_network()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(volumes()[0]).dtype == torch.bfloat16
        teaching = teachers(network)(network, *volumes())
    for part in (teaching.probs, teaching.first, teaching.second, teaching.logits, *teaching.soft):
        assert part.dtype == torch.float32 and part.isfinite().all()


def test_state_dict_round_trip() -> None:
    def after(both: DiverseTeachers) -> torch.Tensor:
        torch.manual_seed(3)
        return both(network, *volumes()).probs

    network = small_network()
    first = teachers(network)
    first(network, *volumes())
    other = small_network(initialisation="kaiming")
    for _ in range(3):
        other(volumes(2)[0])
        first.update(other)
    second = teachers(network)
    assert not torch.allclose(after(first), after(second))
    second.load_state_dict(first.state_dict())
    assert torch.equal(after(first), after(second)) and int(second.average.steps) == 3


def test_one_labelled_and_three_unlabelled_volumes() -> None:
    network = small_network()
    volume = torch.cat(volumes())
    teaching = teachers(network)(network, volume[:1], volume[1:])
    assert teaching.probs.shape == (3, 3, 4, 4, 6) and teaching.logits.shape == (4, 3, 4, 4, 6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"teachers": []}, r"teachers is \[\]; give one of first, second or both"),
        ({"teachers": ["first", "third"]}, r"teachers is \['first', 'third'\]; give one of first, second or both"),
        ({"sampling_interval": 0}, "sampling_interval is 0; give 1 or more"),
    ],
)
def test_settings_out_of_range_are_errors_of_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        teachers(KnownNetwork(2), **options)
    assert "\n" not in str(error.value)
