# SPDX-License-Identifier: Apache-2.0
"""Whether scans are CT, and what is done to their intensities."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError
from .case_facts import CaseFacts
from .dataset_json import is_ct
from .fingerprint import Fingerprint

MODALITIES = ("auto", "ct", "mr")


class Intensity(NamedTuple):
    """The `modality` ("ct" or "mr"), the block of `transforms` for it, and in words what it does and why."""

    modality: str
    transforms: dict[str, Any]
    what: str
    why: str


def choose_intensity(
    fingerprint: Fingerprint,
    modality: str = "auto",
    ct_share: float = 0.9,
    nonzero_below: float = 0.75,
) -> Intensity:
    """Choose between Hounsfield units, which mean the same in all scans, and a scale of each scan's own.

    CT is clipped to the 0.5 and 99.5 percentiles of the labelled foreground, then its mean is subtracted and the result
    divided by its standard deviation. Any other scan has its own mean and standard deviation, of each channel; of the
    voxels that are not 0 alone if the box of these is a small part of the scan. These are the rules of nnU-Net (Isensee
    et al., Nature Methods 2021, https://doi.org/10.1038/s41592-020-01008-z).

    Differences from nnU-Net: without a name in `dataset.json` the values tell whether it is CT, where nnU-Net needs the
    name; channels of which some are CT and some are not are all normalised by their own mean; nothing is cropped to the
    voxels that are not 0; several channels of CT are clipped to one range, that of the widest.

    Args:
        fingerprint: of the folder.
        modality: "ct", "mr" (anything that is not CT), or "auto": by the names of `dataset.json`, else by the values.
        ct_share: the values tell CT if this share of the cases looks like Hounsfield units in every channel.
        nonzero_below: the background of 0 is left out if the median box of other voxels has a smaller share.

    Raises:
        DataError: for another word.
    """
    check_modality(modality)
    modality, why = (modality, "as given") if modality != "auto" else _recognise(fingerprint, ct_share)
    return _ct(fingerprint, why) if modality == "ct" else _mr(fingerprint, why, nonzero_below)


def check_modality(modality: str) -> None:
    """Raise a `DataError` unless it is a word that :func:`choose_intensity` knows."""
    if modality not in MODALITIES:
        raise DataError(f"modality is {modality!r}; give {', '.join(MODALITIES)}")


def looks_like_ct(case: CaseFacts, air: tuple[float, float] = (-4100.0, -200.0), metal: float = 32000.0) -> bool:
    """Say whether a scan's values can be Hounsfield units: its darkest voxels are air, or at least fat.

    Args:
        case: what was noted of the scan.
        air: where the 0.5 percentile of every channel has to be; scanners write down to -4096 outside their field.
        metal: the most that the 99.5 percentile may be.
    """
    low, high = case.percentiles[:, 0], case.percentiles[:, 1]
    return bool(((low >= air[0]) & (low <= air[1]) & (high <= metal)).all())


def _recognise(fingerprint: Fingerprint, ct_share: float) -> tuple[str, str]:
    if fingerprint.channels:
        named = ", ".join(fingerprint.channels)
        kinds = [is_ct(channel) for channel in fingerprint.channels]
        if any(kinds) and not all(kinds):
            return "mr", f"dataset.json names the channels {named}, of which not all are CT"
        return "ct" if all(kinds) else "mr", f"dataset.json names the channels {named}"
    number, total = sum(map(looks_like_ct, fingerprint.cases)), len(fingerprint.cases)
    lowest = np.median([case.percentiles[:, 0].max() for case in fingerprint.cases])
    values = f"in {number} of {total} scans the darkest voxels have values of air or fat in Hounsfield units"
    return "ct" if number >= ct_share * total else "mr", f"{values}; the median 0.5 percentile is {lowest:.4g}"


def _ct(fingerprint: Fingerprint, why: str) -> Intensity:
    values = fingerprint.foreground.astype(np.float64)
    low = round(float(fingerprint.foreground_percentiles[:, 0].min()), 2)
    high = round(float(fingerprint.foreground_percentiles[:, -1].max()), 2)
    mean = [round(float(value), 2) for value in values.mean(axis=1)]
    deviation = [max(round(float(value), 2), 0.01) for value in values.std(axis=1)]
    clip = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": low, "a_max": high}
    scale = {"_target_": "NormalizeIntensityd", "keys": "image", "subtrahend": mean, "divisor": deviation}
    transforms = {
        "_target_": "Compose",
        "transforms": [{**clip, "b_min": low, "b_max": high, "clip": True}, {**scale, "channel_wise": True}],
    }
    numbers = f"mean {_list(mean)} and standard deviation {_list(deviation)}"
    return Intensity("ct", transforms, f"CT: clipped to {low:g} .. {high:g}, then {numbers} of the foreground", why)


def _mr(fingerprint: Fingerprint, why: str, nonzero_below: float) -> Intensity:
    scale: dict[str, Any] = {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True}
    what = "not CT: each channel by its own mean and standard deviation"
    share = float(np.median([case.nonzero_share for case in fingerprint.cases]))
    if share < nonzero_below:
        scale["nonzero"] = True
        what += f" of the voxels that are not 0, whose box is {100 * share:.0f} % of a scan"
    return Intensity("mr", scale, what, why)


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
