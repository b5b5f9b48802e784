# SPDX-License-Identifier: Apache-2.0
"""Sliding-window inference that averages probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer

from .precision import autocast, resolve_precision
from .uncertainty_mapd import uncertainty_kind


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
        uncertainty: see :func:`uncertainty_kind`. "disagreement" asks the network for it in the same pass, and adds it
            to the probabilities as a last channel.

    Raises:
        ValueError: for a stride that is not in 1 .. roi_size, or an unknown word for `uncertainty`.
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
        uncertainty: bool | str = False,
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
        self.uncertainty = uncertainty_kind(uncertainty)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return probabilities `(B, K, D, H, W)` in float32 for images `(B, C, D, H, W)`, then the disagreement.

        Raises:
            ValueError: if the network has no disagreement to tell.
        """
        dtype = resolve_precision(self.precision, inputs.device)
        if self.uncertainty == "disagreement" and not hasattr(network, "forward_with_uncertainty"):
            name = type(network).__name__
            raise ValueError(f'uncertainty "disagreement" is not for {name}, which predicts once; use "entropy"')

        def probabilities(windows: torch.Tensor) -> torch.Tensor:
            with autocast(windows.device, dtype):
                if self.uncertainty != "disagreement":
                    return network(windows, *args, **kwargs).float().softmax(dim=1)
                logits, disagreement = network.forward_with_uncertainty(windows, *args, **kwargs)
            return torch.cat([logits.float().softmax(dim=1), disagreement.float()], dim=1)

        return super().__call__(inputs, probabilities)
