# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from medssl_components.data import DataError
from medssl_components.packaging import LargeFile, read_large_files, write_large_files

HASH = "0123456789abcdef" * 4
FILE = LargeFile("models/model.pt", "https://example.org/model.pt?a=1#b", HASH)


def test_what_is_written_is_plain_yaml_and_read_again():
    text = write_large_files([FILE]).decode()
    assert text == (
        'large_files:\n- path: "models/model.pt"\n  url: "https://example.org/model.pt?a=1#b"\n'
        f'  hash_val: "{HASH}"\n  hash_type: "sha256"\n'
    )
    assert read_large_files(text) == [FILE]
    assert read_large_files(write_large_files([FILE, FILE]).decode()) == [FILE, FILE]


def test_monai_reads_the_same(tmp_path):
    yaml = pytest.importorskip("yaml", reason="MONAI reads large_files.yml with pyyaml, which is not here")
    assert yaml.safe_load(write_large_files([FILE])) == {"large_files": [FILE._asdict()]}


def test_the_form_of_other_bundles_is_read():
    text = "# weights\nlarge_files:\n  - path: 'models/model.pt'\n    url: https://example.org/m\n    hash_val: ''\n"
    assert read_large_files(text) == [LargeFile("models/model.pt", "https://example.org/m")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "files:\n- path: a\n  url: https://a",
        "large_files:\n- path: a",
        "large_files:\n  path: a",
        "large_files:\n- path: ../a\n  url: https://a",
        f"large_files:\n- path: a\n  url: https://a\n  hash_val: {HASH}\n  hash_type: crc",
        "large_files:\n- path: a\n  url: https://a\n  hash_val: 12",
        "large_files: [{path: a}]",
    ],
)
def test_other_forms_and_paths_that_leave_the_bundle_are_refused(text):
    with pytest.raises(DataError, match="^large_files.yml: "):
        read_large_files(text)


@pytest.mark.parametrize(
    "file", [FILE._replace(url="http://a"), FILE._replace(url='https://a"'), FILE._replace(hash_val="1")]
)
def test_addresses_and_hashes_are_checked(file):
    with pytest.raises(DataError, match="^weights_"):
        write_large_files([file])
