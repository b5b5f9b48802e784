# SPDX-License-Identifier: Apache-2.0
"""From a folder of scans to batches of labelled and unlabelled patches."""

from .case_dataset import CaseDataset
from .case_folder import CaseFolder
from .case_list import CaseList
from .case_names import CaseNameFormatter, case_name, group_channels, image_entry, is_volume, stem, volumes_in
from .check_cases import check_case, check_cases, warn_if_built_in
from .check_disjoint import check_disjoint
from .check_outputs import check_outputs
from .class_names import class_names
from .count_classes import count_classes
from .errors import DataError
from .file_hash import hash_of, sha256_of
from .flag import flag
from .header import Header, read_header
from .inference_cases import inference_cases
from .load_cased import LoadCased
from .shift_domaind import ShiftDomaind
from .spacing_onlyd import SpacingOnlyd
from .split_file import SplitFile, find_split, read_split
from .synthetic import synthetic_folder
from .two_stream_loader import Draw, TwoStreamLoader, collate_streams, draw_epoch
from .unlabeled_cases import unlabeled_cases
