# SPDX-License-Identifier: Apache-2.0
"""Exact distances between the surfaces of two masks, in voxels and in millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt, find_objects


class SurfaceDistances(NamedTuple):
    """The 95th percentile Hausdorff distance and the average surface distance of a pair of masks, in both units."""

    hd95_voxel: float
    hd95_mm: float
    asd_voxel: float
    asd_mm: float


def average_surface_distance(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float] | float | None = None
) -> float:
    r"""Mean distance from the surface of the prediction to the surface of the reference.

    .. math::
        \mathrm{ASD}(P, R) = \frac{1}{|\partial P|} \sum_{p \in \partial P} \min_{r \in \partial R} \lVert p - r \rVert

    The surface of a mask is the mask without its erosion by the face neighbours (4 in 2-D, 6 in 3-D); a voxel at the
    border of the image is on the surface. The mean is directed, as in ``medpy.metric.binary.asd`` and the tables made
    with it: a prediction that covers only a part of the reference can have a small ASD, and swapping the masks changes
    the value.

    Args:
        prediction: mask of any dimension, inside where it is not 0.
        reference: mask of the same shape.
        spacing: edge lengths of a voxel in mm, one for each axis or one for all; ``None`` gives voxels.

    Raises:
        ValueError: If the shapes differ, a mask is empty, or the spacing does not fit the masks.
    """
    prediction_surface, reference_surface = _surfaces(prediction, reference)
    sampling = _checked_spacing(spacing, prediction_surface.ndim)
    return float(_distances(prediction_surface, reference_surface, sampling).mean())


def hausdorff_distance_95(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float] | float | None = None
) -> float:
    """95th percentile of the surface distances of both directions, pooled into one sample.

    The distances are those of :func:`average_surface_distance`, from each surface to the other. The pooled percentile,
    as in ``medpy.metric.binary.hd95``, differs from ``monai.metrics.HausdorffDistanceMetric(percentile=95)``, which
    takes the percentile of each direction and returns the larger one.

    Args:
        prediction: mask of any dimension, inside where it is not 0.
        reference: mask of the same shape.
        spacing: edge lengths of a voxel in mm, one for each axis or one for all; ``None`` gives voxels.

    Raises:
        ValueError: If the shapes differ, a mask is empty, or the spacing does not fit the masks.
    """
    prediction_surface, reference_surface = _surfaces(prediction, reference)
    sampling = _checked_spacing(spacing, prediction_surface.ndim)
    forward = _distances(prediction_surface, reference_surface, sampling)
    backward = _distances(reference_surface, prediction_surface, sampling)
    return _pooled_percentile(forward, backward)


def surface_distances(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float] | float
) -> SurfaceDistances:
    """Both surface metrics in voxels and in mm, with the distance transforms shared between them.

    The values are those of :func:`hausdorff_distance_95` and :func:`average_surface_distance`. Where the spacing is the
    same along all axes, up to a relative 1e-5 (the rounding of file headers), mm are voxels times spacing.

    Args:
        prediction: mask of any dimension, inside where it is not 0.
        reference: mask of the same shape.
        spacing: edge lengths of a voxel in mm, one for each axis or one for all.

    Raises:
        ValueError: If the shapes differ, a mask is empty, or the spacing does not fit the masks.
    """
    prediction_surface, reference_surface = _surfaces(prediction, reference)
    sampling = _checked_spacing(spacing, prediction_surface.ndim)

    def hd95_and_asd(unit: np.ndarray | None) -> tuple[float, float]:
        forward = _distances(prediction_surface, reference_surface, unit)
        backward = _distances(reference_surface, prediction_surface, unit)
        return _pooled_percentile(forward, backward), float(forward.mean())

    hd95_voxel, asd_voxel = hd95_and_asd(None)
    if np.allclose(sampling, sampling[0], rtol=1e-5, atol=0.0):
        hd95_mm, asd_mm = hd95_voxel * float(sampling[0]), asd_voxel * float(sampling[0])
    else:
        hd95_mm, asd_mm = hd95_and_asd(sampling)
    return SurfaceDistances(hd95_voxel, hd95_mm, asd_voxel, asd_mm)


def _surfaces(prediction: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Surfaces of both masks, cropped to the smallest box that holds both masks."""
    prediction, reference = np.asarray(prediction).astype(bool), np.asarray(reference).astype(bool)
    if prediction.shape != reference.shape:
        raise ValueError(
            f"masks must have one shape, got prediction {prediction.shape} and reference {reference.shape}."
        )
    for name, mask in (("prediction", prediction), ("reference", reference)):
        if not mask.any():
            raise ValueError(f"{name} is an empty mask and has no surface: score empty masks by a rule of your own.")
    # All surface voxels lie in this box, and what surrounds it is outside of both masks, as erosion takes the border to
    # be: the crop changes no distance, and distance transforms of small objects become fast.
    box = find_objects((prediction | reference).view(np.uint8))[0]
    prediction, reference = prediction[box], reference[box]
    return prediction & ~binary_erosion(prediction), reference & ~binary_erosion(reference)


def _checked_spacing(spacing: Sequence[float] | float | None, ndim: int) -> np.ndarray | None:
    if spacing is None:
        return None
    sampling = np.asarray(spacing, dtype=float)
    if sampling.shape not in ((), (ndim,)) or not (np.isfinite(sampling) & (sampling > 0)).all():
        raise ValueError(f"spacing must be one positive number or {ndim} of them for {ndim}-D masks, got {spacing}.")
    return np.broadcast_to(sampling, (ndim,))


def _distances(surface: np.ndarray, other: np.ndarray, sampling: np.ndarray | None) -> np.ndarray:
    """Distance from each voxel of one surface to the nearest voxel of the other."""
    return distance_transform_edt(~other, sampling=sampling)[surface]


def _pooled_percentile(forward: np.ndarray, backward: np.ndarray) -> float:
    return float(np.percentile(np.concatenate([forward, backward]), 95))
