# SPDX-License-Identifier: Apache-2.0
"""A bundle's README as it reads from the bundle's own folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]*)\]\((?:\.\./){2,}([^)]*)\)")
ROW = re.compile(r"^\| `(\w+)` \| (.*) \| (.*) \|$", re.MULTILINE)
SMALL_RUN = "`train.json` by itself is a small run on the synthetic scans."
NO_WEIGHTS = "The actual model was not trained: no weights come with the bundle."
IN_REPOSITORY = "` in the repository"
OF_README = ", as the repository's README describes it."
OF_FOLDER = "; a scan in `imagesTr/` without a label of its name in `labelsTr/` is an unlabelled scan."


@dataclass
class PackedReadme:
    """What a packed bundle's README says that the repository's does not.

    Args:
        bundle: name of the bundle's folder in the repository.
        version: of the package that is packed.
        metadata: the content of `metadata.json`.
        overlays: names of the files whose settings are baked in.
        changed: the top-level ids that they set, with their new defaults.
        weights: one sentence on where the weights are, or nothing if there are none.
    """

    bundle: str
    version: str
    metadata: Mapping[str, Any]
    overlays: tuple[str, ...] = ()
    changed: Mapping[str, Any] | None = None
    weights: str = ""

    def rewrite(self, text: str) -> str:
        """Return the README: paths from the bundle's folder, the baked defaults, and a section on this copy."""
        text = text.replace(
            f"`bundles/{self.bundle}` under the working directory, or the working directory itself",
            "the working directory, if that is this folder",
        )
        text = text.replace(f"bundles/{self.bundle}/", "")
        text = text.replace(f"--bundle_root bundles/{self.bundle}", "--bundle_root .")
        text = text.replace("given from the repository root;", "given from this folder, the one with `configs/`;")
        text = text.replace(OF_README, OF_FOLDER)
        text = OUTSIDE.sub(r"\1: `\2` in the repository", text)
        text = text.replace(IN_REPOSITORY, f"{IN_REPOSITORY} of medssl_components")
        if self.overlays:
            text = text.replace(SMALL_RUN, f"`train.json` and `inference.json` have the settings of {self._settings}.")
        if self.weights:
            text = text.replace(NO_WEIGHTS, self.weights)
        text = ROW.sub(self._row, text)
        return text.replace("\n# Data\n", f"\n{self._section()}\n# Data\n", 1)

    @property
    def _settings(self) -> str:
        return " and ".join(f"`{name}`" for name in self.overlays)

    def _row(self, match: re.Match) -> str:
        key, meaning, default = match.groups()
        if self.changed is not None and key in self.changed:
            value = self.changed[key]
            default = "see `configs/`" if isinstance(value, dict) else f"`{json.dumps(value)}`"
        return f"| `{key}` | {meaning} | {default} |"

    def _section(self) -> str:
        own = {"torch": "pytorch_version", "monai": "monai_version", "numpy": "numpy_version"}
        pins = {name: self.metadata[key] for name, key in own.items()}
        pins.update(self.metadata["required_packages_version"])
        packages = " ".join(f"{name}=={version}" for name, version in pins.items())
        settings = f" with the settings of {self._settings}," if self.overlays else ""
        return "\n".join(
            [
                "# This copy",
                "",
                f"The bundle `{self.bundle}`, version {self.metadata['version']},{settings} packed with its code,"
                f" `medssl_components` {self.version}. {self.weights or 'No weights are in it.'}",
                "",
                "```bash",
                f"pip install {packages}",
                "python -m medssl_components verify .",
                "```",
                "",
                "The second command compares the files with `SHA256SUMS` and loads the weights without running code.",
                "That finds damage, not malice: a bundle's configs are code that MONAI runs, so take a bundle from a",
                "source that you trust.",
                "",
            ]
        )
