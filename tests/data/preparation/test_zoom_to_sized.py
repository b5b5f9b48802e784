# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medssl_components.data.preparation import ZoomToSized


@pytest.mark.parametrize(
    ("before", "size", "after"),
    [
        ([0, 1, 2], 5, [0, 1, 1, 2, 2]),
        ([0, 1, 2, 3, 4], 3, [0, 2, 4]),
        ([7], 3, [7, 7, 7]),
        ([3, 5], 2, [3, 5]),
    ],
)
def test_first_and_last_voxel_stay(before: list[int], size: int, after: list[int]) -> None:
    """Three voxels to five: indices 0, 0.5, 1, 1.5, 2, of which halves go up."""
    line = MetaTensor(torch.tensor(before).reshape(1, -1, 1, 1), affine=np.diag([2.0, 1, 1, 1]))
    zoomed = ZoomToSized(["label"], (size, 1, 1), order=[0])({"label": line})["label"]
    assert zoomed.flatten().tolist() == after
    step = float(zoomed.affine[0, 0])
    assert (
        step * (size - 1) == pytest.approx(2.0 * (len(before) - 1)) if len(before) > 1 else step == pytest.approx(2 / 3)
    )


def test_axes_and_channels_keep_their_places() -> None:
    values = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    item = {"image": MetaTensor(torch.tensor(values), affine=np.eye(4))}
    zoomed = ZoomToSized(["image"], (3, 4, 9), order=[0])(item)["image"]
    assert np.array_equal(zoomed.numpy()[..., ::2], values) and zoomed.affine.diagonal().tolist() == [1, 1, 0.5, 1]
