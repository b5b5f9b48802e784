# SPDX-License-Identifier: Apache-2.0
"""A step of every bundle where network and images are not on the CPU: on PyTorch's device without memory, "meta"."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.parent.name for path in ROOT.glob("bundles/*/configs"))
OPTIONS = {"patch_size": [16, 16, 16], "network_def::base_channels": 2, "precision": "fp32"}
ALSO = {
    # else the labels are read to count, and what is computed depends on values
    "skcdf": {"method::class_counts": [3, 1], "balance_reading": "logits"},
}


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_step_leaves_nothing_on_the_cpu(bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: nullcontext())  # "meta" has none
    parser = ConfigParser()
    parser.read_config(ROOT / "bundles" / bundle / "configs" / "train.json")
    parser.update({**OPTIONS, **ALSO.get(bundle, {}), "device": "$torch.device('meta')"})
    method = parser.get_parsed_content("method")
    for module in method.modules():
        if hasattr(module, "start"):
            module.start(method.network)  # which asks the copy whether it has begun
    parser.get_parsed_content("train::trainer")
    image = torch.zeros(2, 1, 16, 16, 16, device="meta")
    losses = method({"image": image, "label": torch.zeros_like(image, dtype=torch.uint8)}, {"image": image}, 0.5)
    losses["loss"].backward()
    method.after_step()
    tensors = (*losses.values(), *method.parameters(), *method.buffers())
    assert {tensor.device.type for tensor in tensors} == {"meta"}
