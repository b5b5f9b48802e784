# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.image import imread

from medssl_components.commands import demo
from medssl_components.data.synthetic import RECIPES, synthetic_folder

ROOT = Path(__file__).resolve().parents[2]


def test_trains_evaluates_predicts_and_draws(tmp_path, monkeypatch, caplog):
    """With a small set in the cache where the built-in one would be, and a small network."""
    small = replace(RECIPES["one_organ"], training=4, labeled=2, validation=1, test=2, in_plane_size=(40, 44))
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(RECIPES, "one_organ", small)
    synthetic_folder()
    monkeypatch.chdir(tmp_path)
    options = {"network_def::base_channels": 2, "max_epochs": 1, "iterations_per_epoch": 2}
    with caplog.at_level("INFO"):
        demo(output_dir="out", cases=2, **options)
    assert "run training --config_file bundles/dbisl/configs/train.json" in caplog.text
    picture = imread(tmp_path / "out" / "demo.png")
    assert picture.shape[0] > 200 and np.ptp(picture) > 0.5
    assert len(list((tmp_path / "out" / "predictions").iterdir())) == 4
    assert "95HD (mm)" in caplog.text
    assert str(tmp_path / "out" / "demo.png") in caplog.text


def test_unknown_bundle_is_one_line():
    command = [sys.executable, "-m", "medssl_components", "demo", "--bundle", "supervized"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: no bundle 'supervized' in ")
    known = ", ".join(sorted(path.parent.name for path in ROOT.glob("bundles/*/configs")))
    assert done.stderr.splitlines()[-1].endswith(f"; there are: {known}")
