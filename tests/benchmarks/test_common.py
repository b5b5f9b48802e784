# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import common  # noqa: E402


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean checkout with a table of results."""
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    for name in ("code.py", "benchmarks/results/table.md"):
        (tmp_path / name).write_text("first\n")
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(common, "ROOT", tmp_path)
    return tmp_path


def test_commit_is_dirty_only_if_something_else_than_a_table_changed(repository: Path) -> None:
    """A benchmark rewrites its table as it goes; that must not mark its own later runs."""
    clean = common.git_commit()
    assert len(clean) == 10 and int(clean, 16)
    (repository / "benchmarks" / "results" / "table.md").write_text("second\n")
    (repository / "new.txt").write_text("not tracked\n")
    assert common.git_commit() == clean
    (repository / "code.py").write_text("second\n")
    assert common.git_commit() == f"{clean}-dirty"


def test_a_command_is_shown_without_the_paths_of_a_machine(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "script.py",
        "--dataset_dir",
        str(tmp_path / "la"),
        "--dataset_dir",
        "hippocampus/",
        "[a]",
    ]
    assert common.shown_command(command) == 'python script.py --dataset_dir LA --dataset_dir HIPPOCAMPUS "[a]"'
    assert common.shown_command(["b", "--dataset_dir", "builtin:one_organ"]) == "b --dataset_dir builtin:one_organ"


def test_no_repository_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "ROOT", tmp_path)
    assert common.git_commit() == "unknown"
