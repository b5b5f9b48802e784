# SPDX-License-Identifier: Apache-2.0
"""Soft predictions of teachers, from which a student learns by their overlap."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import DiceLoss


def soft_dice_distillation(
    student_logits: torch.Tensor, teacher_probs: Sequence[torch.Tensor], smooth: float = 1e-5
) -> torch.Tensor:
    r"""Return :math:`\sum_q (1 - \frac{1}{K} \sum_k \frac{2 \sum p_k q_k + s}{\sum p_k^2 + \sum q_k^2 + s})`.

    Reference: W. Li et al., Boosting generic semi-supervised medical image segmentation (DTLP-Net),
    https://arxiv.org/abs/2508.08549, equation 17, with the Dice of Milletari et al., V-Net,
    https://arxiv.org/abs/1606.04797. The inner sums are over the voxels of the whole batch, the outer one over the
    teachers q, which no gradient reaches; p is the student.

    Args:
        student_logits: `(B, K, ...)`.
        teacher_probs: each teacher's probabilities, same shape.
        smooth: s, by which a class that neither predicts counts as right.

    Raises:
        ValueError: for two shapes, or without any teacher.
    """
    if not teacher_probs:
        raise ValueError("teacher_probs is empty; give one teacher's probabilities or more")
    for probs in teacher_probs:
        if probs.shape != student_logits.shape:
            raise ValueError(f"teacher_probs {tuple(probs.shape)} differ from logits {tuple(student_logits.shape)}")
    dice = DiceLoss(squared_pred=True, batch=True, smooth_nr=smooth, smooth_dr=smooth)
    student = student_logits.float().softmax(1)
    return sum(dice(student, probs.detach().float()) for probs in teacher_probs)
