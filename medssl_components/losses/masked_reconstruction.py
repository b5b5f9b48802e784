# SPDX-License-Identifier: Apache-2.0
"""A student who sees a part of the volume and tells what its teacher says of all of it."""

from __future__ import annotations

import torch

from .shapes import check_same_shape

QUANTITIES = ("logit", "probability")


def masked_reconstruction(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, quantity: str = "logit", smallest: float = 1e-6
) -> torch.Tensor:
    r"""Return :math:`\frac{1}{N} \sum_i \| p_i - p'_i \|^2 / \| p'_i \|^2` over the volumes i of a batch.

    Reference: W. Li et al., Boosting generic semi-supervised medical image segmentation (DTLP-Net),
    https://arxiv.org/abs/2508.08549, equation 16. Norms are over a volume's voxels and classes; no gradient reaches the
    teacher. The paper calls p "voxel-wise logits".

    Args:
        student_logits: for the masked volumes, `(B, K, ...)`.
        teacher_logits: for the whole volumes, same shape.
        quantity: "logit" or "probability" (their softmax), what p is.
        smallest: least denominator.

    Raises:
        ValueError: for an unknown quantity, or two shapes.
    """
    if quantity not in QUANTITIES:
        raise ValueError(f'quantity "{quantity}" is unknown: use one of {", ".join(QUANTITIES)}')
    check_same_shape(student_logits, teacher_logits)
    student, teacher = student_logits.float(), teacher_logits.detach().float()
    if quantity == "probability":
        student, teacher = student.softmax(1), teacher.softmax(1)
    error = (student - teacher).square().flatten(1).sum(1)
    return (error / teacher.square().flatten(1).sum(1).clamp(min=smallest)).mean()
