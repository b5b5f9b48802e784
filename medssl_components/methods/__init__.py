# SPDX-License-Identifier: Apache-2.0
"""Training methods, one file each: modules whose forward pass returns the loss to minimise."""

from .dbisl import DBiSL
from .mean_teacher import MeanTeacher
from .supervised import Supervised
