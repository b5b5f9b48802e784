# SPDX-License-Identifier: Apache-2.0
"""Which unlabelled study to label next: the one whose prediction is the least certain."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from monai.transforms import SaveImaged
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.tasks.infer.bundle import BundleInferTask

SCORE = "uncertainty"
VERSION = "uncertainty_model_time"
logger = logging.getLogger(__name__)


class UncertaintyScoring(ScoringMethod):
    """Score every unlabelled study by the mean of the bundle's map of uncertainty, once for each version of the model.

    Args:
        path: folder of the bundle, with its weights.
        conf: settings of the server.
        kind: the bundle's option `uncertainty`: "entropy", or "disagreement" where the network predicts more than once.
    """

    def __init__(self, path: str, conf: dict[str, str], kind: str = "entropy") -> None:
        super().__init__(f"mean {kind} of the prediction")
        # saved is nothing, and the map stays on the grid of the scan, where its mean needs no reference
        self.task = BundleInferTask(path, conf, post_filter=[SaveImaged], add_post_restore=False, skip_writer=True)
        if self.task.is_valid():
            self.task.bundle_config["uncertainty"] = kind  # as an item, so that what was resolved before is forgotten

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score what has no score of the present weights, and say how many that were.

        Args:
            request: "device" if it is not the default one.
            datastore: the studies; each keeps its score in its information.
        """
        start = time.time()
        version = int(Path(self.task.get_path()).stat().st_mtime)
        images = datastore.get_unlabeled_images()
        new = [image for image in images if datastore.get_image_info(image).get(VERSION) != version]
        for image in new:
            asked = {"image": datastore.get_image_uri(image), "logging": "error", "cache_transforms": False}
            _, data = self.task({**asked, **{key: request[key] for key in ("device",) if key in request}})
            score = float(data["uncertainty"].mean())
            datastore.update_image_info(image, {SCORE: score, VERSION: version})
            logger.info(f"{image}: uncertainty {score:.4f}")
        seconds = round(time.time() - start, 3)
        return {"total": len(images), "skipped": len(images) - len(new), "executed": len(new), "latency": seconds}


class LeastCertain(Strategy):
    """Choose the unlabelled study with the largest score; one without a score comes before all that have one."""

    def __init__(self) -> None:
        super().__init__("the study whose prediction is the least certain")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Return the study's id, or None if all are labelled."""
        images = datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels"))
        scores = {image: datastore.get_image_info(image).get(SCORE, float("inf")) for image in sorted(images)}
        if not scores:
            return None
        image = max(scores, key=lambda name: scores[name])
        logger.info(f"{image}: the least certain of {len(scores)} studies, uncertainty {scores[image]:.4f}")
        return {"id": image}
