# SPDX-License-Identifier: Apache-2.0
"""Over-confident maps made soft: noise on the logits, and a blur that removes the noise again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers import separable_filtering


def sample_gumbel(
    shape: Sequence[int], generator: torch.Generator | None = None, device: torch.device | str | None = None
) -> torch.Tensor:
    """Draw from the standard Gumbel distribution in fp32; in half precision some draws would be infinite.

    Args:
        shape: of the result.
        generator: source of the random numbers, on the same device; None takes PyTorch's own.
        device: of the result.
    """
    uniform_exponent = torch.empty(tuple(shape), device=device).exponential_(generator=generator)
    return -uniform_exponent.clamp(min=torch.finfo(torch.float32).tiny).log()


def gumbel_softmax_map(
    logits: torch.Tensor,
    noise: torch.Tensor,
    temperature: float = 1.0,
    sigma: float = 1.0,
    radius: int = 1,
) -> torch.Tensor:
    r"""Return :math:`G_\sigma * softmax((z + g) / \tau)`, the first summand of equation 7.

    Reference: W. Li et al., Boosting generic semi-supervised medical image segmentation (DTLP-Net),
    https://arxiv.org/abs/2508.08549, section III-B, "reparameterize and smooth"; the noise is that of Jang et al.,
    https://arxiv.org/abs/1611.01144. The blur :math:`G_\sigma` is in the paper's text and not in its equation; outside
    the map it sees the nearest voxel, so that the result sums to 1 over the classes at the border too. It acts on each
    of the spatial axes in turn.

    Args:
        logits: z, for example the label map that a diffusion arrives at, `(B, K, ...)`.
        noise: g, of the same shape, see `sample_gumbel`.
        temperature: tau.
        sigma: standard deviation of the Gaussian, in voxels; 0 leaves the blur out.
        radius: taps of the Gaussian on each side of its middle.

    Returns:
        Probabilities in fp32, `(B, K, ...)`.

    Raises:
        ValueError: for a temperature that is not above 0, a sigma below 0, a radius below 1, or two shapes.
    """
    if logits.shape != noise.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and noise {tuple(noise.shape)} differ; draw it for their shape")
    if temperature <= 0 or sigma < 0 or radius < 1:
        raise ValueError(
            f"temperature {temperature}, sigma {sigma}, radius {radius}; give above 0, from 0 on and from 1 on"
        )
    with torch.autocast(logits.device.type, enabled=False):
        probs = ((logits.float() + noise.float()) / temperature).softmax(1)
        if sigma == 0:
            return probs
        distance = torch.arange(-radius, radius + 1, dtype=probs.dtype, device=probs.device)
        taps = (-distance.square() / (2 * sigma**2)).softmax(0)
        return separable_filtering(probs, [taps] * (probs.ndim - 2), mode="replicate")
