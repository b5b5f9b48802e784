# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import bundle_run
import common
import real_data
from bundle_run import Run, read_runs
from common import BenchmarkError
from score_report import configurations, csv_report, markdown_report, mean_and_range, read_records, run_record

HEAD = {"dataset": "la_cpu", "script": "SCRIPT", "example": "EXAMPLE", "commit": "c0ffee", "date": "2026-01-02"}
METRICS = ("dice", "jaccard", "hd95_voxel", "hd95_mm", "asd_voxel", "asd_mm")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep all runs and results of a test in its own folder."""
    monkeypatch.setattr(bundle_run, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(real_data, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(real_data, "machine", lambda: "a processor")
    monkeypatch.setattr(real_data, "git_commit", lambda: "abc123")
    return tmp_path


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def scores_text(dice: float, classes: dict[str, float] | None = None, empty: int = 0) -> str:
    def part(value: float, count: int) -> dict:
        statistics = {metric: {"mean": value * 10 if "_" in metric else value} for metric in METRICS}
        return {**statistics, "empty_predictions": count, "absent": 0}

    found = {name: part(value, 0) for name, value in (classes or {"organ": dice}).items()}
    summary = {"num_cases": 20, "empty_distance": 0.0, "classes": found, "mean_over_classes": part(dice, empty)}
    return json.dumps(summary)


def write_list(folder: Path, *configurations: dict, interval: int = 10, name: str = "la_cpu") -> Path:
    content = {"overlay": "la_cpu", "snapshot_interval": interval, "configurations": list(configurations)}
    return write(folder / f"{name}.json", json.dumps(content))


def snapshot(run: Run, epoch: int, folder: str = "run_001") -> Path:
    return write(run.folder / "eval" / folder / f"snapshot_model_epoch={epoch}.pt")


def finished(run: Run, dice: float, **more) -> Run:
    """Make the folder of a run that is trained and scored."""
    write(run.model)
    write(run.folder / "eval" / "run_001" / "checkpoint.pt")
    snapshot(run, 10)
    write(run.scores(1000), scores_text(dice / 2))
    write(run.scores(3000), scores_text(dice, **more))
    return run


class FakeRunner:
    """Stands for the bundle runner: notes the commands and leaves the files that it would leave."""

    def __init__(self, failing: str = "") -> None:
        self.commands: list[list[str]] = []
        self.appended: list[bool] = []
        self.failing = failing

    def __call__(self, command: list[str], log: Path, threads: int | None = None, append: bool = False) -> None:
        self.commands.append(command)
        self.appended.append(append)
        text = common.shown_command(command)
        if self.failing and self.failing in text:
            raise BenchmarkError(f"exit code 1: error: bad scan (log: {log})")
        value = {name: command[command.index(name) + 1] for name in ("--ckpt_dir", "--eval_dir") if name in command}
        if "--ckpt_dir" in value:
            write(Path(value["--ckpt_dir"]) / "model.pt")
        else:
            write(Path(value["--eval_dir"]) / "scores.json", scores_text(0.8))

    def trainings(self) -> list[str]:
        return [common.shown_command(command) for command in self.commands if "training" in command]


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> FakeRunner:
    fake = FakeRunner()
    monkeypatch.setattr(real_data, "run_bundle", fake)
    return fake


def test_shipped_lists_name_their_runs_in_the_order_of_running() -> None:
    names = [run.name for run in read_runs(common.ROOT / "benchmarks" / "la_cpu.json")]
    assert names[:4] == [f"la_cpu_supervised_labeled{n}_seed0" for n in (8, 60, 16, 4)]
    assert names[4:] == ["la_cpu_mean_teacher_labeled8_seed0"]
    narrow = read_runs(common.ROOT / "benchmarks" / "la_cpu_8_channels.json")
    assert narrow[0].name == "la_cpu_8_channels_dbisl_labeled8_seed0"
    options = {
        "": {},
        "labels_only": {},
        "learning_rate_0.1": {"learning_rate": 0.1},
        "prototype_weight_0.1": {"prototype_weight": 0.1},
        "unit_dropout_0": {"network_def::unit_dropout": 0.0},
        "unit_dropout_0_labels_only": {"network_def::unit_dropout": 0.0},
        "unit_dropout_0_student": {"network_def::unit_dropout": 0.0, "published": "@network"},
        "unit_dropout_0_pull_0.01": {"network_def::unit_dropout": 0.0, "pull": 0.01},
        "unit_dropout_0_pull_0.01_student": {"network_def::unit_dropout": 0.0, "pull": 0.01, "published": "@network"},
    }
    assert all(run.options == {"network_def::base_channels": 8, **options[run.variant]} for run in narrow)
    runs = read_runs(common.ROOT / "benchmarks" / "hippocampus.json")
    assert [(run.labeled, run.seed) for run in runs[:6]] == [(n, seed) for n in (8, 160) for seed in (0, 1, 2)]
    assert runs[-1].files[-1] == "ablations/labels_only.json" and runs[-1].seed == 2
    assert all(run.options["network_def::base_channels"] == 8 and run.epochs[0] == 30 for run in runs)
    assert list(runs[0].checkpoints())[-1] == runs[0].epochs[0] * runs[0].epochs[1]


@pytest.mark.parametrize(
    "line, message",
    [
        ({"bundle": "supervised", "labeled": 8}, "incomplete"),
        ({"bundle": "supervised", "labeled": 8, "seeds": [0, 0]}, "labeled8_seed0 is there twice"),
        ({"bundle": "supervised", "labeled": "a/b", "seeds": [0]}, "cannot be a folder's name"),
        ({"bundle": "no_such", "labeled": 8, "seeds": [0]}, "no_such/configs/train.json: cannot be read"),
    ],
)
def test_a_wrong_list_is_one_line(tmp_path: Path, line: dict, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message) as caught:
        read_runs(write_list(tmp_path, line))
    assert "\n" not in str(caught.value)


def test_the_training_command_is_that_of_the_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_run, "RUNS", common.RUNS)
    run = Run("la_cpu", "supervised", 8, 0, 10, options={"learning_rate": 0.02})
    folder = "benchmarks/runs/la_cpu_supervised_labeled8_seed0"
    expected = (
        "python -m monai.bundle run training --config_file "
        "\"['bundles/supervised/configs/train.json','bundles/supervised/configs/datasets/la_cpu.json']\" "
        "--dataset_dir LA --labeled 8 --seed 0 --snapshot_interval 10 "
        f"--ckpt_dir {folder}/models --output_dir {folder}/eval --learning_rate 0.02"
    )
    assert common.shown_command(run.training_command("../shared/la")) == expected
    assert common.shown_command(run.training_command("../shared/la", resume=True)) == expected + " --resume True"
    command = common.shown_command(run.evaluation_command("../shared/la", 1000, Path("x.pt").resolve()))
    assert "configs/evaluate.json']\" --dataset_dir LA --checkpoint " in command
    assert f"--eval_dir {folder}/scores/iteration_1000 --figures 0 --learning_rate 0.02" in command
    assert Run("la_cpu", "dtlp", 8, 0, variant="no_unlabeled").name == "la_cpu_dtlp_no_unlabeled_labeled8_seed0"


def test_checkpoints_are_those_of_the_newest_run_that_can_be_resumed() -> None:
    run = Run("la_cpu", "supervised", 8, 0, 10)
    assert run.started_run() is None
    assert run.checkpoints() == {3000: run.model}
    for number in (2, 9, 10):
        write(run.folder / "eval" / f"run_{number:03d}" / "checkpoint.pt")
    snapshot(run, 20, "run_009")
    snapshot(run, 1, "run_010")
    newest = snapshot(run, 10, "run_010")
    write(run.folder / "eval" / "run_011" / "settings.json")
    assert run.started_run() == newest.parent
    assert run.checkpoints() == {1000: newest, 3000: run.model}


def test_what_is_done_is_not_done_again(tmp_path: Path, runner: FakeRunner) -> None:
    run = finished(Run("la_cpu", "supervised", 8, 0, 10), 0.8)
    log = write(run.log, "old\n")
    path = write_list(tmp_path, {"bundle": "supervised", "labeled": 8, "seeds": [0]})
    assert real_data.main([str(path), "--dataset_dir", "D"]) == 0
    assert runner.commands == []
    run.scores(1000).unlink()
    assert real_data.main([str(path), "--dataset_dir", "D"]) == 0
    assert len(runner.commands) == 1
    assert "epoch=10.pt" in common.shown_command(runner.commands[0])
    assert log.read_text() == "old\n"


def test_a_stopped_training_is_resumed_and_both_commits_are_kept(tmp_path: Path, runner: FakeRunner) -> None:
    stopped, new, begun = (Run("la_cpu", "supervised", n, 0, 10) for n in (4, 8, 16))
    write(stopped.folder / "eval" / "run_001" / "checkpoint.pt")
    write(stopped.folder / "run.json", json.dumps({"commit": "first", "date": "2026-01-01"}))
    write(begun.folder / "eval" / "run_001" / "settings.json")  # stopped before its first epoch ended
    path = write_list(tmp_path, *({"bundle": "supervised", "labeled": n, "seeds": [0]} for n in (4, 8, 16)))
    assert real_data.main([str(path), "--dataset_dir", "D"]) == 0
    assert ["--resume True" in command for command in runner.trainings()] == [True, False, False]
    assert [a for c, a in zip(runner.commands, runner.appended, strict=True) if "training" in c] == [True, False, False]
    info = json.loads((stopped.folder / "run.json").read_text())
    assert (info["commit"], info["resumed"][0]["commit"]) == ("first", "abc123")
    info = json.loads((new.folder / "run.json").read_text())
    assert (info["commit"], info["machine"], info["name"]) == ("abc123", "a processor, 1 at once", new.name)
    assert info["command"].startswith("python -m monai.bundle run training")
    assert run_record(stopped)["commit"] == "first, abc123"


def test_a_failed_run_is_one_line_and_the_others_go_on(
    tmp_path: Path, runner: FakeRunner, capsys: pytest.CaptureFixture
) -> None:
    runner.failing = "labeled 8 "
    lines = [{"bundle": "supervised", "labeled": n, "seeds": [0]} for n in (8, 4)]
    assert real_data.main([str(write_list(tmp_path, *lines)), "--dataset_dir", "D"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("la_cpu_supervised_labeled8_seed0: exit code 1: error: bad scan (log: ")
    assert printed[0].endswith("train.log)")
    assert printed[1] == "la_cpu_supervised_labeled4_seed0: done"
    text = (tmp_path / "results" / "la_cpu.md").read_text()
    assert "| supervised | 4 | 0 |" in text
    assert "Not there yet: la_cpu_supervised_labeled8_seed0." in text


def test_the_table_is_written_after_every_run(
    tmp_path: Path, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [Run("la_cpu", "supervised", n, 0) for n in (4, 8)]
    tables = []
    monkeypatch.setattr(real_data, "write_text", lambda path, text: tables.append(text) if path.suffix == ".md" else 0)
    monkeypatch.setattr(real_data, "train", lambda run, *_: finished(run, 0.8))
    lines = [{"bundle": run.bundle, "labeled": run.labeled, "seeds": [0]} for run in runs]
    real_data.main([str(write_list(tmp_path, *lines)), "--dataset_dir", "D"])
    assert "No run has been scored yet" in tables[0] and "Not there yet" in tables[0]
    assert len(tables) == 3
    assert "Not there yet" not in tables[-1]


def test_a_training_of_another_process_is_left_alone(tmp_path: Path, runner: FakeRunner) -> None:
    run = Run("la_cpu", "supervised", 8, 0, 10)
    write(run.folder / "eval" / "run_001" / "checkpoint.pt")
    run.model.parent.mkdir()
    command = [sys.executable, "-c", "input()", "--ckpt_dir", f"runs/{run.name}/models", "--output_dir", "x"]
    process = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE)
    try:
        with pytest.raises(BenchmarkError, match=f"is being trained by process {process.pid}; repeat"):
            real_data.train(run, "D", 1, "a processor", "unknown")
        assert real_data.training_process(Run("la_cpu", "supervised", 8, 1, 10)) is None
    finally:
        process.communicate(b"\n")
    real_data.train(run, "D", 1, "a processor", "unknown")
    assert len(runner.commands) == 1


def test_a_run_without_record_gets_the_commit_of_the_option() -> None:
    run = finished(Run("la_cpu", "supervised", 8, 0, 10), 0.8)
    assert run_record(run)["commit"] == "unknown"
    assert run_record(run, "feed")["commit"] == "feed"
    write(run.folder / "run.json", json.dumps({"commit": "beef"}))
    assert run_record(run, "feed")["commit"] == "beef"


def test_a_run_whose_final_model_has_no_scores_is_not_in_the_table() -> None:
    run = finished(Run("la_cpu", "supervised", 8, 0, 10), 0.8)
    run.scores(3000).unlink()
    assert run_record(run) is None


def test_one_seed_stands_as_it_is_and_labels_come_in_order() -> None:
    records = [run_record(finished(Run("la_cpu", "supervised", n, 0, 10), n / 100, empty=2)) for n in (60, 8)]
    lines = markdown_report(records, [], HEAD).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == (
        "| bundle | labels | seeds | Dice at 1000 | Dice at 3000 | Jaccard | 95HD (voxel) | 95HD (mm) | ASD (voxel) "
        "| ASD (mm) | empty predictions | training (min) | commit |"
    )
    assert table[2] == (
        "| supervised | 8 | 0 | 0.0400 | 0.0800 | 0.0800 | 0.80 | 0.80 | 0.80 | 0.80 | 2 | - | unknown |"
    )
    assert table[3].startswith("| supervised | 60 | 0 | 0.3000 | 0.6000 |")
    assert len(table) == 4
    assert not any("seeds:" in line for line in lines)
    assert "    SCRIPT" in lines and "    EXAMPLE" in lines


def test_several_seeds_give_mean_and_range_and_each_value() -> None:
    runs = [finished(Run("la_cpu", "supervised", 8, seed, 10), 0.6 + seed / 10, empty=seed) for seed in (2, 0, 1)]
    write(runs[0].log, "00:00 INFO x.SemiSupervisedTrainer: Epoch[1] Complete. Time taken: 00:01:30.000\n")
    records = [run_record(run) for run in runs]
    table = [line for line in markdown_report(records, [], HEAD).splitlines() if line.startswith("|")]
    assert table[2].startswith("| supervised | 8 | 0, 1, 2 | 0.3500 (0.3000 to 0.4000) | 0.7000 (0.6000 to 0.8000) |")
    assert "| 1.0 (0 to 2) | - | unknown |" in table[2]  # one time is known, so there is no mean of the three
    assert [row.split(" | ")[2:5] for row in table[5:]] == [
        [str(seed), f"{0.3 + seed / 20:.4f}", f"{0.6 + seed / 10:.4f}"] for seed in (0, 1, 2)
    ]
    assert "| 2 | 2 |" in table[7]  # of 90 s, two minutes
    rows = list(csv.DictReader(csv_report(records).splitlines()))
    assert [row["seed"] for row in rows] == ["0", "1", "2", "mean", "min", "max"]
    assert [row["dice_3000"] for row in rows] == ["0.6", "0.7", "0.8", "0.7", "0.6", "0.8"]
    assert [row["training_minutes"] for row in rows] == ["", "", "1.5", "", "", ""]


def test_a_csv_file_gives_its_records_back() -> None:
    classes = {"anterior": 0.7, "posterior": 0.5}
    runs = [finished(Run("la_cpu", "supervised", 8, seed, 10), 0.6 + seed / 10, classes=classes) for seed in (0, 1)]
    runs.append(finished(Run("la_cpu", "dtlp", "target", 0, 10, "labels_only"), 0.25, classes=classes))
    write(runs[0].folder / "run.json", json.dumps({"commit": "beef", "date": "2026-01-02", "machine": "a, b"}))
    write(runs[0].log, "00:00 INFO x.SemiSupervisedTrainer: Epoch[1] Complete. Time taken: 00:01:30.000\n")
    text = csv_report([run_record(run) for run in runs])
    assert csv_report(read_records(text)) == text
    assert markdown_report(read_records(text), [], HEAD) == markdown_report([run_record(run) for run in runs], [], HEAD)


def test_rows_of_another_machine_stay_in_the_table(tmp_path: Path, runner: FakeRunner) -> None:
    lines = [{"bundle": "supervised", "labeled": n, "seeds": [0]} for n in (8, 60)]
    path = write_list(tmp_path, *lines)
    other = finished(Run("la_cpu", "supervised", 8, 0, 10, table="la_cpu"), 0.5)
    assert real_data.main([str(path), "--dataset_dir", "D", "--table"]) == 0
    other.folder.rename(tmp_path / "elsewhere")
    finished(Run("la_cpu", "supervised", 60, 0, 10, table="la_cpu"), 0.9)
    assert real_data.main([str(path), "--dataset_dir", "D", "--table"]) == 0
    text = (tmp_path / "results" / "la_cpu.md").read_text(encoding="utf-8")
    assert "| supervised | 8 | 0 | 0.2500 | 0.5000 |" in text and "| supervised | 60 | 0 | 0.4500 | 0.9000 |" in text
    assert "Not there yet" not in text and not runner.commands
    finished(Run("la_cpu", "supervised", 8, 0, 10, table="la_cpu"), 0.7)
    assert real_data.main([str(path), "--dataset_dir", "D", "--table"]) == 0
    assert "| 0.3500 | 0.7000 |" in (tmp_path / "results" / "la_cpu.md").read_text(encoding="utf-8")


def test_several_classes_have_their_own_columns() -> None:
    classes = {"anterior": 0.7, "posterior": 0.5}
    run = finished(Run("la_cpu", "supervised", 8, 0, 10), 0.6, classes=classes)
    table = [line for line in markdown_report([run_record(run)], [], HEAD).splitlines() if line.startswith("|")]
    assert "| Dice at 3000 | Dice anterior | Dice posterior | Jaccard |" in table[0]
    assert "| 0.6000 | 0.7000 | 0.5000 | 0.6000 |" in table[2]


def test_configurations_come_by_labels_then_by_bundle() -> None:
    records = [
        {"bundle": bundle, "labeled": labeled, "seed": seed}
        for bundle, labeled, seed in [
            ("s", "all", 0),
            ("s", 16, 0),
            ("m", 8, 1),
            ("s", 8, 0),
            ("m", 8, 0),
            ("m", 16, 0),
        ]
    ]
    groups = configurations(records)
    assert [(g[0]["bundle"], g[0]["labeled"], [r["seed"] for r in g]) for g in groups] == [
        ("s", 8, [0]),
        ("m", 8, [0, 1]),
        ("s", 16, [0]),
        ("m", 16, [0]),
        ("s", "all", [0]),
    ]


def test_mean_and_range() -> None:
    assert mean_and_range([0.2, 0.6, 0.1]) == (pytest.approx(0.3), 0.1, 0.6)
    assert mean_and_range([0.2, None]) is None
    assert mean_and_range([]) is None


def test_times_of_the_logs(tmp_path: Path) -> None:
    line = "02:44:14 INFO ignite.engine.engine.{}: Epoch[{}] Complete. Time taken: {}\n"
    epochs = [("SemiSupervisedTrainer", 1, "00:01:00.500"), ("SemiSupervisedTrainer", 2, "01:00:00.000")]
    epochs += [("SemiSupervisedTrainer", 2, "00:02:00.000"), ("SupervisedEvaluator", 3, "05:00:00.000")]
    log = write(tmp_path / "train.log", "".join(line.format(*epoch) for epoch in epochs))
    assert common.training_seconds(log) == 180.5
    assert common.training_seconds(tmp_path / "missing.log") is None
    prefix = "03:00:54 INFO medssl: "  # where the bundle's logging is set up
    lines = f"{prefix}case 1/20  9.0 s/case  3 min left\n{prefix}case 11/20  2.0 s/case\ncase 20/20  2.0 case/s\n"
    log = write(tmp_path / "scores.log", "checked\n" + lines)
    assert common.seconds_a_case(log) == pytest.approx((10 * 2.0 + 9 * 0.5) / 19)
    assert common.seconds_a_case(write(log, "case 1/1  9.0 s/case\n")) == 9.0
    assert common.seconds_a_case(tmp_path / "missing.log") is None


def test_an_error_of_a_process_is_its_last_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; print('working'); print(os.environ['OMP_NUM_THREADS']); exit(3)"]
    with pytest.raises(BenchmarkError, match=r"^exit code 3: 2 \(log: .*log\.txt\)$"):
        common.run_bundle(command, tmp_path / "log.txt", threads=2)
    assert (tmp_path / "log.txt").read_text().split() == ["working", "2"]


def test_two_lists_of_one_overlay_keep_their_runs_and_tables_apart(tmp_path: Path, runner: FakeRunner) -> None:
    line = {"bundle": "supervised", "labeled": 8, "seeds": [0]}
    for name in ("la_cpu", "la_cpu_8_channels"):
        assert real_data.main([str(write_list(tmp_path, line, name=name)), "--dataset_dir", "D"]) == 0
        assert (tmp_path / "results" / f"{name}.md").is_file()
        assert (tmp_path / "runs" / f"{name}_supervised_labeled8_seed0").is_dir()
    assert len(runner.trainings()) == 2 and all("datasets/la_cpu.json" in line for line in runner.trainings())


def test_a_list_without_overlay_takes_the_bundles_own_settings(tmp_path: Path, runner: FakeRunner) -> None:
    (run,) = [run for run in read_runs(common.ROOT / "benchmarks" / "many_organs.json") if run.bundle == "supervised"]
    assert (run.name, run.files, run.epochs) == ("many_organs_supervised_labeledall_seed0", ["train.json"], (20, 50))
    content = {"configurations": [{"bundle": "supervised", "labeled": "all", "seeds": [0]}]}
    path = write(tmp_path / "built_in.json", json.dumps(content))
    assert real_data.main([str(path), "--dataset_dir", "builtin:many_organs"]) == 0
    (command,) = runner.trainings()
    assert "datasets" not in command and "--dataset_dir builtin:many_organs" in command
