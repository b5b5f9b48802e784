# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch

from medssl_components.engines import UncertaintyMapd, uncertainty_kind

HALF_AND_SURE = torch.tensor([[0.5, 1.0], [0.5, 0.0]])[:, :, None, None]


@pytest.mark.parametrize(
    ("word", "kind"),
    [(False, ""), ("false", ""), ("", ""), (True, "entropy"), ("True", "entropy"), ("disagreement", "disagreement")],
)
def test_words_of_a_config_and_of_a_command_line(word, kind):
    assert uncertainty_kind(word) == kind


def test_unknown_word_is_one_line_with_the_known_ones():
    with pytest.raises(ValueError, match="^uncertainty is 'variance'; give false, true, entropy or disagreement$"):
        uncertainty_kind("variance")


def test_entropy_of_even_and_sure_voxels():
    item = UncertaintyMapd("pred", kind=True)({"pred": HALF_AND_SURE})
    assert item["uncertainty"].flatten().tolist() == [1, 0]
    assert item["pred"] is HALF_AND_SURE


def test_entropy_of_a_rounding_error_below_zero_is_a_number():
    item = UncertaintyMapd("pred")({"pred": torch.tensor([1.0 + 1e-6, -1e-6])[:, None, None, None]})
    assert math.isclose(item["uncertainty"].item(), 0, abs_tol=1e-6)


def test_disagreement_is_taken_off_the_probabilities():
    disagreement = torch.tensor([0.25, -1e-7])[None, :, None, None]
    item = UncertaintyMapd("pred", kind="disagreement")({"pred": torch.cat([HALF_AND_SURE, disagreement])})
    torch.testing.assert_close(item["pred"], HALF_AND_SURE)
    assert item["uncertainty"].flatten().tolist() == [0.25, 0]


def test_no_uncertainty_leaves_the_item_as_it_is():
    item = {"pred": HALF_AND_SURE}
    assert UncertaintyMapd("pred", kind="false")(item) == item
