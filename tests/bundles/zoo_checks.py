# SPDX-License-Identifier: Apache-2.0
"""The zoo's checks of packed bundles, each from its own folder: `python zoo_checks.py DATASET REPORT FOLDER...`.

One process serves all of them, as importing takes longer than checking; each imports its own copy of the package. The
report says of each folder what failed in each check.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from monai.bundle import ConfigWorkflow, ckpt_export, verify_net_in_out

SHORT = {"max_epochs": 1, "iterations_per_epoch": 2, "val_interval": 1, "precision": "fp32", "figures": 1}


@contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.split(".")[0].startswith("medssl_")]:
            del sys.modules[name]


def workflow(*names: str, kind: str = "train", **options: object) -> None:
    files = [f"configs/{name}.json" for name in names]
    flow = ConfigWorkflow(files if len(files) > 1 else files[0], workflow_type=kind, bundle_root=".", **options)
    flow.initialize()
    assert flow.check_properties() == []
    flow.run()
    flow.finalize()


def inference(dataset: str) -> None:
    workflow("inference", kind="infer", dataset_dir=dataset, precision="fp32", output_dir="eval/predictions")
    assert len(list(Path("eval/predictions").iterdir())) == 1


def evaluation(dataset: str) -> None:
    workflow("train", "evaluate", dataset_dir=dataset, **SHORT)
    scores = json.loads(Path("eval/evaluation/scores.json").read_text())
    assert scores["num_cases"] == 1 and list(scores["classes"]) == ["liver", "spleen"]


def training(dataset: str) -> None:
    before = Path("models/model.pt").read_bytes()
    workflow("train", dataset_dir=dataset, **SHORT)
    assert Path("models/model.pt").read_bytes() != before
    assert Path("eval/run_001/previous_model.pt").read_bytes() == before


def network(dataset: str) -> None:
    verify_net_in_out("network_def", meta_file="configs/metadata.json", config_file="configs/inference.json", n=1)


def torchscript(dataset: str) -> None:
    ckpt_export(bundle_root=".", config_file="configs/inference.json")
    shape = json.loads(Path("models/settings.json").read_text())["patch_size"]
    scripted = torch.jit.load("models/model.ts").eval()
    for batch in (1, 2):
        assert scripted(torch.rand(batch, 1, *shape)).shape == (batch, 3, *shape)


def own_copy(dataset: str) -> None:
    package, module = (
        sys.modules[name] for name in ("medssl_components", Path(next(Path().glob("medssl_copy_*"))).stem)
    )
    assert Path(package.__file__).parent.parent == Path(module.__file__).parent == Path.cwd()
    assert package.__version__ == module.PACKED


def main(dataset: str, report: str, *folders: str) -> None:
    torch.set_num_threads(1)
    found: dict[str, dict[str, str]] = {}
    for folder in map(Path, folders):
        found[folder.name] = {}
        with own_folder(folder):
            for check in (network, torchscript, inference, evaluation, training, own_copy):
                try:
                    check(dataset)
                    found[folder.name][check.__name__] = ""
                except Exception:  # whatever it is belongs in the report, and the other checks go on
                    found[folder.name][check.__name__] = traceback.format_exc()
    Path(report).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
