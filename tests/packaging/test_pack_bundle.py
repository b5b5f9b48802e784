# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from medssl_components import __version__
from medssl_components.data import DataError, sha256_of
from medssl_components.packaging import Weights, pack_bundle, read_large_files

URL = "https://example.org/model.pt"


def config(packed, name):
    return json.loads((packed.folder / "configs" / f"{name}.json").read_text())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_zip_holds_the_folder_under_its_name_and_version(packed):
    assert packed.archive.name == f"supervised_v{__version__}.zip"
    with zipfile.ZipFile(packed.archive) as archive:
        zipped = {name.removeprefix("supervised/"): archive.read(name) for name in archive.namelist()}
    assert zipped == contents(packed.folder)
    wanted = {"LICENSE", "docs/data_license.txt", "configs/logging.conf", "models/model.pt", "models/settings.json"}
    assert wanted <= set(zipped)


def test_configs_and_metadata_have_the_overlay(packed):
    train, inference = config(packed, "train"), config(packed, "inference")
    for content in (train, inference):
        assert (content["patch_size"], content["num_classes"]) == ([16, 16, 16], 3)
        assert content["network_def"]["base_channels"] == 2
        assert content["imports"][-1] == f"$import medssl_copy_{packed.version.split('+')[1]}"
    pred = config(packed, "metadata")["network_data_format"]["outputs"]["pred"]
    assert pred["channel_def"] == {"0": "background", "1": "liver", "2": "spleen"}
    settings = json.loads((packed.folder / "models" / "settings.json").read_text())
    assert settings["class_names"] == ["background", "liver", "spleen"]
    assert settings["network_def"]["num_classes"] == 3
    assert config(packed, "metadata")["required_packages_version"]["nibabel"]


def test_the_same_input_gives_the_same_bytes(packed, tiny_weights, tmp_path):
    overlay, weights = tiny_weights("supervised", tmp_path / "elsewhere")
    again = pack_bundle("supervised", tmp_path / "dist", overlay, Weights(weights))
    assert sha256_of(again.archive) == sha256_of(packed.archive)
    assert contents(again.folder) == contents(packed.folder)


def test_weights_elsewhere_are_listed_in_the_folder_and_lie_in_the_zip(tiny_weights, tmp_path):
    overlay, weights = tiny_weights("supervised", tmp_path / "training")
    packed = pack_bundle("supervised", tmp_path, overlay, Weights(weights, URL), name="liver_segmentation")
    assert not (packed.folder / "models" / "model.pt").exists()
    assert (packed.folder / "models" / "settings.json").is_file()
    (large,) = read_large_files((packed.folder / "large_files.yml").read_text())
    assert large == ("models/model.pt", URL, sha256_of(weights), "sha256")
    with zipfile.ZipFile(packed.archive) as archive:
        names = archive.namelist()
        assert archive.read("liver_segmentation/models/model.pt") == weights.read_bytes()
    assert "liver_segmentation/large_files.yml" not in names
    assert "find_bundle_root('liver_segmentation')" in config(packed, "train")["bundle_root"]
    assert f"SHA-256 `{sha256_of(weights)}`" in (packed.folder / "docs" / "README.md").read_text()


def test_the_settings_beside_the_weights_win(tiny_weights, tmp_path):
    overlay, weights = tiny_weights("supervised", tmp_path / "training")
    (weights.parent / "settings.json").write_text(json.dumps({"spacing": [1.0, 1.0, 3.0], "patch_size": [16, 16, 16]}))
    packed = pack_bundle("supervised", tmp_path, overlay, Weights(weights))
    assert config(packed, "train")["spacing"] == config(packed, "inference")["spacing"] == [1.0, 1.0, 3.0]
    assert packed.overlays == ("tiny.json", "the training's settings.json")


def test_without_overlay_and_weights_the_configs_are_those_of_the_bundle(tmp_path):
    packed = pack_bundle("supervised", tmp_path)
    own = Path(__file__).resolve().parents[2] / "bundles" / "supervised" / "configs"
    for name in ("metadata", "evaluate", "multi_gpu_train"):
        assert (packed.folder / "configs" / f"{name}.json").read_bytes() == (own / f"{name}.json").read_bytes()
    before = json.loads((own / "train.json").read_text())
    assert {**config(packed, "train"), "imports": before["imports"]} == before
    assert not (packed.folder / "models").exists()


def test_an_earlier_copy_is_replaced_when_asked_for(tmp_path):
    pack_bundle("supervised", tmp_path)
    with pytest.raises(DataError, match="is there already"):
        pack_bundle("supervised", tmp_path)
    (tmp_path / "supervised" / "stale").touch()
    pack_bundle("supervised", tmp_path, overwrite=True)
    assert not (tmp_path / "supervised" / "stale").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["supervised", f"supervised_v{__version__}.zip"]


def test_a_folder_that_is_no_copy_is_never_replaced(tmp_path):
    (tmp_path / "supervised").mkdir()
    with pytest.raises(DataError, match="is no packed bundle"):
        pack_bundle("supervised", tmp_path, overwrite=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Liver"}, "^name is 'Liver'"),
        ({"name": "lesion_detection"}, "^name is 'lesion_detection'"),
        ({"overlay": Path("no.json")}, "^no.json: cannot be read"),
        ({"weights": Weights(Path("no.pt"))}, "^no.pt: no such file"),
        ({"weights": Weights(url=URL)}, "need both"),
        ({"weights": Weights(sha256="0" * 64)}, "need both"),
        ({"weights": Weights(url="ftp://a", sha256="0" * 64)}, "^weights_url"),
    ],
)
def test_wrong_options_leave_nothing(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        pack_bundle("supervised", tmp_path / "dist", **options)
    assert not (tmp_path / "dist").exists()


def test_weights_that_do_not_fit_or_are_not_those_of_the_hash_are_refused(tiny_weights, tmp_path):
    overlay, weights = tiny_weights("supervised", tmp_path / "training")
    with pytest.raises(DataError, match="does not fit network_def"):
        pack_bundle("supervised", tmp_path / "dist", None, Weights(weights))
    with pytest.raises(DataError, match="its SHA-256 is"):
        pack_bundle("supervised", tmp_path / "dist", overlay, Weights(weights, URL, "0" * 64))
