# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from medssl_components.data import DataError
from medssl_components.packaging import safe_path


@pytest.mark.parametrize("name", ["LICENSE", "models/model.pt", "docs/a b.txt", "configs/..json"])
def test_plain_paths_pass(name):
    assert safe_path(name, "list") == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "a/../../b", "a/..", "/etc/passwd", "C:/a", "c:a", "a\\b", "a//b", "./a", "a/", "a\nb"],
)
def test_what_leaves_the_folder_or_is_spelt_otherwise_is_refused(name):
    with pytest.raises(DataError, match="^list: the path "):
        safe_path(name, "list")
