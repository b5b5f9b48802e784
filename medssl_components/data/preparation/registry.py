# SPDX-License-Identifier: Apache-2.0
"""The data sets that can be prepared."""

from __future__ import annotations

from ..errors import DataError
from .amos import AMOS
from .brats2019 import BRATS2019
from .data_set import DataSet
from .la import LA
from .mmwhs import MMWHS
from .mnms import MNMS
from .pancreas_ct import PANCREAS_CT
from .synapse import SYNAPSE

DATA_SETS = {data_set.name: data_set for data_set in (LA, PANCREAS_CT, BRATS2019, SYNAPSE, AMOS, MMWHS, MNMS)}


def find_data_set(name: str) -> DataSet:
    """Return the data set of a name.

    Raises:
        DataError: if there is none.
    """
    if name not in DATA_SETS:
        raise DataError(f"{name!r} is no data set that can be prepared; there are: {', '.join(DATA_SETS)}")
    return DATA_SETS[name]
