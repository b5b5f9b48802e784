# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import stat
import zipfile

import pytest

from medssl_components.data import DataError
from medssl_components.packaging.packed_files import packed_files


def make(path, *names, mode=0):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, f"content of {name}")
    return path


def test_folder_and_zip_give_the_same(tmp_path):
    archive = make(tmp_path / "a.zip", "top/", "top/x", "top/sub/y")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path)
    for files in (packed_files(archive), packed_files(tmp_path / "top")):
        assert files.name == "top" and sorted(files.names) == ["sub/y", "x"]
        with files.open("sub/y") as stream:
            assert stream.read() == b"content of top/sub/y"


@pytest.mark.parametrize("name", ["../x", "top/../../x", "/x", "top\\..\\x", "C:/x", "other/x", "x", "top/X"])
def test_members_elsewhere_or_twice_are_refused(tmp_path, name):
    with pytest.raises(DataError, match=str(tmp_path / "a.zip")):
        packed_files(make(tmp_path / "a.zip", "top/x", name))


def test_links_are_refused(tmp_path):
    with pytest.raises(DataError, match="is a link"):
        packed_files(make(tmp_path / "a.zip", "top/x", mode=stat.S_IFLNK | 0o777))
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "x").symlink_to(tmp_path / "a.zip")
    with pytest.raises(DataError, match="leads out"):
        packed_files(tmp_path / "top")


def test_a_damaged_zip_is_named(tmp_path):
    archive = make(tmp_path / "a.zip", "top/x")
    archive.write_bytes(archive.read_bytes().replace(b"content of", b"contents o"))
    with pytest.raises(DataError, match="x is damaged"), packed_files(archive).open("x"):
        pass
    archive.write_bytes(b"no zip")
    with pytest.raises(DataError, match="is no zip"):
        packed_files(archive)
    with pytest.raises(DataError, match="no such folder or zip"):
        packed_files(tmp_path / "nothing")
