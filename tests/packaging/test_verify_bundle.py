# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
import zipfile

import pytest
import torch

from medssl_components import __version__
from medssl_components.data import DataError, sha256_of
from medssl_components.packaging import Weights, pack_bundle, verify_bundle, write_checksums

MODEL = "models/model.pt"


@pytest.fixture
def folder(packed, tmp_path):
    return shutil.copytree(packed.folder, tmp_path / "supervised")


def sums_again(folder):
    (folder / "SHA256SUMS").unlink()
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    (folder / "SHA256SUMS").write_bytes(write_checksums(files))


def test_folder_and_zip_are_whole(packed):
    for path in (packed.folder, packed.archive):
        found = verify_bundle(path)
        assert (found.name, found.version, found.weights, found.elsewhere) == ("supervised", __version__, (MODEL,), ())
        assert found.files > 100


def test_nothing_of_the_bundle_is_run(folder):
    for path in [*folder.glob("*.py"), *folder.glob("medssl_components/**/*.py")]:
        path.write_text("raise SystemExit('was run')\n")
    sums_again(folder)
    verify_bundle(folder)


@pytest.mark.parametrize("name", ["LICENSE", "configs/train.json", "medssl_components/__init__.py", MODEL])
def test_a_changed_or_missing_file_is_named(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=f"{name} is not the file that was packed"):
        verify_bundle(folder)
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        verify_bundle(folder)


def test_further_files_are_those_that_use_leaves(folder, packed):
    for name in ("eval/run_001/checkpoint.pt", "models/model.ts", "medssl_components/__pycache__/a.pyc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    verify_bundle(folder)
    (folder / "scripts.py").touch()
    with pytest.raises(DataError, match="scripts.py is not in SHA256SUMS"):
        verify_bundle(folder)
    archive = shutil.copy(packed.archive, folder.parent / "a.zip")
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("supervised/eval/x", "")
    with pytest.raises(DataError, match="eval/x is not in SHA256SUMS"):
        verify_bundle(archive)


@pytest.mark.parametrize("content", [{"model": {"a": torch.ones(1)}}, {"a": pytest.raises}])
def test_weights_are_plain_state_dicts(folder, content):
    torch.save(content, folder / MODEL)
    sums_again(folder)
    with pytest.raises(DataError, match=f"{MODEL}: (is not a plain state dict|does not load)"):
        verify_bundle(folder)


def test_weights_elsewhere_are_checked_once_they_are_here(tiny_weights, tmp_path):
    overlay, weights = tiny_weights("supervised", tmp_path / "training")
    url = "https://example.org/model.pt"
    packed = pack_bundle("supervised", tmp_path, overlay, Weights(weights, url))
    assert verify_bundle(packed.folder).elsewhere == (MODEL,)
    assert verify_bundle(packed.archive).elsewhere == ()
    shutil.copy(weights, packed.folder / MODEL)
    assert verify_bundle(packed.folder)[3:] == ((MODEL,), ())
    torch.save({"a": torch.ones(1)}, packed.folder / MODEL)
    with pytest.raises(DataError, match=f"{MODEL} is not the file that was packed, its sha256 differs"):
        verify_bundle(packed.folder)
    listed = pack_bundle("supervised", tmp_path / "no_file", overlay, Weights(url=url, sha256=sha256_of(weights)))
    assert verify_bundle(listed.archive).elsewhere == (MODEL,)


def test_paths_in_the_lists_stay_in_the_folder(folder):
    with open(folder / "SHA256SUMS", "a") as file:
        file.write(f"{'0' * 64}  ../../secret\n")
    with pytest.raises(DataError, match="^SHA256SUMS: the path"):
        verify_bundle(folder)


def test_a_bundle_that_was_not_packed_is_told_so(tmp_path):
    with pytest.raises(DataError, match="has no SHA256SUMS"):
        verify_bundle(tmp_path)
