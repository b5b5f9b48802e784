# SPDX-License-Identifier: Apache-2.0
"""Public data sets from their official download to a folder to train on."""

from .crop_around_labeld import CropAroundLabeld
from .crop_short_axisd import CropShortAxisd
from .crop_to_boxd import CropToBoxd
from .data_set import DataSet, Form, ImportedCase, RawCase, Recipe
from .keep_stored_axesd import KeepStoredAxesd
from .normalize_above_minimumd import NormalizeAboveMinimumd
from .prepare_folder import prepare_folder
from .published_split import load_split, published_splits, restrict_split
from .registry import DATA_SETS, find_data_set
from .resample_to_spacingd import ResampleToSpacingd
from .zoom_to_sized import ZoomToSized
