# SPDX-License-Identifier: Apache-2.0
"""torchvision beside a PyTorch that its compiled part was not built for."""

from __future__ import annotations

import importlib
import sys

import torch

OPERATORS = tuple(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms"))


def import_torchvision() -> None:
    """Import torchvision, without its compiled operators where they do not load.

    MONAI Label takes grids of pictures from torchvision, which need none. A torchvision that was built for CUDA
    does not even import beside a PyTorch for the processor, as it describes operators that nobody has declared; so they
    are declared here.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in OPERATORS:
            library.define(operator)
        importlib.import_module("torchvision")
        _kept.append(library)


_kept: list[torch.library.Library] = []  # a library that is collected takes its operators with it
