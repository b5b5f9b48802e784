# SPDX-License-Identifier: Apache-2.0
"""From what is known of a folder to an overlay for a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .choose_augmentation import choose_augmentation
from .choose_intensity import choose_intensity
from .choose_patch import choose_patch
from .choose_spacing import choose_grid
from .find_anomalies import find_anomalies
from .fingerprint import Fingerprint
from .step_memory import voxels_in_memory

ITERATIONS_PER_EPOCH = 100  # of all overlays in the repository


class Plan(NamedTuple):
    """The `overlay` for a bundle, for each choice what it is and `reasons` for it, and the folder's `anomalies`."""

    overlay: dict[str, Any]
    reasons: dict[str, str]
    anomalies: list[str]


def plan_overlay(
    fingerprint: Fingerprint,
    bundle: Mapping[str, Any],
    divisor: Sequence[int],
    own_ids: Sequence[str] = (),
    memory: float = 1.0,
    iterations: int = 3000,
    modality: str = "auto",
    labeled: str | int | Sequence[str] = "all",
    split: str = "auto",
    learning_rate: float = 0.1,
    small_patch: int = 2**16,
) -> Plan:
    """Choose what differs between data sets; all else stays as the bundle has it.

    Voxel size, patch and intensities follow nnU-Net's rules but for what :func:`choose_grid`, :func:`choose_patch` and
    :func:`choose_intensity` say. Batch, network, optimiser and schedule are the bundle's. With several objects the
    learning rate is `learning_rate`, and a small patch has no dropout: with the bundles' 0.01 and 0.5 on patches of
    32 x 48 x 32 one of two classes of the hippocampus was still missing after 300 steps.

    Args:
        fingerprint: of the folder.
        bundle: what its train.json holds.
        divisor: total stride of the bundle's network along each axis.
        own_ids: further ids that the bundle's overlays set; they get the values of train.json.
        memory: GB that a training step may take, see :func:`voxels_in_memory`.
        iterations: length of the training.
        modality: as in :func:`choose_intensity`.
        labeled: whose labels to use, as the fingerprint was taken.
        split: the split, as the fingerprint was taken; "auto" is left out of the overlay.
        learning_rate: at the first step, if there are two objects or more.
        small_patch: a patch of fewer voxels has no dropout.

    Raises:
        DataError: for an option that cannot be.
    """
    voxels = voxels_in_memory(memory, sum(bundle["batch_size"].values()))

    def fit_patch(shape: Sequence[float], spacing: Sequence[float]) -> tuple[int, ...]:
        return choose_patch(shape, spacing, divisor, voxels)

    intensity = choose_intensity(fingerprint, modality)
    grid = choose_grid(fingerprint, fit_patch)
    augmentation = choose_augmentation(fingerprint.class_names, grid.spacing, grid.patch_size)
    several, small = fingerprint.num_classes > 2, np.prod(grid.patch_size) < small_patch
    overlay = {
        "in_channels": fingerprint.in_channels,
        "num_classes": fingerprint.num_classes,
        "class_names": list(fingerprint.class_names),
        "spacing": list(grid.spacing),
        "intensity": intensity.transforms,
        "augmentation": augmentation.transforms,
        "patch_size": list(grid.patch_size),
        "dropout": 0.0 if small else bundle["dropout"],
        "batch_size": bundle["batch_size"],
        "max_epochs": -(-iterations // ITERATIONS_PER_EPOCH),
        "iterations_per_epoch": min(iterations, ITERATIONS_PER_EPOCH),
        "learning_rate": learning_rate if several else bundle["learning_rate"],
        "labeled": labeled,
    }
    overlay.update({key: bundle[key] for key in own_ids if key not in overlay})
    if split != "auto":
        overlay["split"] = split
    shape = np.median(fingerprint.spacings * fingerprint.shapes, axis=0) / grid.spacing
    reasons = {
        "spacing": f"{' x '.join(f'{side:g}' for side in grid.spacing)} mm: {grid.why}",
        "intensity": f"{intensity.what}; {intensity.why}",
        "augmentation": augmentation.why,
        "patch_size": f"{' x '.join(map(str, grid.patch_size))} voxels of a usual scan's "
        f"{' x '.join(f'{side:.0f}' for side in shape)}: near a cube in mm, multiples of "
        f"{', '.join(map(str, divisor))}, {memory:g} GB a step of supervised",
        "dropout": f"{overlay['dropout']:g}: " + ("none on a patch as small" if small else "the bundle's"),
        "learning_rate": f"{overlay['learning_rate']:g}: {'several objects' if several else 'one object'}",
        "max_epochs": f"{overlay['max_epochs']} of {overlay['iterations_per_epoch']} steps",
    }
    anomalies = find_anomalies(fingerprint, intensity.modality, grid.patch_size, grid.spacing)
    return Plan(overlay, reasons, anomalies)
