# SPDX-License-Identifier: Apache-2.0
"""What the model zoo's gate looks at, for every bundle as it stands and as packed.

`test_bundles.py` has the workflows, properties and export of the bundles as they stand. The packed ones run here from
their own folders, unpacked from the zip, where nothing else of this repository can be imported.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, verify_metadata

from medssl_components.packaging import Weights, pack_bundle, verify_bundle

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.parent.name for path in ROOT.glob("bundles/*/configs"))
# the schema that metadata.json names, if it has been downloaded; MEDSSL_META_SCHEMA is its path
SCHEMA = Path(os.environ.get("MEDSSL_META_SCHEMA") or Path(__file__).with_name("mandatory_schema.json"))
DRIVER = Path(__file__).with_name("zoo_checks.py")
CHECKS = ("network", "torchscript", "inference", "evaluation", "training", "own_copy")
TINY = {
    "num_classes": 3,
    "class_names": ["background", "liver", "spleen"],
    "patch_size": [16, 16, 16],
    "spacing": [2.0, 2.0, 2.5],
    "network_def::base_channels": 2,
}
ZOO_FILES = ("LICENSE", "configs/metadata.json", "configs/inference.json", "models/model.pt")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """Return the folder in which all bundles lie as they come out of their zips, with an overlay and weights."""
    folder = tmp_path_factory.mktemp("zoo")
    overlay, weights = folder / "overlay.json", folder / "model.pt"
    overlay.write_text(json.dumps(TINY))
    for name in BUNDLES:
        files = [str(ROOT / "bundles" / name / "configs" / "inference.json"), str(overlay)]
        network = ConfigParser(config=ConfigParser.load_config_files(files)).get_parsed_content("network_def")
        torch.save(network.state_dict(), weights)
        packed = pack_bundle(name, folder / "dist", overlay, Weights(weights))
        verify_bundle(packed.archive)
        with zipfile.ZipFile(packed.archive) as archive:
            archive.extractall(folder / "bundles")
    return folder / "bundles"


@pytest.fixture(scope="module")
def report(unpacked, make_folder, tmp_path_factory):
    """Return what failed, by bundle and check."""
    work = tmp_path_factory.mktemp("work")
    dataset = make_folder(work / "data", labeled=1, unlabeled=1, test=2, num_classes=3, split=True)
    command = [sys.executable, str(shutil.copy(DRIVER, work)), str(dataset), str(work / "report.json")]
    command += [str(unpacked / name) for name in BUNDLES]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((work / "report.json").read_text())


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", BUNDLES)
def test_a_packed_bundle_passes_alone(report, name, check):
    assert report[name][check] == ""


@pytest.mark.parametrize("name", BUNDLES)
def test_a_packed_bundle_has_the_files_of_the_zoo(unpacked, name):
    for file in ZOO_FILES:
        assert (unpacked / name / file).is_file(), file
    assert not (unpacked / name / "large_files.yml").exists()


@pytest.mark.filterwarnings("ignore:No hash value")
@pytest.mark.parametrize("packed", [False, True], ids=["as it stands", "packed"])
@pytest.mark.parametrize("name", BUNDLES)
def test_metadata_pass_the_schema(unpacked, tmp_path, name, packed):
    path = (unpacked if packed else ROOT / "bundles") / name / "configs" / "metadata.json"
    schema = shutil.copy(SCHEMA, tmp_path / "schema.json")  # a file that is there is not downloaded
    verify_metadata(meta_file=str(path), filepath=str(schema))
    metadata = json.loads(path.read_text())
    assert metadata["version"] in metadata["changelog"]


@pytest.mark.filterwarnings("ignore:No hash value")
def test_the_schema_refuses_what_the_zoo_would(tmp_path):
    metadata = json.loads((ROOT / "bundles" / "supervised" / "configs" / "metadata.json").read_text())
    del metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    schema = shutil.copy(SCHEMA, tmp_path / "schema.json")
    with pytest.raises(ValueError, match="channel_def"):
        verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(schema))
