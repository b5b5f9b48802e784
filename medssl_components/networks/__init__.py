# SPDX-License-Identifier: Apache-2.0
"""Networks: modules whose ``forward(image)`` gives one tensor of logits."""

from __future__ import annotations

from .patch_size import check_patch_size
from .vnet import VNet, VNetDecoder, VNetEncoder

__all__ = ["VNet", "VNetDecoder", "VNetEncoder", "check_patch_size"]
