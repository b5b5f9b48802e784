# SPDX-License-Identifier: Apache-2.0
"""What the metadata says of a network's input and output, when a config has been given other settings."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any


def describe_network(metadata: dict[str, Any], config: dict[str, Any], class_names: Sequence[str] | Any) -> dict:
    """Return the metadata of a bundle with the channels, classes and sizes of a config.

    Sides that metadata give as a rule, such as `16*n`, hold for any patch and stay.

    Args:
        metadata: the content of `metadata.json`, which is not changed.
        config: the content of `inference.json`.
        class_names: one name for each class, the background first; anything else, such as an expression, stands for
            `class_1`, `class_2`, ...
    """
    metadata = copy.deepcopy(metadata)
    channels, classes = config["in_channels"], config["num_classes"]
    if not isinstance(class_names, (list, tuple)) or len(class_names) != classes:
        class_names = ["background", *(f"class_{number}" for number in range(1, classes))]
    image = metadata["network_data_format"]["inputs"]["image"]
    pred = metadata["network_data_format"]["outputs"]["pred"]
    image["num_channels"], pred["num_channels"] = channels, classes
    names = ["image"] if channels == 1 else [f"channel_{number}" for number in range(channels)]
    image["channel_def"] = {str(number): name for number, name in enumerate(names)}
    pred["channel_def"] = {str(number): name for number, name in enumerate(class_names)}
    for tensor in (image, pred):
        if all(isinstance(side, int) for side in tensor["spatial_shape"]):
            tensor["spatial_shape"] = list(config["patch_size"])
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(class_names))
    metadata["label_classes"] = f"class indices: {listed}"
    metadata["pred_classes"] = f"{classes} channels: {listed}"
    channels = "one channel" if channels == 1 else f"{channels} channels"
    metadata["image_classes"] = f"3-D scans with {channels}, resampled to one voxel size and normalised"
    return metadata
