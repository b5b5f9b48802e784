# SPDX-License-Identifier: Apache-2.0
"""A loss that drops voxels at random, the more often the larger their class is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .shapes import check_map

READINGS = ("loss", "logits")


def class_ratios(counts: torch.Tensor | Sequence[int]) -> torch.Tensor:
    r"""Return :math:`r_k = \min_j N_j / N_k` of the numbers of voxels N of all classes, float32, in (0, 1].

    Zhang et al., "A semantic knowledge complementarity based decoupling framework for semi-supervised class-imbalanced
    medical image segmentation" (SKCDF), CVPR 2025, equation 16. Classes without voxels do not count for the minimum.

    Differences from the paper: it prints the total number of voxels where the released code has that of the rarest
    class; the total would give probabilities above 1. The ratio of a class without voxels, 0 / 0 there, is 1.

    Args:
        counts: numbers of voxels, (K,).

    Raises:
        ValueError: for a negative number, or if all are 0.
    """
    numbers = torch.as_tensor(counts).double()
    if numbers.ndim != 1 or not (numbers >= 0).all() or not (numbers > 0).any():
        raise ValueError(f"counts is {numbers.tolist()}; give the number of voxels of each class, not all of them 0")
    return torch.where(numbers > 0, numbers[numbers > 0].min() / numbers.clamp(min=1), 1.0).float()


@torch.no_grad()
def balance_mask(
    label: torch.Tensor, ratios: torch.Tensor, progress: float = 1.0, generator: torch.Generator | None = None
) -> torch.Tensor:
    r"""Draw which voxels are kept, each with probability :math:`1 - t (1 - r_{y})` of its class y at progress t.

    SKCDF, equation 18, for pseudo-labels; with t = 1 it is equation 16, for labels.

    Args:
        label: classes of the voxels, `(B, 1, ...)`, whole numbers from 0 to K - 1.
        ratios: probability r of each class, (K,), see `class_ratios`.
        progress: t, from 0, where all voxels are kept, to 1.
        generator: source of the random numbers, on the label's device.

    Returns:
        True for kept, of the label's shape.

    Raises:
        ValueError: for a progress outside [0, 1].
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress is {progress}; give a number from 0 to 1")
    probability = (1 - progress * (1 - ratios.float()))[label.long()]
    return torch.rand(label.shape, generator=generator, device=label.device) < probability


def balanced_loss(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    logits: torch.Tensor,
    label: torch.Tensor,
    kept: torch.Tensor,
    reading: str = "loss",
) -> torch.Tensor:
    r"""Return a loss without the dropped voxels, equations 17 and 19 of SKCDF, in float32.

    The paper multiplies the loss by the mask: with `reading="loss"` it is that of the kept voxels alone, as one image.
    Its released code multiplies logits and label, :math:`L(M z, M y)` (`reading="logits"`). There a dropped voxel has
    no gradient, but counts as a uniform prediction of a background voxel: it adds ln K to the sum of the cross entropy
    and 1 / K to the false positives of each object in the Dice term.

    Args:
        loss: of logits `(B, K, ...)` and label `(B, 1, ...)`, such as MONAI's `DiceCELoss`. With "loss" it has to
            take volumes of any shape and to sum over the batch, `DiceCELoss(batch=True)`.
        logits: `(B, K, ...)`.
        label: classes, `(B, 1, ...)`.
        kept: mask M, `(B, 1, ...)`, see `balance_mask`.
        reading: "loss" or "logits".

    Returns:
        The loss; with "loss" 0 if no voxel is kept.

    Raises:
        ValueError: for an unknown reading, or shapes that do not fit together.
    """
    if reading not in READINGS:
        raise ValueError(f'reading "{reading}" is unknown: use one of {", ".join(READINGS)}')
    check_map("label", label, logits)
    check_map("kept", kept, logits)
    mask = kept.bool()
    if reading == "logits":
        return loss(logits.float() * mask, label * mask)
    chosen = logits.float().movedim(1, -1)[mask[:, 0]].T[None]  # (1, K, number of kept voxels)
    if not chosen.shape[2]:
        return chosen.sum()
    return loss(chosen, label[mask][None, None])
