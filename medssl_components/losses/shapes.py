# SPDX-License-Identifier: Apache-2.0
"""Shapes that would otherwise broadcast to a wrong loss without a word."""

from __future__ import annotations

import torch


def check_same_shape(first_logits: torch.Tensor, second_logits: torch.Tensor) -> None:
    """Raise an error of one line unless two networks' logits have one shape.

    Args:
        first_logits: of the one network.
        second_logits: of the other network.

    Raises:
        ValueError: for two shapes.
    """
    if first_logits.shape != second_logits.shape:
        shapes = tuple(first_logits.shape), tuple(second_logits.shape)
        raise ValueError(f"the two logits have the shapes {shapes[0]} and {shapes[1]}; give two of one shape")


def check_map(name: str, volume: torch.Tensor, like: torch.Tensor) -> None:
    """Raise an error of one line unless a map has one channel for logits or features `(B, C, ...)`.

    Args:
        name: of the argument, for the error.
        volume: the map, to be `(B, 1, ...)`.
        like: logits or features.

    Raises:
        ValueError: for another shape.
    """
    expected = (like.shape[0], 1, *like.shape[2:])
    if tuple(volume.shape) != expected:
        raise ValueError(
            f"{name} has the shape {tuple(volume.shape)}; beside {tuple(like.shape)} it has to be {expected}"
        )
