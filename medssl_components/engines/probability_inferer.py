# SPDX-License-Identifier: Apache-2.0
"""Sliding-window inference that averages probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer

from .precision import autocast, resolve_precision


class ProbabilityInferer(SlidingWindowInferer):
    """Slide a window over a volume and average the softmax of the network's logits over the windows.

    MONAI's own inferers average what the network returns, here logits, which is not what the field's evaluation does.
    The last window of an axis is shifted inside the volume; a volume smaller than the window is padded.

    Args:
        roi_size: window in voxels, the training patch.
        overlap: share of a window that it has in common with the next, one number or one an axis.
        stride: step of the window in voxels, one number an axis, in place of `overlap`; the papers give strides.
        mode: "constant" weighs all voxels of a window alike, as the papers do; "gaussian" favours its centre.
        sw_batch_size: windows in one forward pass.
        precision: "auto", "fp32", "bf16" or "fp16".
        device: where the average is kept; None is the input's device.

    Raises:
        ValueError: for a stride that is not in 1 .. roi_size.
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        overlap: float | Sequence[float] = 0.5,
        stride: Sequence[int] | None = None,
        mode: str = "constant",
        sw_batch_size: int = 4,
        precision: str = "auto",
        device: str | torch.device | None = None,
    ) -> None:
        if stride:
            if len(stride) != len(roi_size) or any(not 0 < s <= r for s, r in zip(stride, roi_size, strict=True)):
                raise ValueError(f"stride {list(stride)} does not fit; give for every axis 1 .. {list(roi_size)}")
            # MONAI takes the integer part of roi * (1 - overlap): half a voxel more keeps rounding from losing one
            overlap = [1 - min(s + 0.5, r) / r for s, r in zip(stride, roi_size, strict=True)]
        super().__init__(
            roi_size=roi_size, sw_batch_size=sw_batch_size, overlap=overlap, mode=mode, device=device, progress=False
        )
        self.precision = precision

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return probabilities `(B, K, D, H, W)` in float32 for images `(B, C, D, H, W)`."""
        dtype = resolve_precision(self.precision, inputs.device)

        def probabilities(windows: torch.Tensor) -> torch.Tensor:
            with autocast(windows.device, dtype):
                logits = network(windows, *args, **kwargs)
            return logits.float().softmax(dim=1)

        return super().__call__(inputs, probabilities)
