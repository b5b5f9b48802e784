# SPDX-License-Identifier: Apache-2.0
"""The deployed path of every network as ONNX, run by onnxruntime, against PyTorch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, onnx_export

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not here: pip install -e .[onnx]")
import onnxruntime  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PATCH = [16, 16, 16]
BATCH = {"input_names": ["image"], "output_names": ["pred"]}
BATCH["dynamic_axes"] = {name: {0: "batch"} for name in ("image", "pred")}
SMALL = {"network_def::base_channels": 2, "patch_size": PATCH}
DYNUNET = {
    "_target_": "medssl_components.networks.DualTaskDynUNet",
    "in_channels": 1,
    "num_classes": 2,
    "strides": [2, 2],
}
NETWORKS = {path.parent.name: (path.parent.name, SMALL) for path in sorted(ROOT.glob("bundles/*/configs"))}
NETWORKS["dynunet"] = ("dbisl", {"network_def": {**DYNUNET, "base_channels": 2}, "patch_size": PATCH})


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", NETWORKS)
def test_onnxruntime_agrees_with_pytorch_for_any_batch(name, tmp_path):
    bundle, options = NETWORKS[name]
    configs, weights, model = ROOT / "bundles" / bundle / "configs", tmp_path / "model.pt", tmp_path / "model.onnx"
    parser = ConfigParser(config=ConfigParser.load_config_file(str(configs / "inference.json")))
    parser.update(options)
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def").eval()
    for key, value in network.named_buffers():  # statistics that change what batch norm does
        if key.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    torch.save(network.state_dict(), weights)
    onnx_export(
        "network_def",
        filepath=str(model),
        ckpt_file=str(weights),
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.json"),
        input_shape=[2, 1, *PATCH],
        converter_kwargs=dict(BATCH),
        **options,
    )
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        image = torch.randn(batch, 1, *PATCH)
        with torch.no_grad():
            expected = network(image)
        (pred,) = session.run(["pred"], {"image": image.numpy()})
        torch.testing.assert_close(torch.from_numpy(pred), expected, rtol=1e-4, atol=1e-4)
