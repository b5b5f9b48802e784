# SPDX-License-Identifier: Apache-2.0
"""A bundle as it stands in the repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from ..data import DataError

REPOSITORY = Path(__file__).resolve().parents[2]
RUNS = ("train", "evaluate", "inference")
CONFIGS = ("metadata", *RUNS, *(f"multi_gpu_{name}" for name in RUNS))
OTHERS = ("LICENSE", "configs/logging.conf", "docs/README.md", "docs/data_license.txt")
WRITTEN_BY_SERVERS = {"monailabel_train.json"}


class BundleSource(NamedTuple):
    """The `name` of a bundle and its `files` by their path in it: configs, documents and licences, no weights."""

    name: str
    files: dict[str, bytes]

    def config(self, name: str) -> dict[str, Any]:
        """Return the content of `configs/<name>.json`."""
        return json.loads(self.files[f"configs/{name}.json"])


def bundle_folder(bundle: str) -> Path:
    """Return the folder of a bundle.

    Args:
        bundle: name of a folder in `bundles/`, or the path of a bundle's folder.

    Raises:
        DataError: if there is no such bundle.
    """
    own = REPOSITORY / "bundles" / bundle
    for folder in (own, Path(bundle)):
        if (folder / "configs").is_dir():
            return folder
    known = ", ".join(sorted(path.parent.name for path in REPOSITORY.glob("bundles/*/configs")))
    raise DataError(f"no bundle {bundle!r} in {own.parent}; there are: {known or 'none, use a clone'}")


def open_bundle(bundle: str) -> BundleSource:
    """Read a bundle.

    Args:
        bundle: name of a folder in `bundles/`, or the path of a bundle's folder.

    Raises:
        DataError: if there is no such bundle, or a file of it is missing.
    """
    root = bundle_folder(bundle)
    paths = [root / "LICENSE", *root.glob("configs/**/*.json"), root / "configs/logging.conf", *root.glob("docs/**/*")]
    files = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in paths
        if path.is_file() and not path.name.startswith(".") and path.name not in WRITTEN_BY_SERVERS
    }
    for name in (*OTHERS, *(f"configs/{name}.json" for name in CONFIGS)):
        if name not in files:
            raise DataError(f"{root / name}: not there; a bundle of the zoo has it")
    return BundleSource(root.resolve().name, files)
