# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import OrderedDict

import pytest
import torch

from medssl_components.data import DataError
from medssl_components.packaging import check_weights, fit_weights, read_weights

CONFIG = {"network_def": {"_target_": "torch.nn.Linear", "in_features": 3, "out_features": "@n"}, "n": 2}


class Harm:
    """Would write a file if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_state_dict_is_read(tmp_path):
    torch.save(torch.nn.Linear(3, 2).state_dict(), tmp_path / "model.pt")
    weights = read_weights(tmp_path / "model.pt", "model.pt")
    assert {name: tuple(value.shape) for name, value in weights.items()} == {"weight": (2, 3), "bias": (2,)}
    fit_weights(weights, CONFIG, "model.pt")


def test_nothing_in_a_file_is_run(tmp_path):
    torch.save({"weight": Harm(tmp_path / "harm")}, tmp_path / "model.pt")
    with pytest.raises(DataError, match="^w: does not load with weights_only=True"):
        read_weights(tmp_path / "model.pt", "w")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(DataError, match="weights_only=True"):
        read_weights(tmp_path / "model.pt", "w")


@pytest.mark.parametrize(
    "weights", [{}, {"model": OrderedDict(a=torch.ones(1))}, torch.ones(1), {1: torch.ones(1)}, None]
)
def test_other_than_a_plain_state_dict_is_refused(weights):
    with pytest.raises(DataError, match="plain state dict"):
        check_weights(weights, "w")


@pytest.mark.parametrize("layer", [torch.nn.Linear(3, 4), torch.nn.Linear(3, 2, bias=False)])
def test_weights_of_another_network_are_refused(layer):
    with pytest.raises(DataError, match=r"^w: does not fit network_def; .*(size mismatch|bias)"):
        fit_weights(layer.state_dict(), CONFIG, "w")
