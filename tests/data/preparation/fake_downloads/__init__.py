# SPDX-License-Identifier: Apache-2.0
"""Small trees that look like the downloads, a module for each data set: `download(source, cases)` writes one.

Their labels are such that no flip and no transposition leaves them as they are, and that no two cases have the same.
Tests have the package from the fixture `fake_downloads`.
"""

from . import amos, brats2019, la, mmwhs, mnms, pancreas_ct, synapse, volumes
