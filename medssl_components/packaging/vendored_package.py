# SPDX-License-Identifier: Apache-2.0
"""The copy of this package that a bundle carries, and the module by which it notices another copy."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from .. import __version__

PACKAGE = Path(__file__).resolve().parents[1]
SUFFIXES = (".py", ".json")
DIGITS = 12
VERSION_LINE = re.compile(r'^__version__ = ".*"$', re.MULTILINE)
CHECK = '''# SPDX-License-Identifier: Apache-2.0
"""Says in one line if this bundle runs with another copy of medssl_components than the one beside this file.

The configs import it. A process keeps the first copy that it imports, for all the bundles that it serves.
"""

import logging
from pathlib import Path

import medssl_components

PACKED = "{version}"
loaded = medssl_components.__version__
if loaded != PACKED:
    logging.getLogger("medssl").warning(
        "the bundle in %s was packed with medssl_components %s, but %s is loaded, from %s: run it in another process",
        Path(__file__).resolve().parent,
        PACKED,
        loaded,
        Path(medssl_components.__file__).parent,
    )
'''


class VendoredPackage(NamedTuple):
    """`files` by their path in the bundle, the `version` with a digest of them, and the `module` that checks it."""

    files: dict[str, bytes]
    version: str
    module: str


def vendored_package(package: Path = PACKAGE) -> VendoredPackage:
    """Collect this package's files for a bundle.

    The copy's `__version__` is the package's with a digest of all files behind a `+`, so two copies have the same
    version if and only if they are the same.

    Args:
        package: the package's folder.
    """
    paths = sorted(path for path in package.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    files = {f"{package.name}/{path.relative_to(package).as_posix()}": path.read_bytes() for path in paths}
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    digits = digest.hexdigest()[:DIGITS]
    version, module = f"{__version__.split('+')[0]}+{digits}", f"medssl_copy_{digits}"
    first = f"{package.name}/__init__.py"
    text = VERSION_LINE.sub(f'__version__ = "{version}"', files[first].decode(), count=1)
    files[first] = text.encode()
    files[f"{module}.py"] = CHECK.format(version=version).encode()
    return VendoredPackage(files, version, module)
