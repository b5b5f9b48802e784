# SPDX-License-Identifier: Apache-2.0
"""Small weights and a packed bundle that several tests look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from medssl_components.packaging import Packed, Weights, pack_bundle

ROOT = Path(__file__).resolve().parents[2]
TINY = {"patch_size": [16, 16, 16], "spacing": [2.0, 2.0, 2.5], "num_classes": 3, "network_def::base_channels": 2}


def _tiny_weights(bundle: str, folder: Path) -> tuple[Path, Path]:
    overlay, weights = folder / "tiny.json", folder / "model.pt"
    folder.mkdir(parents=True, exist_ok=True)
    overlay.write_text(json.dumps({**TINY, "class_names": ["background", "liver", "spleen"]}))
    config = [str(ROOT / "bundles" / bundle / "configs" / "inference.json"), str(overlay)]
    parser = ConfigParser(config=ConfigParser.load_config_files(config))
    torch.manual_seed(0)
    torch.save(parser.get_parsed_content("network_def").state_dict(), weights)
    return overlay, weights


@pytest.fixture(scope="session")
def tiny_weights() -> Callable[[str, Path], tuple[Path, Path]]:
    """Return a function `tiny_weights(bundle, folder)` that writes an overlay of three classes, and weights for it."""
    return _tiny_weights


@pytest.fixture(scope="session")
def packed(tmp_path_factory) -> Packed:
    """Return `supervised`, packed with an overlay and weights; tests only read it."""
    folder = tmp_path_factory.mktemp("packed")
    overlay, weights = _tiny_weights("supervised", folder / "training")
    return pack_bundle("supervised", folder / "dist", overlay, Weights(weights))
