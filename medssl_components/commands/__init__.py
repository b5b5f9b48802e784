# SPDX-License-Identifier: Apache-2.0
"""What `python -m medssl_components` can do, one command a file."""

from .demo import demo
from .prepare import prepare
