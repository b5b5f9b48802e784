# SPDX-License-Identifier: Apache-2.0
"""A MONAI Label app for the bundles of this repository: the stock app, and the study to label next by uncertainty."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from torchvision_without_kernels import import_torchvision  # noqa: E402

import_torchvision()

from fastapi import HTTPException  # noqa: E402
from monailabel.interfaces.app import MONAILabelApp  # noqa: E402
from monailabel.interfaces.tasks.scoring import ScoringMethod  # noqa: E402
from monailabel.interfaces.tasks.strategy import Strategy  # noqa: E402
from uncertainty import LeastCertain, UncertaintyScoring  # noqa: E402

from medssl_components.engines import user_error_line  # noqa: E402

logger = logging.getLogger(__name__)


def stock_app() -> ModuleType:
    """Return MONAI Label's own app for bundles, which its wheel puts beside the environment's programs.

    Raises:
        FileNotFoundError: if it is not there.
    """
    path = Path(sys.prefix) / "monailabel" / "sample-apps" / "monaibundle" / "main.py"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: MONAI Label's app for bundles is not there; install monailabel with pip")
    spec = importlib.util.spec_from_file_location("monailabel_stock_app", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class MyApp(stock_app().MyApp, MONAILabelApp):  # the server takes a class with MONAILabelApp itself among its bases
    """The stock app with the scoring method `uncertainty` for each bundle and the strategy `least_certain`.

    Args:
        app_dir: this folder; its `model/` has the bundles.
        studies: folder or address of the scans.
        conf: settings of the server: those of the stock app, and "uncertainty", the kind of map, "entropy" by default.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        # neither of the two is on this machine before it is fetched, so a server that is offline would not start
        super().__init__(app_dir, studies, {"zoo_source": "local", "sam2": "false", **conf})

    def train(self, request: dict[str, Any]) -> dict[str, Any]:
        """Train a bundle; what the request does not say of the bundle's `displayable_configs` is as the bundle has it.

        The stock app stops at a request that lacks one of them.

        Raises:
            HTTPException: with the one line of an error in the user's data or options.
        """
        task = self._trainers.get(request.get("model"))
        shown = "displayable_configs"
        own = task.bundle_config.get_parsed_content(shown) if task and shown in task.bundle_config.config else {}
        try:
            return super().train({**own, **request})
        except Exception as error:
            line = user_error_line(error)
            if line is None:
                raise
            logger.error(line)
            raise HTTPException(status_code=400, detail=line) from error

    def init_strategies(self) -> dict[str, Strategy]:
        """Return the stock strategies and `least_certain`."""
        return {**super().init_strategies(), "least_certain": LeastCertain()}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """Return the stock scoring methods and one for each bundle with weights, `BUNDLE_uncertainty`."""
        kind = self.conf.get("uncertainty", "entropy")
        own = {
            f"{name}_uncertainty": UncertaintyScoring(path, self.conf, kind)
            for name, path in self.models.items()
            if os.path.isfile(os.path.join(path, "models", "model.pt"))
        }
        return {**super().init_scoring_methods(), **own}
