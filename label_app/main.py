# SPDX-License-Identifier: Apache-2.0
"""A MONAI Label app for the bundles of this repository: the stock app, and the study next to label by uncertainty."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from torchvision_without_kernels import import_torchvision  # noqa: E402

import_torchvision()

from monailabel.interfaces.app import MONAILabelApp  # noqa: E402
from monailabel.interfaces.tasks.scoring import ScoringMethod  # noqa: E402
from monailabel.interfaces.tasks.strategy import Strategy  # noqa: E402
from uncertainty import LeastCertain, UncertaintyScoring  # noqa: E402


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
