# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from medssl_components.data import DataError
from medssl_components.data.preparation import NormalizeAboveMinimumd

BRAIN = torch.tensor([0.0, 1, 3, 5, 7, 0]).reshape(1, 6, 1, 1)


def test_the_surroundings_are_moved_with_the_brain() -> None:
    """Voxels above zero 1, 3, 5, 7: mean 4, standard deviation sqrt(5)."""
    after = NormalizeAboveMinimumd("image")({"image": BRAIN})["image"].flatten()
    assert torch.allclose(after, torch.tensor([-4.0, -3, -1, 1, 3, -4]) / 5**0.5)


def test_a_normalised_volume_stays_as_it_is_also_with_surroundings_that_interpolation_moved() -> None:
    normalize = NormalizeAboveMinimumd("image")
    once = normalize({"image": BRAIN})["image"]
    once[0, -1] += 1e-6
    assert torch.allclose(normalize({"image": once})["image"], once, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_no_spread_is_an_error(value: float) -> None:
    with pytest.raises(DataError, match="no two values"):
        NormalizeAboveMinimumd("image")({"image": torch.full((1, 2, 2, 2), value)})
