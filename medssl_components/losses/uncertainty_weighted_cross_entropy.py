# SPDX-License-Identifier: Apache-2.0
"""Soft pseudo-labels that count less where student and teacher differ."""

from __future__ import annotations

import torch
from torch.nn import functional

from .shapes import check_same_shape


def uncertainty_weighted_cross_entropy(
    logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float = 0.5
) -> torch.Tensor:
    r"""Return the mean over the voxels of :math:`e^{-D} L_{ce}(f, \sigma(f' / T_p)) + D`, :math:`D = D_{KL}(p' \| p)`.

    Reference: Lu et al., Enhancing dual network based semi-supervised medical image segmentation (UGPL),
    Knowledge-Based Systems 2025, https://arxiv.org/abs/2509.13084, equations 13 to 15; the weight after Zheng and Yang,
    Rectifying pseudo label learning via uncertainty estimation, IJCV 2021, https://arxiv.org/abs/2003.03773. The
    student f gets its gradient from D too, in both places; the teacher f' gets none. In the paper both networks teach
    each other, which takes two calls.

    Args:
        logits: of the student, `(B, K, ...)`.
        teacher_logits: of the teacher, same shape.
        temperature: T_p; below 1 the soft pseudo-labels are more decided than the teacher, 1 leaves them.

    Raises:
        ValueError: unless the temperature is above 0 and both logits have one shape.
    """
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; give a number above 0")
    check_same_shape(logits, teacher_logits)
    log_probs = logits.float().log_softmax(1)
    teacher = teacher_logits.detach().float()
    cross_entropy = -((teacher / temperature).softmax(1) * log_probs).sum(1)  # equation 13
    divergence = functional.kl_div(log_probs, teacher.log_softmax(1), reduction="none", log_target=True).sum(1)  # 15
    return ((-divergence).exp() * cross_entropy + divergence).mean()  # equation 14
