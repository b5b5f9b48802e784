# SPDX-License-Identifier: Apache-2.0
"""The V-Net with one decoder for labelled and one for unlabelled data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn

from .blocks import initialise
from .knowledge_complementarity import KnowledgeComplementarity
from .patch_size import check_patch_size
from .vnet import VNetDecoder, VNetEncoder

INFERENCE_DECODERS = ("unlabeled", "labeled")


class DecoupledOutput(NamedTuple):
    """Logits `(B, K, ...)` of a decoder's main head, and those of its auxiliary head if it has one."""

    logits: torch.Tensor
    auxiliary_logits: torch.Tensor | None


class TwoHeadDecoder(nn.Module):
    """A decoder with a main head and an auxiliary one, 1x1x1 convolutions of the same map.

    Args:
        decoder: gives a map (B, channels, D, H, W) of an encoder's feature maps.
        channels: of the decoder's map.
        num_classes: channels of the logits, background included.
        auxiliary: the second head is there; ``auxiliary_head`` is None without.
    """

    def __init__(self, decoder: nn.Module, channels: int, num_classes: int, auxiliary: bool = True) -> None:
        super().__init__()
        self.decoder = decoder
        self.head = nn.Conv3d(channels, num_classes, 1)
        self.auxiliary_head = nn.Conv3d(channels, num_classes, 1) if auxiliary else None

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Compute the main head's logits.

        Args:
            features: the encoder's maps, from the finest to the coarsest.
        """
        return self.head(self.decoder(features))

    def both(self, features: list[torch.Tensor]) -> DecoupledOutput:
        """Compute both heads' logits.

        Args:
            features: the encoder's maps, from the finest to the coarsest.
        """
        decoded = self.decoder(features)
        auxiliary = None if self.auxiliary_head is None else self.auxiliary_head(decoded)
        return DecoupledOutput(self.head(decoded), auxiliary)


class DecoupledVNet(nn.Module):
    """A V-Net whose two decoders learn from labelled and from unlabelled data, each with a main and an auxiliary head.

    Zhang et al., "A semantic knowledge complementarity based decoupling framework for semi-supervised class-imbalanced
    medical image segmentation" (SKCDF), CVPR 2025, figure 2. ``joint`` is the labelled decoder after the cross mode of
    the semantic knowledge complementarity module, ``alone`` the unlabelled decoder after its self mode; ``forward`` is
    the latter's main head. With the default arguments it has 50,851,456 parameters. ``encoder``, ``complementarity``,
    ``labeled_decoder`` and ``unlabeled_decoder`` are its parts, the second and the last of them None if left out;
    ``divisor`` holds the total stride along each axis.

    Differences from the paper: it does not list the layers; they are those of the released code, without convolutions
    that the code makes and never uses. For those of the module see :class:`.KnowledgeComplementarity`.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the logits, background included.
        base_channels: channels at full resolution; doubled at each lower one.
        patch_size: sides of the patch in voxels; with the module the network takes no other.
        num_convs: number of 3x3x3 convolutions at each resolution, from the finest to the coarsest.
        strides: factor between each resolution and the next, an int or three ints for an anisotropic scan.
        upsampling: ``"transposed"``, ``"trilinear"`` or ``"nearest"``; see :func:`~.blocks.upsampling_unit`.
        dropout: probability of dropping a channel in training, of the coarsest map and of each decoder's last.
        norm: ``"batch"``, ``"instance"`` or ``"group"``, with learned scale and shift.
        norm_groups: number of groups of ``"group"``.
        order: ``"norm_act"`` or ``"act_norm"``, the order of normalisation and ReLU after each convolution.
        initialisation: ``"xavier"``, ``"kaiming"`` or ``"default"``; see :func:`~.blocks.initialise`.
        complementarity: makes the module from the coarsest map's channels and sides; other settings than its defaults
            by :func:`functools.partial`, in a bundle by ``_mode_``. None leaves it out (table 3); a bundle passes that
            by a reference to a part that is ``_disabled_``.
        auxiliary_heads: the decoders have auxiliary heads; False leaves them out (table 3).
        decoupled: unlabelled data has a decoder of its own; False leaves it out, and the one for labelled data serves
            both (table 3).
        inference_decoder: whose main head ``forward`` takes, ``"unlabeled"`` or ``"labeled"`` (table 4).

    Raises:
        ValueError: for an unknown word, groups that do not divide the channels, the wrong number of strides, or a
            ``patch_size`` that does not fit the strides.
    """

    # The labelled decoder learns in every training, so weights of any can be scored with it (table 4).
    fits_all_weights = {"inference_decoder": "labeled"}

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 14,
        base_channels: int = 32,
        patch_size: Sequence[int] = (64, 128, 128),
        num_convs: Sequence[int] = (1, 2, 3, 3, 3),
        strides: Sequence[int | Sequence[int]] = (2, 2, 2, 2),
        upsampling: str = "transposed",
        dropout: float = 0.5,
        norm: str = "batch",
        norm_groups: int = 8,
        order: str = "norm_act",
        initialisation: str = "xavier",
        complementarity: Callable[[int, tuple[int, ...]], nn.Module] | None = KnowledgeComplementarity,
        auxiliary_heads: bool = True,
        decoupled: bool = True,
        inference_decoder: str = "unlabeled",
    ) -> None:
        super().__init__()
        if inference_decoder not in INFERENCE_DECODERS:
            words = ", ".join(INFERENCE_DECODERS)
            raise ValueError(f'inference_decoder "{inference_decoder}" is unknown: use one of {words}')
        self.encoder = VNetEncoder(in_channels, base_channels, num_convs, strides, dropout, norm, norm_groups, order)
        self.divisor = self.encoder.divisor
        self.num_classes = num_classes
        self.patch_size = tuple(patch_size)
        self.inference_decoder = inference_decoder
        check_patch_size(self.patch_size, self.divisor)
        grid = tuple(side // step for side, step in zip(self.patch_size, self.divisor, strict=True))
        coarsest = base_channels * 2 ** len(strides)
        self.complementarity = None if complementarity is None else complementarity(coarsest, grid)
        self.labeled_decoder, self.unlabeled_decoder = (
            TwoHeadDecoder(
                VNetDecoder(base_channels, num_convs, strides, upsampling, dropout, norm, norm_groups, order),
                base_channels,
                num_classes,
                auxiliary_heads,
            )
            if wanted
            else None
            for wanted in (True, decoupled)
        )
        initialise(self, initialisation)

    def check_patch_size(self, patch_size: Sequence[int]) -> None:
        """Raise an error of one line if the network cannot take this patch.

        Args:
            patch_size: sides of the patch in voxels, one for each spatial axis.
        """
        check_patch_size(patch_size, self.divisor)
        if self.complementarity is not None and tuple(patch_size) != self.patch_size:
            raise ValueError(
                f"patch_size {tuple(patch_size)} is not the {self.patch_size} that the network's attention was made "
                "for: use that size, or make the network with this one"
            )

    def joint(self, image: torch.Tensor, num_labeled: int) -> DecoupledOutput:
        """Compute the labelled decoder's logits of a batch, whose two parts complement each other.

        Those of the labelled images are predictions, those of the unlabelled ones are for pseudo-labels.

        Args:
            image: (B, in_channels, D, H, W) of size ``patch_size``, the labelled images first.
            num_labeled: number of the labelled ones; without unlabelled ones each image complements itself.
        """
        features = self._encode(image)
        if self.complementarity is not None:
            features[-1] = self.complementarity.cross(features[-1], num_labeled)
        return self.labeled_decoder.both(features)

    def alone(self, image: torch.Tensor) -> DecoupledOutput:
        """Compute the unlabelled decoder's logits of images, each of which complements itself.

        Args:
            image: (B, in_channels, D, H, W) of size ``patch_size``.
        """
        decoder = self.labeled_decoder if self.unlabeled_decoder is None else self.unlabeled_decoder
        return decoder.both(self._self_features(image))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the logits (B, num_classes, D, H, W) of the main head of ``inference_decoder``.

        Args:
            image: (B, in_channels, D, H, W) of size ``patch_size``.

        Raises:
            ValueError: for an image of another size (not in TorchScript, where messages are lost).
        """
        features = self._self_features(image)
        if self.unlabeled_decoder is not None and self.inference_decoder == "unlabeled":
            return self.unlabeled_decoder(features)
        return self.labeled_decoder(features)

    def _self_features(self, image: torch.Tensor) -> list[torch.Tensor]:
        features = self._encode(image)
        if self.complementarity is not None:
            features[-1] = self.complementarity(features[-1])
        return features

    def _encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            self.check_patch_size(image.shape[2:])
        return self.encoder(image)
