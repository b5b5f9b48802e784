# SPDX-License-Identifier: Apache-2.0
"""Whether a label lies on the tissue it marks."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

from ..errors import DataError


def tissue_share(image: np.ndarray, label: np.ndarray, low: float, high: float) -> dict[tuple[bool, bool, bool], float]:
    """Return for the label as it is, and for its seven flips, the share of its voxels whose image value is tissue.

    Args:
        image: (X, Y, Z).
        label: (X, Y, Z), of any classes.
        low: least value of tissue.
        high: greatest value of tissue.

    Returns:
        For every combination of axes, flipped or not, the share from 0 to 1; empty if the label is.
    """
    voxels = np.argwhere(label)
    if not len(voxels):
        return {}
    last = np.array(label.shape) - 1
    shares = {}
    for flips in product((False, True), repeat=label.ndim):
        values = image[tuple(np.where(flips, last - voxels, voxels).T)]
        shares[flips] = float(((low <= values) & (values <= high)).mean())
    return shares


def check_place(image: np.ndarray, label: np.ndarray, path: Path, low: float, high: float) -> float | None:
    """Return the share of the label's voxels that are tissue, which every flip of the label has to have less of.

    Args:
        image: (X, Y, Z).
        label: (X, Y, Z).
        path: the label's file, for the message.
        low: least value of tissue.
        high: greatest value of tissue.

    Raises:
        DataError: if a flipped label lies on as much tissue, or more.
    """
    shares = tissue_share(image, label, low, high)
    if not shares:
        return None
    own = shares.pop((False, False, False))
    flips, best = max(shares.items(), key=lambda pair: pair[1])
    if own <= best:
        axes = ", ".join(name for name, flipped in zip("xyz", flips, strict=True) if flipped)
        raise DataError(
            f"{path}: {own:.1%} of its voxels lie on soft tissue as it is, {best:.1%} if it were flipped along {axes}; "
            "it does not fit the image, copy both again"
        )
    return own
