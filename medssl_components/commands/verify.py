# SPDX-License-Identifier: Apache-2.0
"""Whether a packed bundle is whole."""

from __future__ import annotations

import logging
from pathlib import Path

from ..packaging import verify_bundle

logger = logging.getLogger("medssl")


def verify(path: str) -> None:
    """Check a packed bundle without running any of it: hashes, paths, and weights that are nothing but tensors.

    This finds damage, not malice: the configs of a bundle are code, which MONAI runs, so take bundles from those whom
    you trust.

    Args:
        path: a packed bundle's folder or zip.

    Raises:
        DataError: with the first thing that is wrong.
    """
    found = verify_bundle(Path(str(path)))
    logger.info("%s %s: %d files as they were packed", found.name, found.version, found.files)
    logger.info("  weights: %s", ", ".join(found.weights) or "none")
    if found.elsewhere:
        logger.info("  not here: %s; python -m monai.bundle download_large_files gets it", ", ".join(found.elsewhere))
    logger.info("  its configs are code: use it if you trust its source")
