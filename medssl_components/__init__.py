# SPDX-License-Identifier: Apache-2.0
"""Semi-supervised segmentation of 3-D medical images: networks, losses, operators, methods and the engine for them."""

from . import data, engines, losses, methods, metrics, networks, ops

__version__ = "0.1.0"
