# SPDX-License-Identifier: Apache-2.0
"""Class weights that follow how hard each class is to learn."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from monai.networks import one_hot
from torch import distributed, nn
from torch.nn import functional

from .shapes import check_map

ABSENT = ("skip", "half")


class DifficultyWeights(nn.Module):
    r"""Gives class k the weight :math:`w_k = d_k^\alpha`, :math:`d_k = (du_k + s) / (dl_k + s)`.

    With :math:`c_k` the Dice of class k at this step, :math:`c'_k` that of the step before and
    :math:`\Delta = c_k - c'_k`, the means over the last steps are taken of :math:`\max(\Delta, 0) \ln(c_k / c'_k)`,
    what was learned, for :math:`dl_k`, and of :math:`\min(\Delta, 0) \ln(c_k / c'_k)`, what was unlearned, for
    :math:`du_k`. With `mistakes` the weight is :math:`K \lambda_k d_k^\alpha`, :math:`\lambda_k` being the mean of
    :math:`1 - c_k`, which starts at 1.

    References: W. Li et al., Boosting generic semi-supervised medical image segmentation (DTLP-Net),
    https://arxiv.org/abs/2508.08549, equations 4 to 6; Wang and Li, Towards generic semi-supervised framework (A&D),
    NeurIPS 2023, https://arxiv.org/abs/2310.11320. The state is in buffers, so a resumed training goes on with it.

    Differences from the paper: its sums over the last tau steps are exponential means with the factor 1 - 1 / tau, as
    in A&D. It has a factor :math:`w_\lambda` that it does not define; A&D's is :math:`K \lambda_k`. By that a voxel of
    the background, of which little is mistaken, weighs so little that objects are predicted too large, so it is left
    out unless asked for. A class that is in neither the label nor the prediction leaves its state alone; A&D gives it
    the Dice 1/2 (`absent="half"`), a jump that counts as learning and unlearning. Dice and :math:`d_k^\alpha` are
    clamped.

    Args:
        num_classes: background included, K.
        window: tau, in steps.
        exponent: alpha.
        absent: "skip" or "half", what a class does that is in neither label nor prediction.
        smallest_dice: Dice below this count as this, and so does the Dice before the first step.
        smooth: s.
        smallest_difficulty: lower limit of :math:`d_k^\alpha`.
        largest_difficulty: its upper limit.
        mistakes: whether to multiply by :math:`K \lambda_k`.

    Raises:
        ValueError: for a window below 1, an unknown word, or a number that is not above 0.
    """

    def __init__(
        self,
        num_classes: int,
        window: float = 50.0,
        exponent: float = 0.2,
        absent: str = "skip",
        smallest_dice: float = 1e-8,
        smooth: float = 1e-8,
        smallest_difficulty: float = 0.02,
        largest_difficulty: float = 30.0,
        mistakes: bool = False,
    ) -> None:
        super().__init__()
        if window < 1:
            raise ValueError(f"window is {window}; give 1 or more")
        if absent not in ABSENT:
            raise ValueError(f'absent "{absent}" is unknown: use one of {", ".join(ABSENT)}')
        if min(smallest_dice, smooth, smallest_difficulty) <= 0:
            raise ValueError("smallest_dice, smooth and smallest_difficulty have to be above 0; give small numbers")
        self.num_classes = num_classes
        self.window = window
        self.exponent = exponent
        self.absent = absent
        self.smallest_dice = smallest_dice
        self.smooth = smooth
        self.smallest_difficulty = smallest_difficulty
        self.largest_difficulty = largest_difficulty
        self.mistakes = mistakes
        self.register_buffer("dice", torch.full((num_classes,), smallest_dice))
        self.register_buffer("learned", torch.zeros(num_classes))
        self.register_buffer("unlearned", torch.zeros(num_classes))
        self.register_buffer("mistaken", torch.ones(num_classes))

    @torch.no_grad()
    def update(self, logits: torch.Tensor, label: torch.Tensor) -> None:
        """Take in the Dice of a labelled batch, of all processes if there are several.

        Args:
            logits: `(B, K, ...)`; their largest is the predicted class.
            label: class indices, `(B, 1, ...)`.

        Raises:
            ValueError: for shapes that do not fit together.
        """
        check_map("label", label, logits)
        predicted = one_hot(logits.max(1, keepdim=True).indices, self.num_classes, dtype=torch.bool)
        true = one_hot(label, self.num_classes, dtype=torch.bool)
        axes = [0, *range(2, logits.ndim)]
        counts = torch.stack([(predicted & true).sum(axes), predicted.sum(axes) + true.sum(axes)])
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(counts)
        overlap, both = counts.float()
        dice = ((2 * overlap + self.smooth) / (both + 2 * self.smooth)).clamp(self.smallest_dice, 1)
        change, ratio = dice - self.dice, (dice / self.dice).log()
        counted = both > 0 if self.absent == "skip" else torch.ones_like(both, dtype=torch.bool)
        news = {
            "learned": change.clamp(min=0) * ratio,
            "unlearned": change.clamp(max=0) * ratio,
            "mistaken": 1 - dice,
        }
        for name, value in news.items():
            state = getattr(self, name)
            state.copy_(torch.where(counted, state.lerp(value, 1 / self.window), state))
        self.dice.copy_(torch.where(counted, dice, self.dice))

    def forward(self) -> torch.Tensor:
        """Return the weights (K,), without gradient."""
        difficulty = ((self.unlearned + self.smooth) / (self.learned + self.smooth)) ** self.exponent
        difficulty = difficulty.clamp(self.smallest_difficulty, self.largest_difficulty)
        return self.num_classes * self.mistaken * difficulty if self.mistakes else difficulty


def weighted_dice_cross_entropy(
    logits: torch.Tensor, label: torch.Tensor, weights: torch.Tensor, smooth: float = 1.0
) -> torch.Tensor:
    r"""Return the cross-entropy and the Dice loss with a weight for each class, :math:`L_{diff}` of equation 3.

    The cross-entropy is the mean with the weights of the voxels' classes. The Dice loss is
    :math:`\frac{1}{K - 1} \sum_{k \geq 1} w_k (1 - Dice_k)`, Dice being over the voxels of the whole batch. With equal
    weights 1 the sum is that of MONAI's `DiceCELoss`, which ignores the weight of a single object.

    Differences from the paper: it halves the sum, and its Dice loss includes the background; both as in A&D.

    Args:
        logits: `(B, K, ...)`.
        label: class indices, `(B, 1, ...)`.
        weights: `(K,)`, see `DifficultyWeights`.
        smooth: added to numerator and denominator of Dice.

    Raises:
        ValueError: for shapes that do not fit together.
    """
    check_map("label", label, logits)
    if weights.shape != logits.shape[1:2]:
        raise ValueError(f"weights has the shape {tuple(weights.shape)}; give ({logits.shape[1]},), one for each class")
    logits = logits.float()
    cross_entropy = functional.cross_entropy(logits, label[:, 0].long(), weight=weights)
    dice = DiceLoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        batch=True,
        smooth_nr=smooth,
        smooth_dr=smooth,
        reduction="none",
    )
    return cross_entropy + (weights[1:] * dice(logits, label).flatten()).mean()
