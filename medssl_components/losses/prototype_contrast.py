# SPDX-License-Identifier: Apache-2.0
"""Features of uncertain voxels, drawn to the mean feature of the reliable voxels of their class."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.nn import functional

from .cross_pseudo_supervision import pseudo_label
from .shapes import check_map, check_same_shape

TERMS = ("push", "off", "pull")
REDUCTIONS = ("mean", "sum")


class VoxelSample(NamedTuple):
    """Voxels of K classes: `index` (K, n) counts through batch and space; `valid` (K, n) tells which of them count."""

    index: torch.Tensor
    valid: torch.Tensor


@torch.no_grad()
def reliable_voxels(
    first_logits: torch.Tensor, second_logits: torch.Tensor, first_low: torch.Tensor, second_low: torch.Tensor
) -> torch.Tensor:
    """Tell where two networks predict the same class, both with low entropy, `(B, 1, ...)`.

    Reference: Lu et al., Enhancing dual network based semi-supervised medical image segmentation (UGPL),
    Knowledge-Based Systems 2025, https://arxiv.org/abs/2509.13084, equation 16; all other voxels are the uncertain
    ones.

    Args:
        first_logits: of the one network, `(B, K, ...)`.
        second_logits: of the other network, same shape.
        first_low: where the one network's entropy is low, `(B, 1, ...)`, see `low_entropy`.
        second_low: where the other's is.

    Raises:
        ValueError: for shapes that do not fit together.
    """
    check_same_shape(first_logits, second_logits)
    check_map("first_low", first_low, first_logits)
    check_map("second_low", second_low, first_logits)
    return (pseudo_label(first_logits) == pseudo_label(second_logits)) & first_low & second_low


@torch.no_grad()
def sample_voxels(
    labels: torch.Tensor,
    candidates: torch.Tensor,
    num_classes: int,
    fraction: float = 0.01,
    limit: int = 4096,
    generator: torch.Generator | None = None,
) -> VoxelSample:
    """Draw a share of the candidates of each class at random, without replacement and without waiting for the device.

    Args:
        labels: class indices, `(B, 1, ...)`.
        candidates: True where a voxel may be drawn, `(B, 1, ...)`.
        num_classes: background included, K.
        fraction: share of each class's candidates, rounded up.
        limit: largest number of voxels of a class.
        generator: source of the random numbers, on the device of `labels`; None takes PyTorch's own.

    Returns:
        A sample with as many columns as a class can have voxels in it.

    Raises:
        ValueError: for a fraction outside [0, 1], a limit below 1, or two shapes.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction is {fraction}; give a number from 0 to 1")
    if limit < 1:
        raise ValueError(f"limit is {limit}; give 1 or more")
    check_map("candidates", candidates, labels)
    shuffled = torch.randperm(labels.numel(), generator=generator, device=labels.device)
    group = torch.where(candidates, labels, num_classes).flatten().int()
    by_class, again = group[shuffled].sort(stable=True)
    classes = torch.arange(num_classes + 1, dtype=torch.int32, device=labels.device)
    bounds = torch.searchsorted(by_class, classes)
    wanted = (bounds.diff().double() * fraction).ceil().clamp(max=limit)
    columns = torch.arange(min(limit, math.ceil(len(group) * fraction)), device=group.device)
    index = (bounds[:-1, None] + columns).clamp(max=len(group) - 1)
    return VoxelSample(shuffled[again[index]], columns < wanted[:, None])


def prototype_contrast(
    features: torch.Tensor,
    labels: torch.Tensor,
    reliable: torch.Tensor,
    sample: VoxelSample,
    term: str = "push",
    margin: float = 1.0,
    normalise: bool = True,
    smallest_norm: float = 0.01,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Return :math:`\sum_k \overline{d(f(v^u), c_k)}` over the classes' uncertain voxels, and a term of the c_k.

    Reference: as of `reliable_voxels`, equations 17 to 20. The prototype c_k is the mean feature of the reliable voxels
    of class k, d the Euclidean distance. Distances to a prototype move the uncertain voxels, not the prototype; the
    last term moves the prototypes. For more than two classes it is the mean over their pairs. A class without reliable
    or without uncertain voxels leaves its terms out; without any the loss is 0, with a gradient of 0.

    Differences from the paper: equation 20 adds the distance of the prototypes, which draws the classes together
    (`term="pull"`), though its aim is to separate them; "push" adds :math:`\max(0, m - d(c_k, c_l))`. The paper's
    features are not normalised (`normalise=False`), and it sums over all uncertain voxels (`reduction="sum"`, with a
    sample of all), about a million times as much as the other losses.

    Args:
        features: of one network, `(B, C, ...)`.
        labels: the classes that this network predicts, `(B, 1, ...)`.
        reliable: where a voxel counts towards a prototype, `(B, 1, ...)`, see `reliable_voxels`.
        sample: uncertain voxels of each class, see `sample_voxels`.
        term: "push", "off" or "pull", what happens to the distance of two prototypes.
        margin: distance m, from which on "push" has no effect; two unit vectors are at most 2 apart.
        normalise: scale features and prototypes to length 1 before a distance is taken.
        smallest_norm: what is shorter is divided by this instead, which bounds the gradient of features that dropout
            and ReLU left at or near 0.
        reduction: "mean" or "sum" over the sampled voxels of a class.

    Raises:
        ValueError: for an unknown term or reduction, or shapes that do not fit together.
    """
    if term not in TERMS:
        raise ValueError(f'term "{term}" is unknown: use one of {", ".join(TERMS)}')
    if reduction not in REDUCTIONS:
        raise ValueError(f'reduction "{reduction}" is unknown: use one of {", ".join(REDUCTIONS)}')
    check_map("labels", labels, features)
    check_map("reliable", reliable, features)
    with torch.autocast(features.device.type, enabled=False):
        vectors = features.float().movedim(1, -1).flatten(0, -2)  # a row for each voxel
        classes = torch.arange(len(sample.index), device=labels.device)[:, None]
        members = ((labels.flatten() == classes) & reliable.flatten()).float()
        counts = members.sum(1)
        prototypes = members @ vectors / counts.clamp(min=1)[:, None]  # equation 19
        uncertain = vectors[sample.index]
        if normalise:
            prototypes = functional.normalize(prototypes, dim=-1, eps=smallest_norm)
            uncertain = functional.normalize(uncertain, dim=-1, eps=smallest_norm)
        counted = sample.valid & (counts > 0)[:, None]
        distances = torch.linalg.vector_norm(uncertain - prototypes.detach()[:, None], dim=-1) * counted
        loss = distances.sum(1)
        if reduction == "mean":
            loss = loss / counted.sum(1).clamp(min=1)
        return loss.sum() + _term_of_prototypes(prototypes, counts > 0, term, margin)


def _term_of_prototypes(prototypes: torch.Tensor, present: torch.Tensor, term: str, margin: float) -> torch.Tensor:
    if term == "off":
        return prototypes.new_zeros(())
    first, second = torch.triu_indices(len(prototypes), len(prototypes), 1, device=prototypes.device)
    both = (present[first] & present[second]).float()
    distances = torch.linalg.vector_norm(prototypes[first] - prototypes[second], dim=-1)
    if term == "push":
        distances = (margin - distances).clamp(min=0)
    return (distances * both).sum() / both.sum().clamp(min=1)
