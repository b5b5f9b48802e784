# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from medssl_components.losses import VoxelSample, prototype_contrast, reliable_voxels, sample_voxels


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_case(num_classes: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features (2, 4, ...), labels and a reliable half of the voxels, (2, 1, ...)."""
    features = torch.randn(2, 4, *shape, generator=generator())
    labels = torch.randint(num_classes, (2, 1, *shape), generator=generator(1))
    reliable = torch.rand(2, 1, *shape, generator=generator(2)) < 0.5
    return features, labels, reliable


def everything(labels: torch.Tensor, candidates: torch.Tensor, num_classes: int) -> VoxelSample:
    return sample_voxels(labels, candidates, num_classes, fraction=1.0, limit=labels.numel(), generator=generator())


def unit(vector: np.ndarray, normalise: bool) -> np.ndarray:
    return vector / np.linalg.norm(vector) if normalise else vector


def reference(
    features: torch.Tensor,
    labels: torch.Tensor,
    reliable: torch.Tensor,
    num_classes: int,
    term: str,
    margin: float = 1.0,
    normalise: bool = True,
    reduction: str = "mean",
) -> float:
    """Equations 17 to 20 over all uncertain voxels, one at a time."""
    rows = features.movedim(1, -1).reshape(-1, features.shape[1]).double().numpy()
    classes, sure = labels.flatten().numpy(), reliable.flatten().numpy()
    prototypes = {}
    for k in range(num_classes):
        if (sure & (classes == k)).any():
            prototypes[k] = unit(rows[sure & (classes == k)].mean(0), normalise)
    loss = 0.0
    for k, prototype in prototypes.items():
        distances = [np.linalg.norm(unit(row, normalise) - prototype) for row in rows[~sure & (classes == k)]]
        if distances:
            loss += np.sum(distances) if reduction == "sum" else np.mean(distances)
    between = [np.linalg.norm(one - other) for one, other in itertools.combinations(prototypes.values(), 2)]
    if term == "push":
        between = [max(0, margin - distance) for distance in between]
    return loss + (np.mean(between) if between and term != "off" else 0.0)


@pytest.mark.parametrize("term", ["push", "off", "pull"])
@pytest.mark.parametrize("num_classes, shape", [(2, (4, 5)), (3, (4, 5)), (3, (3, 4, 2)), (2, (3, 4, 2))])
def test_equals_the_equations(num_classes: int, shape: tuple[int, ...], term: str) -> None:
    features, labels, reliable = random_case(num_classes, shape)
    sample = everything(labels, ~reliable, num_classes)
    loss = prototype_contrast(features, labels, reliable, sample, term, margin=1.5)
    expected = reference(features, labels, reliable, num_classes, term, margin=1.5)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_literal_form_sums_distances_of_raw_features() -> None:
    features, labels, reliable = random_case(2, (3, 4, 2))
    sample = everything(labels, ~reliable, 2)
    loss = prototype_contrast(features, labels, reliable, sample, "pull", normalise=False, reduction="sum")
    expected = reference(features, labels, reliable, 2, "pull", normalise=False, reduction="sum")
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("missing", ["reliable", "uncertain"])
def test_class_without_reliable_or_without_uncertain_voxels_leaves_its_terms_out(missing: str) -> None:
    features, labels, reliable = random_case(3, (4, 5))
    reliable[labels == 1] = missing == "uncertain"
    sample = everything(labels, ~reliable, 3)
    loss = prototype_contrast(features, labels, reliable, sample, "pull")
    assert loss.item() == pytest.approx(reference(features, labels, reliable, 3, "pull"), rel=1e-5)


@pytest.mark.parametrize("term", ["push", "off", "pull"])
@pytest.mark.parametrize("reliable", [False, True])
def test_without_uncertain_or_without_reliable_voxels_the_loss_is_zero_with_a_graph(term: str, reliable: bool) -> None:
    features = torch.rand(1, 4, 3, 3, generator=generator(), requires_grad=True)
    labels, mask = torch.zeros(1, 1, 3, 3, dtype=torch.long), torch.full((1, 1, 3, 3), reliable)
    loss = prototype_contrast(features, labels, mask, everything(labels, ~mask, 2), term)
    assert loss == 0 and loss.requires_grad
    loss.backward()
    assert not features.grad.any()


def test_push_and_pull_of_prototypes_have_opposite_gradients() -> None:
    features, labels, reliable = random_case(3, (4, 5))
    nothing = sample_voxels(labels, ~reliable, 3, fraction=0.0)
    gradients = {}
    for term in ("push", "off", "pull"):
        leaf = features.clone().requires_grad_()
        prototype_contrast(leaf, labels, reliable, nothing, term, margin=2.0).backward()
        gradients[term] = leaf.grad
    assert gradients["pull"].abs().max() > 0
    torch.testing.assert_close(gradients["push"], -gradients["pull"])
    assert not gradients["off"].any()
    assert not gradients["pull"][(~reliable).expand_as(features)].any()


@pytest.mark.parametrize("term, sign", [("push", 1), ("pull", -1)])
def test_descent_moves_the_prototypes_apart_or_together(term: str, sign: int) -> None:
    features = torch.tensor([[1.0, 0.8], [0.2, 0.5]])[None].requires_grad_()
    labels, reliable = torch.tensor([[[0, 1]]]), torch.ones(1, 1, 2, dtype=torch.bool)
    sample = everything(labels, ~reliable, 2)
    prototype_contrast(features, labels, reliable, sample, term).backward()
    before, after = (distance_of_directions(value) for value in (features.detach(), features - 0.1 * features.grad))
    assert sign * (after - before) > 0.01


def distance_of_directions(features: torch.Tensor) -> float:
    first, second = torch.nn.functional.normalize(features.detach()[0], dim=0).T
    return torch.dist(first, second).item()


def test_push_ends_at_the_margin() -> None:
    features = torch.eye(2)[None].requires_grad_()  # two orthogonal features, sqrt(2) apart
    labels, reliable = torch.tensor([[[0, 1]]]), torch.ones(1, 1, 2, dtype=torch.bool)
    sample = everything(labels, ~reliable, 2)
    assert prototype_contrast(features, labels, reliable, sample, "push", margin=1.4) == 0
    loss = prototype_contrast(features, labels, reliable, sample, "push", margin=1.5)
    assert loss.item() == pytest.approx(1.5 - math.sqrt(2), abs=1e-6)


def test_distances_to_prototypes_move_the_uncertain_voxels_alone() -> None:
    features, labels, reliable = random_case(2, (4, 5))
    features.requires_grad_()
    prototype_contrast(features, labels, reliable, everything(labels, ~reliable, 2), "off").backward()
    assert not features.grad[reliable.expand_as(features)].any()
    moved = features.grad.abs().sum(1, keepdim=True)
    assert moved[~reliable].min() > 0


def test_only_sampled_voxels_move() -> None:
    features, labels, reliable = random_case(2, (8, 8))
    features.requires_grad_()
    sample = sample_voxels(labels, ~reliable, 2, fraction=0.1, generator=generator())
    prototype_contrast(features, labels, reliable, sample, "off").backward()
    moved = features.grad.abs().sum(1).flatten().nonzero().flatten()
    assert sorted(sample.index[sample.valid].tolist()) == moved.tolist()


def test_features_of_length_zero_have_a_bounded_gradient() -> None:
    features = torch.zeros(1, 2, 4)
    features[0, :, 0] = torch.tensor([3.0, 4.0])  # the prototype; the three uncertain voxels are at 0, or almost
    features[0, 0, 2] = 1e-6
    features.requires_grad_()
    labels, reliable = torch.zeros(1, 1, 4, dtype=torch.long), torch.tensor([[[True, False, False, False]]])
    loss = prototype_contrast(features, labels, reliable, everything(labels, ~reliable, 2), smallest_norm=0.01)
    loss.backward()
    assert loss.item() == pytest.approx(1.0, rel=1e-3)
    assert features.grad.isfinite().all()
    torch.testing.assert_close(features.grad[0, :, 1], torch.tensor([-0.6, -0.8]) / 0.01 / 3)
    assert features.grad.norm(dim=1).max() < 1 / 0.01


def test_autocast_does_not_round_the_prototypes() -> None:
    features, labels, reliable = random_case(2, (8, 8))
    sample = everything(labels, ~reliable, 2)
    expected = prototype_contrast(features, labels, reliable, sample)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = prototype_contrast(features, labels, reliable, sample)
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)


def test_reliable_is_same_class_and_both_entropies_low() -> None:
    voxels = list(itertools.product([True, False], repeat=3))  # agree, first low, second low
    first = torch.tensor([[2.0, 1.0]] * 8).T[None]
    second = torch.tensor([[5.0, 0.0] if agree else [0.0, 5.0] for agree, _, _ in voxels]).T[None]
    first_low, second_low = (torch.tensor([[[voxel[i] for voxel in voxels]]]) for i in (1, 2))
    reliable = reliable_voxels(first, second, first_low, second_low)
    assert reliable.dtype == torch.bool and reliable.shape == (1, 1, 8)
    assert reliable.flatten().tolist() == [all(voxel) for voxel in voxels]


@pytest.mark.parametrize("fraction, limit", [(0.01, 4096), (0.1, 4096), (0.1, 7), (1.0, 4096), (0.0, 5)])
def test_sample_is_the_share_of_each_class_up_to_the_limit_without_repeats(fraction: float, limit: int) -> None:
    labels = (torch.rand(2, 1, 10, 12, generator=generator()) * 3).square().long().clamp(max=3)
    candidates = torch.rand(2, 1, 10, 12, generator=generator(1)) < 0.7
    candidates[labels == 3] = False
    sample = sample_voxels(labels, candidates, 4, fraction, limit, generator())
    assert sample.index.shape == sample.valid.shape == (4, min(limit, math.ceil(240 * fraction)))
    for k in range(4):
        members = (candidates & (labels == k)).flatten().nonzero().flatten()
        drawn = sample.index[k][sample.valid[k]]
        assert len(drawn) == len(set(drawn.tolist())) == min(math.ceil(len(members) * fraction), limit)
        assert set(drawn.tolist()) <= set(members.tolist())


def test_sample_follows_the_generator_and_reaches_every_candidate() -> None:
    labels, candidates = torch.zeros(1, 1, 40, dtype=torch.long), torch.arange(40).view(1, 1, 40) < 20
    samples = [sample_voxels(labels, candidates, 2, 0.25, generator=generator(seed)) for seed in range(100)]
    again = sample_voxels(labels, candidates, 2, 0.25, generator=generator(3))
    assert torch.equal(samples[3].index, again.index)
    drawn = torch.cat([sample.index[0][sample.valid[0]] for sample in samples])
    counts = drawn.bincount(minlength=40)
    assert len(drawn) == 500 and counts[20:].sum() == 0
    assert counts[:20].min() >= 10 and counts[:20].max() <= 45  # 25 each on average


def test_errors() -> None:
    features, labels, reliable = random_case(2, (4, 5))
    sample = everything(labels, ~reliable, 2)
    with pytest.raises(ValueError, match='term "minus" is unknown: use one of push, off, pull'):
        prototype_contrast(features, labels, reliable, sample, "minus")
    with pytest.raises(ValueError, match='reduction "max" is unknown: use one of mean, sum'):
        prototype_contrast(features, labels, reliable, sample, reduction="max")
    with pytest.raises(ValueError, match="labels has the shape"):
        prototype_contrast(features, labels[:1], reliable, sample)
    with pytest.raises(ValueError, match="candidates has the shape"):
        sample_voxels(labels, reliable[:1], 2)
    with pytest.raises(ValueError, match="fraction is 1.5"):
        sample_voxels(labels, reliable, 2, fraction=1.5)
    with pytest.raises(ValueError, match="limit is 0"):
        sample_voxels(labels, reliable, 2, limit=0)
