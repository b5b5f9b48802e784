# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
import logging
import os
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import SimpleInferer
from monai.transforms import AsDiscreted

from medssl_components.engines.score_table import ScoreTable

SPACING = (1.0, 1.0, 2.0)
METRICS = ("dice", "jaccard", "hd95_voxel", "hd95_mm", "asd_voxel", "asd_mm")


def volume(array, path):
    """A map of class indices as a `MetaTensor` (1, X, Y, Z) with an anisotropic, shifted grid."""
    affine = torch.diag(torch.tensor([-SPACING[0], SPACING[1], SPACING[2], 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([10.0, -20.0, 30.0])
    return MetaTensor(torch.as_tensor(array, dtype=torch.float32)[None], affine=affine, meta={"filename_or_obj": path})


def case(prediction, label, path):
    return {"image": volume(prediction, path), "label": volume(label, path)}


def block(first, last, value=1):
    """A map with a block of one class along the last axis."""
    array = np.zeros((6, 6, 8))
    array[2:4, 2:4, first:last] = value
    return array


def evaluate(cases, handlers, num_classes=2, runs=1, batch_size=1):
    """Run a real evaluator whose network gives the logits of the image's class indices."""

    class Network(torch.nn.Module):
        def forward(self, image):
            return torch.nn.functional.one_hot(image[:, 0].long(), num_classes).movedim(-1, 1).float()

    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(cases), batch_size=batch_size),
        network=Network(),
        inferer=SimpleInferer(),
        postprocessing=AsDiscreted(keys="pred", argmax=True),
        val_handlers=handlers,
    )
    for epoch in range(runs):
        evaluator.run(epoch + 1)
    return evaluator


def engine_with(output):
    """An engine that gives this output in each iteration."""
    return Engine(lambda engine, batch: output)


def read(folder):
    rows = list(csv.DictReader((folder / "scores.csv").open(encoding="utf-8", newline="")))
    return rows, json.loads((folder / "scores.json").read_text(encoding="utf-8"))


def test_files_of_a_run(tmp_path):
    cases = [
        case(block(1, 3), block(1, 3), "/data/labelsTs/b.nii.gz"),
        case(block(1, 2), block(4, 5), "/data/labelsTs/a.NRRD"),
    ]
    evaluator = evaluate(cases, [ScoreTable(tmp_path / "new" / "eval", ["background", "left atrium"])], batch_size=2)
    rows, summary = read(tmp_path / "new" / "eval")
    assert sorted(os.listdir(tmp_path / "new" / "eval")) == ["scores.csv", "scores.json"]

    assert list(rows[0]) == ["case", "class", *METRICS, "empty_prediction"]
    assert [(row["case"], row["class"]) for row in rows] == [("a", "left atrium"), ("b", "left atrium")]
    assert [float(rows[0][metric]) for metric in METRICS] == [0, 0, 3, 6, 3, 6]
    assert [float(rows[1][metric]) for metric in METRICS] == [1, 1, 0, 0, 0, 0]
    assert [row["empty_prediction"] for row in rows] == ["0", "0"]

    assert summary["num_cases"] == 2
    assert summary["units"]["hd95_mm"] == "mm" and summary["units"]["asd_voxel"] == "voxel"
    assert summary["classes"]["left atrium"]["dice"] == {"mean": 0.5, "std": pytest.approx(0.5**0.5), "cases": 2}
    assert summary["classes"]["left atrium"]["hd95_mm"]["mean"] == 3
    assert summary["mean_over_classes"] == summary["classes"]["left atrium"]
    assert evaluator.state.scores == summary


def test_mean_over_classes_is_a_mean_of_case_means(tmp_path):
    # case a has both classes with Dice 1 and 0, case b has class 1 alone with Dice 1: case means 0.5 and 1
    both = block(0, 2) + block(4, 6, 2)
    cases = [case(block(0, 2) + block(2, 4, 2), both, "a.nii"), case(block(0, 2), block(0, 2), "b.nii")]
    evaluate(cases, [ScoreTable(tmp_path, ["background", "one", "two"])], num_classes=3)
    rows, summary = read(tmp_path)
    assert [(row["case"], row["class"]) for row in rows] == [("a", "one"), ("a", "two"), ("b", "one"), ("b", "two")]
    assert [rows[3][metric] for metric in METRICS] == [""] * 6
    assert summary["classes"]["one"]["dice"] == {"mean": 1, "std": 0, "cases": 2}
    assert summary["classes"]["two"]["dice"] == {"mean": 0, "std": None, "cases": 1}
    assert summary["classes"]["two"]["absent"] == 1
    assert summary["mean_over_classes"]["dice"]["mean"] == 0.75
    assert summary["mean_over_classes"]["dice"]["cases"] == 2


def test_domains_are_reported_each(tmp_path, caplog):
    """Dice of the cases: mr 1 and 0, ct 0.5; 95HD in mm of mr 0 and 6, of ct 2 (one slice of 2 mm too much)."""
    cases = [
        {**case(block(1, 3), block(1, 3), "a.nii"), "domain": "mr"},
        {**case(block(1, 2), block(4, 5), "b.nii"), "domain": "mr"},
        {**case(block(1, 4), block(1, 2), "c.nii"), "domain": "ct"},
    ]
    table = ScoreTable(tmp_path, ["background", "one"])
    with caplog.at_level(logging.INFO, logger="medssl_components"):
        evaluate(cases, [table], batch_size=2)
    rows, summary = read(tmp_path)
    assert list(rows[0]) == ["case", "domain", "class", *METRICS, "empty_prediction"]
    assert [(row["case"], row["domain"]) for row in rows] == [("a", "mr"), ("b", "mr"), ("c", "ct")]
    assert list(summary["domains"]) == ["ct", "mr"]
    assert summary["num_cases"] == 3 and summary["classes"]["one"]["dice"]["mean"] == 0.5
    mr, ct = summary["domains"]["mr"], summary["domains"]["ct"]
    assert (mr["num_cases"], ct["num_cases"]) == (2, 1)
    assert mr["classes"]["one"]["dice"] == {"mean": 0.5, "std": pytest.approx(0.5**0.5), "cases": 2}
    assert ct["classes"]["one"]["dice"] == {"mean": 0.5, "std": None, "cases": 1}
    assert mr["mean_over_classes"]["hd95_mm"]["mean"] == 3
    assert mr["mean_over_classes"]["jaccard"]["mean"] == 0.5
    assert ct["mean_over_classes"]["jaccard"]["mean"] == pytest.approx(1 / 3)
    log = next(record.message for record in caplog.records if record.name.endswith("score_table"))
    assert [line.split("  ")[0] for line in log.splitlines()[2:]] == ["one", "ct (1 cases): one", "mr (2 cases): one"]


def test_without_domains_the_files_do_not_mention_them(tmp_path):
    evaluate([case(block(1, 2), block(1, 2), "a.nii")], [ScoreTable(tmp_path, ["background", "one"])])
    rows, summary = read(tmp_path)
    assert "domain" not in rows[0] and "domains" not in summary


def test_class_that_no_case_has_is_null(tmp_path):
    evaluate([case(block(0, 2), block(0, 2), "a.nii")], [ScoreTable(tmp_path, ["background", "one", "two"])], 3)
    assert "NaN" not in (tmp_path / "scores.json").read_text() and "nan" not in (tmp_path / "scores.csv").read_text()
    assert read(tmp_path)[1]["classes"]["two"]["dice"] == {"mean": None, "std": None, "cases": 0}


@pytest.mark.parametrize(("empty_distance", "mean", "cases"), [(0.0, 1.5, 2), (9.0, 6.0, 2), (float("nan"), 3.0, 1)])
def test_empty_predictions_are_counted_and_logged(tmp_path, caplog, empty_distance, mean, cases):
    data = [case(block(1, 2), block(4, 5), "a.nii"), case(block(0, 0), block(4, 5), "b.nii")]
    table = ScoreTable(tmp_path, ["background", "left atrium"], empty_distance=empty_distance)
    with caplog.at_level(logging.INFO, logger="medssl_components"):
        evaluate(data, [table])
    rows, summary = read(tmp_path)
    assert [row["empty_prediction"] for row in rows] == ["0", "1"]
    assert summary["classes"]["left atrium"]["empty_predictions"] == 1
    assert summary["classes"]["left atrium"]["hd95_voxel"]["mean"] == mean
    assert summary["classes"]["left atrium"]["hd95_voxel"]["cases"] == cases
    assert summary["classes"]["left atrium"]["dice"]["cases"] == 2
    info, warning = [record for record in caplog.records if record.name.endswith("score_table")]
    assert info.levelno == logging.INFO and "left atrium" in info.message and "hd95_voxel" in info.message
    assert warning.levelno == logging.WARNING and "left atrium 1 of 2 cases" in warning.message


def test_no_warning_without_empty_predictions(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="medssl_components"):
        evaluate([case(block(1, 2), block(1, 3), "a.nii")], [ScoreTable(tmp_path, ["background", "one"])])
    assert [record.levelno for record in caplog.records if record.name.endswith("score_table")] == [logging.INFO]


def test_second_run_starts_afresh(tmp_path):
    cases = [case(block(1, 2), block(1, 2), "a.nii"), case(block(1, 2), block(1, 2), "b.nii")]
    table = ScoreTable(tmp_path, ["background", "one"])
    evaluate(cases, [table], runs=2)
    assert read(tmp_path)[1]["num_cases"] == 2
    evaluate(cases[:1], [table])
    assert read(tmp_path)[1]["num_cases"] == 1


def test_a_file_seen_twice_counts_once_but_names_may_repeat(tmp_path):
    perfect = (block(1, 2), block(1, 2))
    cases = [case(*perfect, "x/a.nii"), case(*perfect, "x/a.nii"), case(*perfect, "y/a.nii")]
    evaluate(cases, [ScoreTable(tmp_path, ["background", "one"])])
    assert [row["case"] for row in read(tmp_path)[0]] == ["a", "a"]


def test_no_case_writes_nothing(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="medssl_components"):
        engine = engine_with([])
        ScoreTable(tmp_path / "eval", ["background", "one"]).attach(engine)
        engine.run([0])
    assert not (tmp_path / "eval").exists()
    assert engine.state.scores == {}
    assert [record.levelname for record in caplog.records if record.name.endswith("score_table")] == ["WARNING"]


def test_failed_write_keeps_the_old_table(tmp_path, monkeypatch):
    cases = [case(block(1, 2), block(1, 2), "a.nii")]
    table = ScoreTable(tmp_path, ["background", "one"])
    evaluate(cases, [table])
    before = (tmp_path / "scores.csv").read_text()

    def full_disk(path, text, **_):
        path.open("w").write(text[:10])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="no space left"):
        evaluate([case(block(1, 2), block(4, 5), "b.nii")], [table])
    assert (tmp_path / "scores.csv").read_text() == before
    assert sorted(os.listdir(tmp_path)) == ["scores.csv", "scores.json"]


def test_name_of_the_prediction_serves_where_the_label_has_none(tmp_path):
    data = case(block(1, 2), block(1, 2), "somewhere/a_b.mha")
    del data["label"].meta["filename_or_obj"]
    engine = engine_with([{"pred": data["image"], "label": data["label"]}])
    ScoreTable(tmp_path, ["background", "one"]).attach(engine)
    engine.run([0])
    assert read(tmp_path)[0][0]["case"] == "a_b"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"pred": 0}, "decollate=True"),
        ([{"label": volume(block(1, 2), "a.nii")}], "'pred' must be a MetaTensor .* got NoneType"),
        ([{"label": volume(block(1, 2), "a.nii"), "pred": torch.zeros(1, 6, 6, 8)}], "'pred' must be a MetaTensor"),
        ([{"label": volume(block(1, 2), "a.nii"), "pred": MetaTensor(torch.zeros(2, 6, 6, 8))}], r"got \(2, 6, 6, 8\)"),
        ([{"label": volume(block(1, 2), ""), "pred": volume(block(1, 2), "")}], "filename_or_obj"),
        ([{"label": volume(block(1, 2, 5), "x/a.nii"), "pred": volume(block(1, 2), "a.nii")}], "x/a.nii: label has"),
        ([{"label": volume(block(1, 2), "x/a.nii"), "pred": volume(block(1, 2)[1:], "a.nii")}], "x/a.nii: .* one grid"),
    ],
)
def test_errors_name_the_key_or_the_file(tmp_path, output, message):
    engine = engine_with(output)
    ScoreTable(tmp_path, ["background", "one"]).attach(engine)
    with pytest.raises(ValueError, match=message):
        engine.run([0])


@pytest.mark.parametrize("class_names", [[], ["background"], ["background", "one", "one"]])
def test_class_names(tmp_path, class_names):
    with pytest.raises(ValueError, match="class_names"):
        ScoreTable(tmp_path, class_names)


def test_two_dimensions(tmp_path):
    affine = np.diag([0.5, 0.5, 7.0, 1.0])
    label, prediction = torch.zeros(1, 6, 6), torch.zeros(1, 6, 6)
    label[0, 1, 1] = prediction[0, 4, 1] = 1
    cases = [
        {
            "image": MetaTensor(prediction, affine=affine, meta={"filename_or_obj": "a.nii"}),
            "label": MetaTensor(label, affine=affine, meta={"filename_or_obj": "a.nii"}),
        }
    ]
    evaluate(cases, [ScoreTable(tmp_path, ["background", "one"])])
    assert [float(read(tmp_path)[0][0][metric]) for metric in METRICS] == [0, 0, 3, 1.5, 3, 1.5]


def _process(rank, folder, gather):
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    shares = [["c.nii", "a.nii"], ["b.nii", "a.nii"]]  # samplers pad with repeated cases
    cases = [case(block(1, 2), block(1, 2), path) for path in shares[rank]]
    if gather or rank == 0:
        engine = evaluate(
            cases, [ScoreTable(f"{folder}/{'all' if gather else 'one'}", ["background", "one"], gather=gather)]
        )
        Path(f"{folder}/seen_{rank}").write_text(str(engine.state.scores["num_cases"]))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its processes by fork")
@pytest.mark.parametrize(("gather", "cases"), [(True, ["a", "b", "c"]), (False, ["a", "c"])])
def test_two_processes(tmp_path, gather, cases):
    torch.multiprocessing.start_processes(_process, (str(tmp_path), gather), nprocs=2, start_method="fork")
    rows, summary = read(tmp_path / ("all" if gather else "one"))
    assert [row["case"] for row in rows] == cases
    assert summary["num_cases"] == len(cases)
    if gather:
        assert [(tmp_path / f"seen_{rank}").read_text() for rank in (0, 1)] == ["3", "3"]
