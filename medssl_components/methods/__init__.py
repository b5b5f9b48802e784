# SPDX-License-Identifier: Apache-2.0
"""Training methods, one file each: modules whose forward pass returns the loss to minimise."""

from .supervised import Supervised
