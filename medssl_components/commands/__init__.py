# SPDX-License-Identifier: Apache-2.0
"""What `python -m medssl_components` can do, one command a file."""

from .demo import demo
from .pack import pack
from .plan import plan
from .prepare import prepare
from .verify import verify
