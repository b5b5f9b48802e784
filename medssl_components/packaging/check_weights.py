# SPDX-License-Identifier: Apache-2.0
"""Weights that are nothing but tensors, and that fit the network of a config."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from monai.bundle import ConfigParser

from ..data import DataError

BROKEN = (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError)


def read_weights(source: str | Path | BinaryIO, where: str) -> dict[str, torch.Tensor]:
    """Load weights without running code from their file.

    Args:
        source: a file's path, or an open file.
        where: name of the file, for errors.

    Raises:
        DataError: unless it loads with `weights_only=True` and is a plain state dict.
    """
    if isinstance(source, (str, Path)) and not Path(source).is_file():
        raise DataError(f"{where}: no such file")
    try:
        weights = torch.load(source, map_location="cpu", weights_only=True)
    except BROKEN as error:
        raise DataError(f"{where}: does not load with weights_only=True; do not use it") from error
    check_weights(weights, where)
    return weights


def check_weights(weights: Any, where: str) -> None:
    """Check that weights are a plain state dict: names and tensors, without a level between them.

    Raises:
        DataError: if they are not.
    """
    pairs = weights.items() if isinstance(weights, Mapping) else [(0, None)]
    if not weights or not all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in pairs):
        raise DataError(f"{where}: is not a plain state dict of names and tensors; models/model.pt of a bundle is one")


def fit_weights(weights: Mapping[str, torch.Tensor], config: Mapping[str, Any], where: str) -> None:
    """Check that weights fit `network_def` of a config, name by name and shape by shape.

    Args:
        weights: a plain state dict.
        config: the content of `inference.json`.
        where: name of the weights' file, for the error.

    Raises:
        DataError: naming the first difference.
    """
    network = ConfigParser(config=copy.deepcopy(dict(config))).get_parsed_content("network_def")
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        reason = " ".join(first[0].split())[:200]
        raise DataError(f"{where}: does not fit network_def; give the training's --overlay. {reason}") from error
