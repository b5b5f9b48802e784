# SPDX-License-Identifier: Apache-2.0
"""From a bundle of this repository to one that a stranger can check and run, as a folder and as a zip."""

from .bake_overlay import bake_overlay
from .bundle_source import REPOSITORY, BundleSource, bundle_folder, open_bundle
from .check_weights import check_weights, fit_weights, read_weights
from .checksums import read_checksums, write_checksums
from .describe_network import describe_network
from .json_text import json_text
from .large_files import LargeFile, read_large_files, write_large_files
from .pack_bundle import Packed, Weights, pack_bundle
from .packed_readme import PackedReadme
from .safe_path import safe_path
from .vendored_package import VendoredPackage, vendored_package
from .verify_bundle import Verified, verify_bundle
from .zip_files import write_zip
