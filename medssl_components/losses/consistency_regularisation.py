# SPDX-License-Identifier: Apache-2.0
"""The squared error where only one of two networks is sure of an object."""

from __future__ import annotations

import torch
from monai.networks import one_hot

from .shapes import check_map, check_same_shape

RULES = ("xor", "or")
QUANTITIES = ("probability", "logit")


def consistency_regularisation(
    first_logits: torch.Tensor,
    second_logits: torch.Tensor,
    label: torch.Tensor,
    threshold: float = 0.6,
    rule: str = "xor",
    quantity: str = "probability",
) -> torch.Tensor:
    r"""Return :math:`\sum_f \sum M (p_f - y)^2 / \sum M` over two networks f, with M from equation 5.

    Reference: Lu et al., Enhancing dual network based semi-supervised medical image segmentation (UGPL),
    Knowledge-Based Systems 2025, https://arxiv.org/abs/2509.13084, equations 4 to 6. M is 1 where only one of the
    networks predicts the object, with at least `threshold`; no gradient passes it. With several objects each has its
    own M, and numerator and denominator are summed over them. Without any such voxel the loss is 0.

    Differences from the paper: its f are logits, for which neither the threshold nor the difference to a label has a
    meaning (`quantity="logit"`); its text calls the exclusive or of equation 5 an or (`rule="or"`); and a denominator
    of at least 1 stands for its small constant.

    Args:
        first_logits: of the one network, `(B, K, ...)`, background first.
        second_logits: of the other network, same shape.
        label: class indices, `(B, 1, ...)`.
        threshold: smallest value of `quantity` that counts as sure, lambda.
        rule: "xor" or "or", how the two networks' conditions make M.
        quantity: "probability" or "logit", what p_f and the threshold are about.

    Raises:
        ValueError: for an unknown rule or quantity, or shapes that do not fit together.
    """
    if rule not in RULES:
        raise ValueError(f'rule "{rule}" is unknown: use one of {", ".join(RULES)}')
    if quantity not in QUANTITIES:
        raise ValueError(f'quantity "{quantity}" is unknown: use one of {", ".join(QUANTITIES)}')
    check_same_shape(first_logits, second_logits)
    check_map("label", label, first_logits)
    scores = [logits.float() for logits in (first_logits, second_logits)]
    if quantity == "probability":
        scores = [logits.softmax(1) for logits in scores]
    num_classes = first_logits.shape[1]
    sure = []
    for score in scores:
        predicted = one_hot(score.detach().max(1, keepdim=True).indices, num_classes, dtype=torch.bool)  # equation 4
        sure.append((predicted & (score >= threshold))[:, 1:])
    mask = sure[0] ^ sure[1] if rule == "xor" else sure[0] | sure[1]  # equation 5
    target = one_hot(label, num_classes)[:, 1:]
    error = sum((score[:, 1:] - target).square() for score in scores)
    return (error * mask).sum() / mask.sum().clamp(min=1)  # equation 6
