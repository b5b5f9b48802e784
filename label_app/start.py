# SPDX-License-Identifier: Apache-2.0
"""Start MONAI Label with a bundle of this repository.

python label_app/start.py [--bundle dbisl] [--studies DIR] [--port 8000]

Without --studies it shows some of the built-in scans, a few of them with labels. A bundle without weights is trained
on the built-in scans first, which takes minutes: a server has nothing to predict with otherwise.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
sys.path.insert(0, str(REPOSITORY))

from medssl_components.data import CaseFolder, DataError, case_name  # noqa: E402
from medssl_components.packaging import bundle_folder  # noqa: E402

logger = logging.getLogger("medssl")


def link_bundle(bundle: Path, app: Path = HERE) -> None:
    """Show the server a bundle, under its folder's name.

    Args:
        bundle: its folder, in `bundles/` or unpacked from a zip file.
        app: the app's folder.

    Raises:
        SystemExit: if the folder is no bundle, or if something else has its place.
    """
    if not (bundle / "configs" / "inference.json").is_file():
        raise SystemExit(f"error: {bundle} is no bundle: it has no configs/inference.json")
    link = app / "model" / bundle.name
    link.parent.mkdir(exist_ok=True)
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        raise SystemExit(f"error: {link} is there and no link; move it away")
    link.symlink_to(bundle.resolve(), target_is_directory=True)


def demo_studies(folder: Path, labeled: int = 3, unlabeled: int = 5) -> Path:
    """Fill a folder with built-in scans as MONAI Label keeps them, once.

    Args:
        folder: gets the scans, and the labels of some in `labels/final/`.
        labeled: number of scans with a label.
        unlabeled: number of scans without.

    Returns:
        The folder.
    """
    if folder.is_dir():
        return folder
    cases = CaseFolder("builtin:one_organ")
    (folder / "labels" / "final").mkdir(parents=True)
    for case in [*cases.labeled[:labeled], *cases.unlabeled[:unlabeled]]:
        name = f"{case_name(case['image'])}.nii.gz"
        shutil.copyfile(case["image"], folder / name)
        if "label" in case:
            shutil.copyfile(case["label"], folder / "labels" / "final" / name)
    return folder


def train_if_needed(bundle: Path) -> None:
    """Train a bundle of the repository on the built-in scans if it has no weights.

    Raises:
        SystemExit: if the training fails.
    """
    if (bundle / "models" / "model.pt").is_file():
        return
    logger.info("%s has no weights yet: training it on the built-in scans", bundle.name)
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--bundle_root", str(bundle)]
    code = subprocess.run([*command, "--config_file", str(bundle / "configs" / "train.json")], check=False).returncode
    if code:
        raise SystemExit(f"error: the training of {bundle.name} ended with exit code {code}; its last line says why")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the script; it becomes the server's process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="dbisl", help="name in bundles/, or a bundle's folder")
    parser.add_argument("--studies", help="folder of scans, labels in labels/final/ of it, or a DICOMweb address")
    parser.add_argument("--uncertainty", default="entropy", help="what to score studies by, or disagreement")
    parser.add_argument("--host", default="127.0.0.1", help="the machine itself by default: there is no password")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    try:
        bundle = bundle_folder(options.bundle)
    except DataError as error:
        raise SystemExit(f"error: {error}") from error
    link_bundle(bundle)
    train_if_needed(bundle)
    studies = options.studies or demo_studies(REPOSITORY / "demo_output" / "studies")
    server = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(HERE), "--studies", str(studies)]
    server += ["--conf", "models", bundle.name, "--conf", "uncertainty", options.uncertainty]
    server += ["--host", options.host, "--port", str(options.port)]
    sys.stdout.flush()
    os.execv(sys.executable, server)


if __name__ == "__main__":
    main()
