# SPDX-License-Identifier: Apache-2.0
"""Attention between the channels of feature maps, within one image or across labelled and unlabelled ones."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


def attend_channels(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float = 0.0, eps: float = 1e-5
) -> torch.Tensor:
    r"""Return :math:`\sigma(\psi(Q K^T)) V` in float32, with the instance norm psi over each whole map of n x m logits.

    Zhang et al., "A semantic knowledge complementarity based decoupling framework for semi-supervised class-imbalanced
    medical image segmentation" (SKCDF), CVPR 2025, equations 9 and 10. What psi subtracts is the same for all keys, so
    the softmax cancels it. The variance that psi divides by follows from the T x T covariances of queries and keys, as
    the sum of three terms that are at least 0; so neither needs the map, and the attention is the ordinary one.

    Args:
        query: (B, G, n, T), n channels as vectors of T tokens, in each of G groups.
        key: (B, G, m, T), or (1, G, m, T) for the same keys for all images.
        value: as ``key``.
        dropout: probability of dropping an entry of the map.
        eps: added to the variance.

    Returns:
        (B, G, n, T) in float32, under autocast too.
    """
    if torch.jit.is_scripting():
        return _attend(query.float(), key.float(), value.float(), dropout, eps)
    else:
        with torch.autocast(query.device.type, enabled=False):
            return _attend(query.float(), key.float(), value.float(), dropout, eps)


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float, eps: float) -> torch.Tensor:
    query_mean, key_mean = query.mean(2, keepdim=True), key.mean(2, keepdim=True)
    centred_query, centred_key = query - query_mean, key - key_mean
    of_rows = (centred_query * key_mean).sum(3).square().mean(2)
    of_columns = (centred_key * query_mean).sum(3).square().mean(2)
    of_both = (_covariance(centred_query) * _covariance(centred_key)).sum((2, 3))
    scale = (of_rows + of_columns + of_both + eps).rsqrt()[:, :, None, None]
    batch = query.shape[0]
    return functional.scaled_dot_product_attention(
        query * scale,
        centred_key.expand(batch, -1, -1, -1),
        value.expand(batch, -1, -1, -1),
        dropout_p=dropout,
        scale=1.0,
    )


def _covariance(centred: torch.Tensor) -> torch.Tensor:
    return centred.transpose(2, 3) @ centred / centred.shape[2]


class ChannelAttention(nn.Module):
    """Channels of an image attend to its own channels, or to those of the images of the other stream.

    SKCDF, equations 7 to 10; see :func:`attend_channels`. One set of weights serves both modes. Each group of tokens,
    such as a patch, attends to the same group alone.

    Differences from the paper: where it has ``num_heads`` maps in the cross mode too, the released code joins the heads
    to one map there (``joint_heads=False`` is the paper's form). It pairs one labelled with one unlabelled image, where
    the code takes all images of the other stream (``all_keys=False``: image i takes image i of the other stream, from
    the first again when these run out). It says nothing of the code's ``stop_gradient``. In the self mode the code
    orders heads and channels of the result otherwise than in the cross mode, and in one of its blocks leaves out the
    dropout of the result; here both modes are alike.

    Args:
        channels: of the tokens.
        num_heads: queries, keys and values have this many times ``channels`` channels.
        dropout: probability of dropping an entry of the maps, and of the result, in training.
        eps: added to the variance of the maps.
        joint_heads: all heads of the cross mode in one map.
        all_keys: keys and values are those of all images of the other stream.
        stop_gradient: in the cross mode no gradient passes the unlabelled tokens.
        recompute: keep queries, keys and values for the backward pass and compute the maps again.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int = 2,
        dropout: float = 0.1,
        eps: float = 1e-5,
        joint_heads: bool = True,
        all_keys: bool = True,
        stop_gradient: bool = True,
        recompute: bool = True,
    ) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(channels, num_heads * channels, bias=False) for _ in range(3))
        self.out = nn.Linear(num_heads * channels, channels, bias=False)
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
        self.out_dropout = nn.Dropout(dropout)
        self.num_heads, self.dropout, self.eps = num_heads, dropout, eps
        self.joint_heads, self.all_keys = joint_heads, all_keys
        self.stop_gradient, self.recompute = stop_gradient, recompute

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Attend within each image.

        Args:
            tokens: (B, P, T, channels), T tokens in each of P groups.

        Returns:
            What is to be added, of the same shape.
        """
        heads = self.num_heads
        query, key = _split(self.query(tokens), heads), _split(self.key(tokens), heads)
        return self._merge(self._attend(query, key, _split(self.value(tokens), heads)), heads)

    def cross(self, tokens: torch.Tensor, num_labeled: int) -> torch.Tensor:
        """Attend from labelled to unlabelled images and from unlabelled to labelled ones.

        Args:
            tokens: (B, P, T, channels), those of the labelled images first.
            num_labeled: number of the labelled ones, at least 1 and less than B.
        """
        labeled, unlabeled = tokens[:num_labeled], tokens[num_labeled:]
        if self.stop_gradient:
            unlabeled = unlabeled.detach()
        return torch.cat((self._look_at(labeled, unlabeled), self._look_at(unlabeled, labeled)))

    def _look_at(self, tokens: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        heads = 1 if self.joint_heads else self.num_heads
        key, value = _split(self.key(others), heads), _split(self.value(others), heads)
        if self.all_keys:
            key, value = (tensor.transpose(0, 1).flatten(1, 2)[None] for tensor in (key, value))
        else:
            partner = torch.arange(len(tokens), device=tokens.device) % len(others)
            key, value = key[partner], value[partner]
        return self._merge(self._attend(_split(self.query(tokens), heads), key, value), heads)

    def _attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        dropout = self.dropout if self.training else 0.0
        if torch.jit.is_scripting():
            return attend_channels(query, key, value, dropout, self.eps)
        else:
            if not self.recompute or not torch.is_grad_enabled() or torch.jit.is_tracing():
                return attend_channels(query, key, value, dropout, self.eps)
            return checkpoint(
                attend_channels,
                query,
                key,
                value,
                dropout,
                self.eps,
                use_reentrant=False,
                preserve_rng_state=dropout > 0,
            )

    def _merge(self, attended: torch.Tensor, heads: int) -> torch.Tensor:
        batch, groups, channels, tokens = attended.shape
        by_head = attended.reshape(batch, groups // heads, heads, channels, tokens).permute(0, 1, 4, 2, 3)
        return self.out_dropout(self.out(by_head.flatten(3)))


def _split(tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """Turn (B, P, T, heads * C) into (B, P * heads, C, T)."""
    batch, groups, number, channels = tokens.shape
    by_head = tokens.reshape(batch, groups, number, heads, channels // heads).permute(0, 1, 3, 4, 2)
    return by_head.flatten(1, 2)
