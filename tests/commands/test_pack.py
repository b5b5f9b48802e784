# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from pathlib import Path

import pytest

from medssl_components import __version__
from medssl_components.__main__ import main
from medssl_components.commands import pack
from medssl_components.data import DataError

OVERLAY = Path(__file__).resolve().parents[2] / "bundles" / "supervised" / "configs" / "datasets" / "la.json"
ARCHIVE = f"left_atrium_v{__version__}.zip"


def test_a_bundle_is_packed_and_verified_from_the_command_line(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.chdir(tmp_path)
    with caplog.at_level("INFO", "medssl"):
        for line in (f"pack supervised --overlay {OVERLAY} --name left_atrium", f"verify dist/{ARCHIVE}"):
            monkeypatch.setattr(sys, "argv", ["medssl_components", *line.split()])
            main()
    lines = [record.getMessage().strip() for record in caplog.records]
    assert lines[0] == f"wrote {Path('dist', 'left_atrium')} and {Path('dist', ARCHIVE)}"
    assert lines[1].startswith(f"code: medssl_components {__version__}+")
    assert lines[2:4] == ["settings: train.json, la.json", "weights: none; --weights FILE adds them"]
    assert (
        lines[4].startswith(f"left_atrium {__version__}: ")
        and "its configs are code: use it if you trust its source" in lines
    )


@pytest.mark.parametrize(
    ("options", "message"), [({"overwrite": "perhaps"}, "overwrite"), ({"weights": "no.pt"}, "no.pt: no such file")]
)
def test_options_are_checked(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        pack("supervised", output=str(tmp_path / "dist"), **options)
    assert not (tmp_path / "dist").exists()
