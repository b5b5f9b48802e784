# SPDX-License-Identifier: Apache-2.0
"""A structure of a scan that may be labelled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Layer(NamedTuple):
    """A structure that covers those before it.

    `distance` is that to its surface, negative inside; `label` is the class of its voxels, None leaves what is there.
    """

    distance: np.ndarray
    value: float
    label: int | None = 0
