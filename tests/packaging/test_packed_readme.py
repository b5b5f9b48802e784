# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from medssl_components.packaging import PackedReadme

BUNDLES = sorted(path.parent for path in Path(__file__).resolve().parents[2].glob("bundles/*/configs"))


@pytest.fixture(params=BUNDLES, ids=lambda path: path.name)
def bundle(request):
    return request.param


def rewrite(bundle, **options):
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    readme = PackedReadme(bundle.name, "0.1.0+0123", metadata, **options)
    return readme.rewrite((bundle / "docs" / "README.md").read_text())


def test_nothing_leads_out_of_the_bundle(bundle):
    text = rewrite(bundle)
    assert "bundles/" not in text and "../.." not in text and "repository root" not in text
    assert "the repository's README" not in text
    for target in re.findall(r"\]\((?!https?:|#)([^)]*)\)", text):
        assert (bundle / "docs" / target).is_file(), target
    for target in re.findall(r"configs/[\w/.]+\.json", text):
        assert (bundle / target).is_file(), target
    assert "no weights come with the bundle" in text and "pip install torch==" in text


def test_overlay_and_weights_are_stated(bundle):
    sentence = "The weights are here."
    text = rewrite(bundle, overlays=("la.json",), changed={"spacing": [2, 2, 2], "intensity": {}}, weights=sentence)
    assert re.search(r"^\| `spacing` \| .* \| `\[2, 2, 2\]` \|$", text, re.MULTILINE)
    assert re.search(r"^\| `intensity` \| .* \| see `configs/` \|$", text, re.MULTILINE)
    assert "`train.json` and `inference.json` have the settings of `la.json`." in text
    assert text.count(sentence) == 2
    assert "no weights come" not in text and "small run on the synthetic scans" not in text
