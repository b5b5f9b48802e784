# SPDX-License-Identifier: Apache-2.0
"""Boxes of labelled and unlabelled volumes pasted into unlabelled ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch


class CutMixBoxes(NamedTuple):
    """Where each of U unlabelled volumes gets a box from, and which.

    `partner` (U,) counts through the labelled and then the unlabelled volumes; `start` and `stop` (U, axes) are the
    box's first voxel and the one after its last.
    """

    partner: torch.Tensor
    start: torch.Tensor
    stop: torch.Tensor


def sample_cutmix(
    shape: Sequence[int],
    num_labeled: int,
    num_unlabeled: int,
    labeled_share: float = 0.5,
    concentration: int = 4,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> CutMixBoxes:
    r"""Draw a partner and a box for each unlabelled volume.

    The box's sides are the volume's times :math:`(1 - \lambda)^{1/3}` (a square root in 2-D), with
    :math:`\lambda \sim Beta(a, a)`; its centre may lie anywhere, and what reaches beyond the volume is cut off.

    Reference: W. Li et al., Boosting generic semi-supervised medical image segmentation (DTLP-Net),
    https://arxiv.org/abs/2508.08549, section III-C a, after Yun et al., CutMix, https://arxiv.org/abs/1905.04899 (a =
    1). The paper gives neither the distribution of the boxes nor that of the partners. MONAI's `CutMix` draws one
    centre for a batch and its partners from a permutation, in which a volume may be its own.

    Args:
        shape: spatial sides of the volumes, in voxels.
        num_labeled: number of labelled volumes.
        num_unlabeled: number of unlabelled volumes, U.
        labeled_share: probability that the partner is a labelled volume and not another unlabelled one; where there is
            only one of the two kinds, it is taken.
        concentration: a, a whole number from 1 on, so that the median of 2 a - 1 uniform draws has this distribution.
        generator: source of the random numbers, on the same device; None takes PyTorch's own.
        device: of the result.

    Raises:
        ValueError: for a share outside [0, 1], another concentration, or a volume without any partner.
    """
    if not 0 <= labeled_share <= 1:
        raise ValueError(f"labeled_share is {labeled_share}; give a number from 0 to 1")
    if concentration < 1 or concentration != int(concentration):
        raise ValueError(f"concentration is {concentration}; give a whole number from 1 on")
    if not num_labeled and num_unlabeled < 2:
        raise ValueError(f"no partner for {num_unlabeled} unlabelled volume; give a labelled or another unlabelled one")
    count = int(concentration)

    def uniform(*size: int) -> torch.Tensor:
        return torch.rand(size, generator=generator, device=device)

    mixed = uniform(num_unlabeled, 2 * count - 1).sort(1).values[:, count - 1]
    starts, stops = [], []
    for side in shape:
        box = (side * (1 - mixed) ** (1 / len(shape))).round()
        start = (uniform(num_unlabeled) * side).floor() - (box / 2).floor()
        starts.append(start.clamp(0, side))
        stops.append((start + box).clamp(0, side))
    from_labeled = (uniform(num_unlabeled) * num_labeled).long()
    # one of the others: the numbers from the volume's own on move up by one
    other = (uniform(num_unlabeled) * (num_unlabeled - 1)).long()
    other = num_labeled + other + (other >= torch.arange(num_unlabeled, device=device))
    take_labeled = uniform(num_unlabeled) < labeled_share
    if not num_labeled or num_unlabeled < 2:
        take_labeled.fill_(num_labeled > 0)
    partner = torch.where(take_labeled, from_labeled, other)
    return CutMixBoxes(partner, torch.stack(starts, 1).long(), torch.stack(stops, 1).long())


def cutmix(labeled: torch.Tensor, unlabeled: torch.Tensor, boxes: CutMixBoxes) -> torch.Tensor:
    r"""Return :math:`(1 - M) x_i + M x_j` for each unlabelled volume i and its partner j, equation 12.

    Images, label maps and probabilities of one step take the same boxes.

    Args:
        labeled: `(L, C, ...)`.
        unlabeled: `(U, C, ...)`.
        boxes: see `sample_cutmix`.

    Returns:
        The mixed unlabelled volumes, `(U, C, ...)`.

    Raises:
        ValueError: for volumes of two shapes, or another number of them than the boxes are for.
    """
    if labeled.shape[1:] != unlabeled.shape[1:] or len(unlabeled) != len(boxes.partner):
        raise ValueError(
            f"labeled {tuple(labeled.shape)} and unlabeled {tuple(unlabeled.shape)} do not fit together or do not fit "
            f"{len(boxes.partner)} boxes; draw the boxes for them"
        )
    axes = unlabeled.ndim - 2
    inside = torch.ones((), dtype=torch.bool, device=unlabeled.device)
    for axis, side in enumerate(unlabeled.shape[2:]):
        voxel = torch.arange(side, device=unlabeled.device)
        along = (voxel >= boxes.start[:, axis, None]) & (voxel < boxes.stop[:, axis, None])
        inside = inside & along.view(-1, 1, *(side if other == axis else 1 for other in range(axes)))
    return torch.where(inside, torch.cat([labeled, unlabeled])[boxes.partner], unlabeled)
