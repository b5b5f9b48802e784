# SPDX-License-Identifier: Apache-2.0
"""What runs a method, from the first check to the table of scores."""

from .atomic_save import atomic_path, atomic_save
from .bundle_config import check_options, check_settings, find_bundle_root, resolved_settings
from .lazy_summary_writer import LazySummaryWriter
from .precision import autocast, resolve_precision
from .probability_inferer import ProbabilityInferer
from .progress_log import ProgressLog
from .publish_model import PublishModel
from .resume_checkpoint import ResumeCheckpoint
from .run_folder import run_folder
from .score_table import ScoreTable
from .semi_supervised_trainer import SemiSupervisedTrainer
from .share_of_cases import share_of_cases
from .shared_statistics import average_statistics, sync_batchnorm
from .signed_distance_mapd import SignedDistanceMapd
from .slice_figures import SliceFigures, cases_figure, on_label_grid, slice_figure
from .start_processes import start_processes, stop_processes
from .uncertainty_mapd import UncertaintyMapd, uncertainty_kind
from .user_errors import one_line_errors, user_error_line
