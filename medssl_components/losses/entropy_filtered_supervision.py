# SPDX-License-Identifier: Apache-2.0
"""Pseudo-labels where the predictions' entropy is low."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from ..ops import predictive_entropy
from .cross_pseudo_supervision import pseudo_label
from .shapes import check_map, check_same_shape

RULES = ("or", "and")
TEACHERS = ("other", "own")


@torch.no_grad()
def low_entropy(logits: torch.Tensor, percentile: float, per_class: bool = False) -> torch.Tensor:
    r"""Tell which predictions' entropy is at most the :math:`\gamma`-th percentile :math:`\tau` of the batch's.

    Reference: Lu et al., Enhancing dual network based semi-supervised medical image segmentation (UGPL),
    Knowledge-Based Systems 2025, https://arxiv.org/abs/2509.13084, equations 9 and 10. The percentile is the smallest
    entropy that at least `percentile` % of the voxels do not exceed; it is found on the tensors' device, for any size.

    Differences from the paper: with `per_class` each predicted class has its own percentile. One for all keeps few
    voxels of a small object, since those are the ones near its surface.

    Args:
        logits: of one network, `(B, K, ...)`.
        percentile: gamma, from 0 to 100; 70, 80 and 30 in the paper for left atrium, pancreas and brain tumour.
        per_class: take percentiles within each predicted class instead of over all voxels.

    Returns:
        True for low entropy, `(B, 1, ...)`.

    Raises:
        ValueError: for a percentile outside [0, 100].
    """
    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile is {percentile}; give a number from 0 to 100")
    entropy = predictive_entropy(logits.float().softmax(1))
    # The bits of numbers from 0 on, read as integers, are in the numbers' order and sort seven times as fast on a CPU.
    bits = entropy.view(torch.int32).flatten()
    ascending, order = bits.sort()
    if not per_class:
        return (bits <= ascending[max(math.ceil(len(bits) * percentile / 100), 1) - 1]).view_as(entropy)
    classes = pseudo_label(logits).flatten().int()
    by_class, again = classes[order].sort(stable=True)
    bounds = torch.searchsorted(by_class, torch.arange(logits.shape[1] + 1, dtype=torch.int32, device=bits.device))
    rank = (bounds.diff().double() * percentile / 100).ceil().long().clamp(min=1)
    thresholds = ascending[again[(bounds[:-1] + rank - 1).clamp(max=len(bits) - 1)]]
    return (bits <= thresholds[classes]).view_as(entropy)


def kept_voxels(first_low: torch.Tensor, second_low: torch.Tensor, rule: str = "or") -> torch.Tensor:
    """Tell which voxels keep their pseudo-label.

    Args:
        first_low: where the one network's entropy is low, see `low_entropy`.
        second_low: where the other's is.
        rule: "or" ignores a voxel if either entropy is high (equation 10), "and" only if both are (the paper's text).

    Raises:
        ValueError: for an unknown rule.
    """
    if rule not in RULES:
        raise ValueError(f'rule "{rule}" is unknown: use one of {", ".join(RULES)}')
    return first_low & second_low if rule == "or" else first_low | second_low


def entropy_filtered_supervision(
    first_logits: torch.Tensor, second_logits: torch.Tensor, kept: torch.Tensor, teacher: str = "other"
) -> torch.Tensor:
    r"""Return :math:`\sum_f \sum_{kept} L_{ce}(f, \hat y) / n_{kept}` over two networks f.

    Reference: as of `low_entropy`, equation 11. No gradient passes the pseudo-labels; if no voxel is kept the loss
    is 0.

    Differences from the paper: equation 11 prints the indicator of a kept voxel as target; it is the weight here. The
    paper leaves open whose prediction the pseudo-label is.

    Args:
        first_logits: of the one network, `(B, K, ...)`.
        second_logits: of the other network, same shape.
        kept: where pseudo-labels count, `(B, 1, ...)`, see `kept_voxels`.
        teacher: "other" takes the other network's classes as pseudo-labels, "own" the network's own.

    Raises:
        ValueError: for an unknown teacher, or shapes that do not fit together.
    """
    if teacher not in TEACHERS:
        raise ValueError(f'teacher "{teacher}" is unknown: use one of {", ".join(TEACHERS)}')
    check_same_shape(first_logits, second_logits)
    check_map("kept", kept, first_logits)
    students = first_logits.float(), second_logits.float()
    teachers = reversed(students) if teacher == "other" else students
    cross_entropy = sum(
        functional.cross_entropy(logits, pseudo_label(source)[:, 0], reduction="none")
        for logits, source in zip(students, teachers, strict=True)
    )
    return (cross_entropy * kept[:, 0]).sum() / kept.sum().clamp(min=1)
