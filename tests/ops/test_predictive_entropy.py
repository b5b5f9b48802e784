# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch

from medssl_components.ops import predictive_entropy


def test_sure_is_zero_and_undecided_is_one():
    probs = torch.tensor([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(predictive_entropy(probs), torch.tensor([[0.0], [1.0]]))


def test_hand_computed_and_keeps_the_axis():
    probs = torch.tensor([0.25, 0.75]).reshape(1, 2, 1, 1)
    expected = (0.25 * math.log(4) + 0.75 * math.log(4 / 3)) / math.log(2)
    entropy = predictive_entropy(probs)
    assert entropy.shape == (1, 1, 1, 1)
    assert entropy.item() == pytest.approx(expected)


def test_one_class_is_an_error():
    with pytest.raises(ValueError, match="two classes"):
        predictive_entropy(torch.ones(1, 1, 4))
