# SPDX-License-Identifier: Apache-2.0
"""Labelled and unlabelled features that complement each other by attention between their channels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.utils import ensure_tuple_rep
from torch import nn
from torch.nn import functional

from .channel_attention import ChannelAttention


class ComplementarityBlock(nn.Module):
    """Cut a feature map into patches and let the channels of each attend to channels of the same patch.

    Each channel is one vector a patch: a convolution that all channels share makes as many tokens of a patch as it has
    voxels. Attention with a residual, layer norm, a 1x1x1 convolution and GELU follow. A patch of the grid's size makes
    the attention global. A grid that the patch does not divide is continued by its last voxels.

    Args:
        attention: from tokens to tokens.
        channels: of the feature map.
        grid: sides of the feature map.
        patch: sides of a patch.
        norm_eps: of the layer norms.
        token_residual: the tokens are the residual, else the features.
        gelu: ends with GELU.
    """

    def __init__(
        self,
        attention: ChannelAttention,
        channels: int,
        grid: Sequence[int],
        patch: Sequence[int],
        norm_eps: float = 1e-6,
        token_residual: bool = True,
        gelu: bool = True,
    ) -> None:
        super().__init__()
        self.tokens = nn.Conv3d(1, math.prod(patch), tuple(patch), tuple(patch))
        self.attention_norm = nn.LayerNorm(channels, norm_eps)
        self.attention = attention
        self.norm = nn.LayerNorm(channels, norm_eps)
        self.convolution = nn.Conv3d(channels, channels, 1)
        self.activation = nn.GELU() if gelu else nn.Identity()
        self.token_residual = token_residual
        self.grid, self.patch = list(grid), list(patch)
        self.patches = [math.ceil(side / step) for side, step in zip(grid, patch, strict=True)]
        self.sides = [number * step for number, step in zip(self.patches, patch, strict=True)]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Attend within each image.

        Args:
            features: (B, channels, D, H, W) with the sides of ``grid``.

        Returns:
            Features of the same shape.
        """
        tokens = self._cut(features)
        return self._join(self.attention(self.attention_norm(tokens)), tokens, features)

    def cross(self, features: torch.Tensor, num_labeled: int) -> torch.Tensor:
        """Attend between labelled and unlabelled images; see :meth:`.KnowledgeComplementarity.cross`."""
        tokens = self._cut(features)
        return self._join(self.attention.cross(self.attention_norm(tokens), num_labeled), tokens, features)

    def _cut(self, features: torch.Tensor) -> torch.Tensor:
        """Return the tokens (B, patches, tokens of a patch, channels)."""
        batch, channels = features.shape[:2]
        if self.sides != self.grid:
            depth, height, width = [self.sides[axis] - self.grid[axis] for axis in range(3)]
            features = functional.pad(features, [0, width, 0, height, 0, depth], mode="replicate")
        tokens = self.tokens(features.reshape([batch * channels, 1] + self.sides))
        return tokens.reshape(batch, channels, tokens.shape[1], -1).permute(0, 3, 2, 1)

    def _join(self, attended: torch.Tensor, tokens: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        if self.token_residual:
            attended = attended + tokens
        batch, channels = features.shape[:2]
        folded = attended.reshape([batch] + self.patches + self.patch + [channels])
        joined = folded.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape([batch] + self.sides + [channels])
        joined = joined[:, : self.grid[0], : self.grid[1], : self.grid[2]]
        if not self.token_residual:
            joined = joined + features.permute(0, 2, 3, 4, 1)
        return self.activation(self.convolution(self.norm(joined).permute(0, 4, 1, 2, 3)))


class KnowledgeComplementarity(nn.Module):
    """The semantic knowledge complementarity module: channel attention within patches, then over the whole map.

    Zhang et al., "A semantic knowledge complementarity based decoupling framework for semi-supervised class-imbalanced
    medical image segmentation" (SKCDF), CVPR 2025, section 3.2, equations 7 to 12. It takes an encoder's coarsest map.
    In the cross mode labelled images look at the unlabelled ones and the other way round, in the self mode each looks
    at itself; the weights are the same. ``grid`` and the global block's weights belong together, so that the module
    serves one size of patch.

    Differences from the paper: where it adds the features, the released code adds their tokens
    (``token_residual=False`` is the paper's form), and the code has GELU after the 1x1x1 convolutions (``gelu``). For
    the heads, the keys and the stopped gradient see :class:`.ChannelAttention`.

    Args:
        channels: of the coarsest map.
        grid: sides of the coarsest map, the patch size over the encoder's total stride.
        local_patch: sides of the local block's patches, an int or three.
        num_heads: see :class:`.ChannelAttention`.
        dropout: probability of dropping an entry of the attention maps, and of the attention's result, in training.
        eps: added to the variance of the attention maps.
        norm_eps: added to the variance in the layer norms.
        joint_heads: see :class:`.ChannelAttention`.
        all_keys: see :class:`.ChannelAttention`.
        stop_gradient: in the cross mode no gradient passes the unlabelled features.
        token_residual: see above.
        gelu: see above.
        recompute: compute the attention maps again in the backward pass instead of keeping them.
    """

    def __init__(
        self,
        channels: int,
        grid: Sequence[int],
        local_patch: int | Sequence[int] = 2,
        num_heads: int = 2,
        dropout: float = 0.1,
        eps: float = 1e-5,
        norm_eps: float = 1e-6,
        joint_heads: bool = True,
        all_keys: bool = True,
        stop_gradient: bool = True,
        token_residual: bool = True,
        gelu: bool = True,
        recompute: bool = True,
    ) -> None:
        super().__init__()
        self.grid = tuple(grid)
        self.local_block, self.global_block = (
            ComplementarityBlock(
                ChannelAttention(channels, num_heads, dropout, eps, joint_heads, all_keys, stop_gradient, recompute),
                channels,
                grid,
                patch,
                norm_eps,
                token_residual,
                gelu,
            )
            for patch in (ensure_tuple_rep(local_patch, 3), self.grid)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Complement each image's features from its own.

        Args:
            features: (B, channels, D, H, W) with the sides of ``grid``.

        Returns:
            Features of the same shape.

        Raises:
            ValueError: for other sides (not in TorchScript, where messages are lost).
        """
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            self._check(features)
        return self.global_block(self.local_block(features))

    def cross(self, features: torch.Tensor, num_labeled: int) -> torch.Tensor:
        """Complement labelled images' features from the unlabelled ones' and these from the labelled ones'.

        Args:
            features: (B, channels, D, H, W) with the sides of ``grid``, those of the labelled images first.
            num_labeled: number of the labelled ones; 0 or B, where one stream is absent, is the self mode.

        Returns:
            Features of the same shape.

        Raises:
            ValueError: for other sides, or a number outside 0 to B.
        """
        if not 0 <= num_labeled <= len(features):
            raise ValueError(f"num_labeled is {num_labeled}; give a number from 0 to the batch's {len(features)}")
        if num_labeled in (0, len(features)):
            return self(features)
        self._check(features)
        return self.global_block.cross(self.local_block.cross(features, num_labeled), num_labeled)

    def _check(self, features: torch.Tensor) -> None:
        sides = tuple(features.shape[2:])
        if sides != self.grid:
            raise ValueError(f"the features' sides are {sides}, the module's grid is {self.grid}: give it those sides")
