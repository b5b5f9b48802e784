# SPDX-License-Identifier: Apache-2.0
"""A bundle that needs no repository, as a folder for a pull request to the zoo and as the zip of a release."""

from __future__ import annotations

import copy
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from monai.bundle import ConfigParser

from ..data import DataError, sha256_of
from . import checksums, large_files
from .bake_overlay import bake_overlay
from .bundle_source import open_bundle
from .check_weights import fit_weights, read_weights
from .checksums import write_checksums
from .describe_network import describe_network
from .json_text import json_text
from .large_files import LargeFile, write_large_files
from .packed_readme import PackedReadme
from .vendored_package import vendored_package
from .zip_files import write_zip

MODEL = "models/model.pt"
SETTINGS = "models/settings.json"
BAKED = ("train", "evaluate", "inference")
NAME = re.compile(r"[a-z][a-z0-9_]*")
# MONAI Label takes a bundle for another kind of model if its name has one of these
KINDS = ("detection", "deepedit", "deepgrow", "classification")


class Weights(NamedTuple):
    """Where weights are: a `file`, and if they are not to be in the folder a `url`, with the file or its SHA-256."""

    file: Path | None = None
    url: str = ""
    sha256: str = ""


class Packed(NamedTuple):
    """The `folder`, the `archive`, the `version` of the packed code and the `overlays` that were baked in."""

    folder: Path
    archive: Path
    version: str
    overlays: tuple[str, ...]


def pack_bundle(
    bundle: str,
    output: Path,
    overlay: Path | None = None,
    weights: Weights | None = None,
    name: str = "",
    overwrite: bool = False,
) -> Packed:
    """Write a self-contained copy of a bundle; the same input gives the same bytes.

    `settings.json` beside a weights file, which training writes, is baked in after the overlay where it says
    something else, so that the weights and the configs agree.

    Args:
        bundle: name of a folder in `bundles/`, or the path of a bundle's folder.
        output: folder that gets `<name>/` and `<name>_v<version>.zip`.
        overlay: a JSON file of ids that becomes part of `train.json` and `inference.json`.
        weights: for `models/model.pt`. With a URL the folder has `large_files.yml` in place of them, and the zip has
            them all the same, if the file is given.
        name: of the packed bundle; empty for the bundle's own.
        overwrite: whether an earlier copy may be replaced.

    Raises:
        DataError: for whatever is wrong with the options or the files.
    """
    source, weights = open_bundle(bundle), weights or Weights()
    name = _checked_name(name or source.name)
    trained = read_weights(weights.file, str(weights.file)) if weights.file else None
    configs = {key: source.config(key) for key in BAKED}
    baked, changed, overlays = _bake(configs, overlay, weights.file)
    if trained is not None:
        fit_weights(trained, baked["inference"], str(weights.file))
    metadata = source.config("metadata")
    if changed:
        metadata = describe_network(metadata, baked["inference"], baked["train"].get("class_names"))
    package = vendored_package()
    for config in (baked["train"], baked["inference"]):
        config["bundle_root"] = config["bundle_root"].replace(f"'{source.name}'", f"'{name}'")
        config["imports"] = [*config["imports"], f"$import {package.module}"]
    digest = _digest(weights)
    large = write_large_files([LargeFile(MODEL, weights.url, digest)]) if weights.url else b""
    sentence = f"The weights are `{MODEL}`, with SHA-256 `{digest}`." if digest else ""
    if large:
        sentence += (
            f" Where `{large_files.NAME}` is in their place, `python -m monai.bundle download_large_files` gets them."
        )
    readme = PackedReadme(source.name, package.version, metadata, overlays, changed, sentence)
    files: dict[str, bytes | Path] = {**source.files, **package.files}
    for key, config in {**baked, "metadata": metadata}.items():
        if config != source.config(key):
            files[f"configs/{key}.json"] = json_text(config).encode()
    files["docs/README.md"] = readme.rewrite(source.files["docs/README.md"].decode()).encode()
    if trained is not None:
        files[SETTINGS] = (json.dumps(_resolved(baked["inference"], baked["train"]), indent=2) + "\n").encode()
    model = {MODEL: weights.file} if weights.file else {}
    listed = {large_files.NAME: large} if large else {}
    folder, archive = output / name, output / f"{name}_v{metadata['version']}.zip"
    _write(folder, archive, {**files, **(listed or model)}, {**files, **(model or listed)}, overwrite)
    return Packed(folder, archive, package.version, overlays)


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name) or any(kind in name for kind in KINDS):
        raise DataError(f"name is {name!r}; give small letters, digits and _, without {', '.join(KINDS)}")
    return name


def _digest(weights: Weights) -> str:
    digest = sha256_of(weights.file) if weights.file else weights.sha256
    if weights.sha256 not in ("", digest):
        raise DataError(f"{weights.file}: its SHA-256 is {digest}, not weights_hash")
    if bool(weights.url) > bool(digest) or bool(digest) > bool(weights.url or weights.file):
        raise DataError("weights elsewhere need both --weights_url and --weights_hash, or --weights for the hash")
    return digest


def _bake(
    configs: dict[str, dict], overlay: Path | None, weights: Path | None
) -> tuple[dict[str, dict], dict[str, Any], tuple[str, ...]]:
    """Return the baked configs, the top-level ids that changed with their values, and the names of the overlays."""
    baked, overlays = bake_overlay(configs, {}, ""), ()
    if overlay is not None:
        baked, overlays = bake_overlay(baked, _read(overlay), str(overlay)), (overlay.name,)
    settings = weights.parent / "settings.json" if weights else None
    if settings is not None and settings.is_file():
        here = _resolved(baked["inference"], baked["train"])
        others = {key: value for key, value in _read(settings).items() if here.get(key) != value}
        if others:
            baked, overlays = bake_overlay(baked, others, str(settings)), (*overlays, "the training's settings.json")
    before = {**configs["inference"], **configs["evaluate"], **configs["train"]}
    after = {**baked["inference"], **baked["evaluate"], **baked["train"]}
    return baked, {key: value for key, value in after.items() if before.get(key) != value}, overlays


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: give an object of ids and values")
    return content


def _resolved(inference: Mapping[str, Any], train: Mapping[str, Any]) -> dict[str, Any]:
    """Return what training would write to `settings.json` for these configs."""
    config = {**copy.deepcopy(dict(inference)), "settings": "$medssl_components.engines.resolved_settings()"}
    settings = ConfigParser(config=config).get_parsed_content("settings")
    names = train.get("class_names")
    return {**settings, "class_names": names} if isinstance(names, list) else settings


def _write(folder: Path, archive: Path, kept: dict, released: dict, overwrite: bool) -> None:
    for path in (folder, archive):
        if path.exists() and not overwrite:
            raise DataError(f"{path}: is there already; remove it, give another --output, or --overwrite true")
    if folder.exists() and not (folder / checksums.NAME).is_file():
        raise DataError(f"{folder}: is no packed bundle, so it is not replaced; give another --output")
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".pack_") as temporary:
        new, new_archive = Path(temporary, folder.name), Path(temporary, archive.name)
        for name, content in {**kept, checksums.NAME: write_checksums(kept)}.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                shutil.copyfile(content, path)
        write_zip(new_archive, {**released, checksums.NAME: write_checksums(released)}, folder.name)
        if folder.exists():
            shutil.rmtree(folder)
        new.replace(folder)
        new_archive.replace(archive)
