# SPDX-License-Identifier: Apache-2.0
"""From a bundle of this repository to one to share."""

from __future__ import annotations

import logging
from pathlib import Path

from ..data import flag
from ..packaging import Weights, pack_bundle

LARGE = 25  # MB, the zoo's limit for a file in its repository
logger = logging.getLogger("medssl")


def pack(
    bundle: str,
    overlay: str = "",
    weights: str = "",
    weights_url: str = "",
    weights_hash: str = "",
    name: str = "",
    output: str = "dist",
    overwrite: bool | str = False,
) -> None:
    """Make a self-contained copy of a bundle, as a folder and as a zip, that runs without this repository.

    docs/share.md says what is in it and how it gets into MONAI's model zoo or behind MONAI Label.

    Args:
        bundle: name of a folder in bundles/, or the path of a bundle's folder.
        overlay: a JSON file that becomes part of train.json and inference.json, such as one of configs/datasets/.
        weights: a model.pt to go with it; settings.json beside it is heeded.
        weights_url: where the weights can be downloaded; the folder then has large_files.yml in place of them.
        weights_hash: SHA-256 of the weights at that address, if they are not given as a file.
        name: another name for the bundle; the zoo wants organ or task in it.
        output: folder to write to.
        overwrite: true to replace an earlier copy.

    Raises:
        DataError: for whatever is wrong with the options or the files.
    """
    file = Path(str(weights)) if weights else None
    packed = pack_bundle(
        str(bundle),
        Path(str(output)),
        Path(str(overlay)) if overlay else None,
        Weights(file, str(weights_url), str(weights_hash)),
        str(name),
        flag(overwrite, "overwrite"),
    )
    logger.info("wrote %s and %s", packed.folder, packed.archive)
    logger.info("  code: medssl_components %s", packed.version)
    logger.info("  settings: %s", ", ".join(("train.json", *packed.overlays)))
    logger.info("  weights: %s", file or weights_url or "none; --weights FILE adds them")
    if file is not None and not weights_url and file.stat().st_size > LARGE * 10**6:
        logger.info("  the zoo takes no file over %d MB: put the weights elsewhere and give --weights_url", LARGE)
