# SPDX-License-Identifier: Apache-2.0
"""From a folder of scans to the settings of a training on it."""

from .case_facts import CaseFacts, read_case_facts
from .choose_augmentation import Augmentation, choose_augmentation
from .choose_intensity import MODALITIES, Intensity, check_modality, choose_intensity, looks_like_ct
from .choose_patch import choose_patch
from .choose_spacing import Grid, choose_grid, usual_spacing
from .dataset_json import DatasetJson, count_channels, is_ct, read_dataset_json
from .describe_fingerprint import describe_fingerprint
from .find_anomalies import find_anomalies
from .fingerprint import Fingerprint, take_fingerprint
from .plan_overlay import Plan, plan_overlay
from .step_memory import voxels_in_memory
