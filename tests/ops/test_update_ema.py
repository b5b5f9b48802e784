# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl_components.ops import update_ema, warmed_up_decay


def pair():
    teacher, student = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(teacher.weight, 1.0), nn.init.constant_(student.weight, 3.0)
    student.running_mean.fill_(4.0)
    student.num_batches_tracked.fill_(9)
    return teacher, student


def test_weights_move_by_one_minus_decay():
    teacher, student = pair()
    update_ema(teacher, student, decay=0.75)
    torch.testing.assert_close(teacher.weight.detach(), torch.full((2,), 1.5))
    torch.testing.assert_close(student.weight.detach(), torch.full((2,), 3.0))


@pytest.mark.parametrize(("rule", "mean", "batches"), [("keep", 0.0, 0), ("copy", 4.0, 9), ("average", 1.0, 9)])
def test_buffers_follow_their_rule_and_share_no_memory(rule, mean, batches):
    teacher, student = pair()
    update_ema(teacher, student, decay=0.75, buffers=rule)
    assert teacher.running_mean.tolist() == [mean, mean]
    assert teacher.num_batches_tracked.item() == batches
    student.running_mean.fill_(100.0)
    assert teacher.running_mean.tolist() == [mean, mean]


@pytest.mark.parametrize("options", [{"decay": 1.1}, {"decay": -0.1}, {"decay": 0.9, "buffers": "share"}])
def test_wrong_options_are_errors(options):
    with pytest.raises(ValueError, match="^(decay|buffers) is "):
        update_ema(*pair(), **options)


def test_warm_up_is_the_mean_of_all_until_the_window_is_full():
    assert [warmed_up_decay(0.75, step) for step in (1, 2, 3, 4)] == pytest.approx([0.5, 2 / 3, 0.75, 0.75])
