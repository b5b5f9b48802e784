# SPDX-License-Identifier: Apache-2.0
"""Training methods, one file each: modules whose forward pass returns the loss to minimise."""

from .dbisl import DBiSL
from .diverse_teachers import DiverseTeachers, Teaching
from .dtlp import DTLP
from .mean_teacher import MeanTeacher
from .moving_average import MovingAverage
from .skcdf import SKCDF
from .supervised import Supervised
from .ugpl import UGPL
