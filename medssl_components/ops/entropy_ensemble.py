# SPDX-License-Identifier: Apache-2.0
"""Two teachers' predictions, of which the surer one counts more."""

from __future__ import annotations

import math

import torch

from .predictive_entropy import predictive_entropy


def entropy_ensemble(first_probs: torch.Tensor, second_probs: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`(w_1 p_1 + w_2 p_2) / (w_1 + w_2)` with :math:`w = e^{-H(p)}` at each voxel, H in bits.

    Reference: W. Li et al., Boosting generic semi-supervised medical image segmentation (DTLP-Net),
    https://arxiv.org/abs/2508.08549, equations 8 to 10. A uniform prediction over K classes has the weight
    :math:`e^{-\log_2 K}`, a sure one 1.

    Args:
        first_probs: probabilities of the one teacher, `(B, K, ...)`.
        second_probs: of the other, same shape.

    Returns:
        Probabilities in fp32, `(B, K, ...)`.

    Raises:
        ValueError: for two shapes, or fewer than two classes.
    """
    if first_probs.shape != second_probs.shape:
        shapes = tuple(first_probs.shape), tuple(second_probs.shape)
        raise ValueError(f"the two probabilities have the shapes {shapes[0]} and {shapes[1]}; give two of one shape")
    first, second = first_probs.float(), second_probs.float()
    bits = math.log2(first.shape[1])
    share = torch.sigmoid(bits * (predictive_entropy(second) - predictive_entropy(first)))  # w_1 / (w_1 + w_2)
    return torch.lerp(second, first, share)
