# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import medssl_components
from medssl_components.packaging import vendored_package

PACKAGE = Path(medssl_components.__file__).parent


def fake(folder, content="x = 1\n"):
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text('"""A package."""\n\n__version__ = "0.1.0"\n')
    (folder / "part.py").write_text(content)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "part.pyc").write_bytes(b"")
    return folder


def test_every_module_and_every_list_is_there():
    files = vendored_package().files
    assert {"medssl_components/__init__.py", "medssl_components/data/splits/la_uamt.json"} <= set(files)
    assert {name.rsplit(".", 1)[1] for name in files} == {"py", "json"}
    assert len(files) == 1 + sum(path.suffix in (".py", ".json") for path in PACKAGE.rglob("*"))


def test_the_version_is_that_of_the_content(tmp_path):
    one, same = (vendored_package(fake(tmp_path / name / "medssl_components")) for name in ("one", "same"))
    other = vendored_package(fake(tmp_path / "other" / "medssl_components", "x = 2\n"))
    moved = fake(tmp_path / "moved" / "medssl_components")
    (moved / "part.py").rename(moved / "piece.py")
    assert vendored_package(moved).version != one.version
    assert one == same
    assert one.version != other.version and one.module != other.module
    assert one.version.startswith(f"{medssl_components.__version__}+")
    assert one.files["medssl_components/__init__.py"] == f'"""A package."""\n\n__version__ = "{one.version}"\n'.encode()
    assert one.files["medssl_components/part.py"] == b"x = 1\n"


SERVE = """
import importlib, sys
for folder, module in zip(sys.argv[1::2], sys.argv[2::2]):
    sys.path.insert(0, folder)
    importlib.import_module(module)
    print(sys.modules["medssl_components"].__version__)
"""


@pytest.mark.parametrize("same", [False, True])
def test_a_second_version_in_one_process_is_named_in_one_line(tmp_path, same):
    arguments, versions = [], []
    for name, content in (("one", "x = 1\n"), ("two", "x = 1\n" if same else "x = 2\n")):
        package = vendored_package(fake(tmp_path / "source" / name / "medssl_components", content))
        for path, text in package.files.items():
            target = tmp_path / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text)
        arguments += [str(tmp_path / name), package.module]
        versions.append(package.version)
    shutil.rmtree(tmp_path / "source")
    done = subprocess.run(
        [sys.executable, "-c", SERVE, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [versions[0]] * 2
    lines = [line for line in done.stderr.splitlines() if "medssl_components" in line]
    expected = (
        f"the bundle in {tmp_path / 'two'} was packed with medssl_components {versions[1]}, but {versions[0]}"
        f" is loaded, from {tmp_path / 'one' / 'medssl_components'}: run it in another process"
    )
    assert lines == ([] if same else [expected])
