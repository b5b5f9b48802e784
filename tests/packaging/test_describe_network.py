# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy

import pytest

from medssl_components.packaging import describe_network


def metadata(side):
    tensor = {"num_channels": 1, "spatial_shape": [side] * 3, "channel_def": {}}
    both = {"inputs": {"image": dict(tensor)}, "outputs": {"pred": dict(tensor)}}
    return {"version": "1", "network_data_format": both}


def test_channels_classes_and_fixed_sizes_are_those_of_the_config():
    before = metadata(48)
    kept = copy.deepcopy(before)
    config = {"in_channels": 2, "num_classes": 3, "patch_size": [16, 32, 16]}
    described = describe_network(before, config, ["background", "liver", "spleen"])
    image = described["network_data_format"]["inputs"]["image"]
    pred = described["network_data_format"]["outputs"]["pred"]
    assert image == {
        "num_channels": 2,
        "spatial_shape": [16, 32, 16],
        "channel_def": {"0": "channel_0", "1": "channel_1"},
    }
    assert pred["channel_def"] == {"0": "background", "1": "liver", "2": "spleen"}
    assert (pred["num_channels"], pred["spatial_shape"]) == (3, [16, 32, 16])
    assert described["pred_classes"] == "3 channels: 0 background, 1 liver, 2 spleen"
    assert before == kept


@pytest.mark.parametrize("names", ["$an.expression()", ["background", "one"], None])
def test_sides_that_are_a_rule_stay_and_classes_without_names_get_some(names):
    config = {"in_channels": 1, "num_classes": 3, "patch_size": [16, 16, 16]}
    described = describe_network(metadata("16*n"), config, names)["network_data_format"]
    assert described["inputs"]["image"]["spatial_shape"] == ["16*n"] * 3
    assert described["inputs"]["image"]["channel_def"] == {"0": "image"}
    assert described["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "class_1", "2": "class_2"}
