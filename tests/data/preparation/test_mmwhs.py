# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import nibabel
import numpy as np
import pytest
from scipy.ndimage import zoom

from medssl_components.data import CaseFolder, DataError, case_name
from medssl_components.data.preparation import load_split, prepare_folder


@pytest.fixture
def fake(fake_downloads: ModuleType) -> ModuleType:
    """The fakes of this data set."""
    return fake_downloads.mmwhs


@pytest.fixture
def tree(tmp_path: Path, fake: ModuleType) -> Path:
    return fake.download(tmp_path / "MM-WHS 2017 Dataset")


def classes(label: np.ndarray, stray: int = 2) -> np.ndarray:
    table = {205: 1, 420: 2, 421: stray, 500: 3, 820: 4}
    return np.vectorize(lambda value: table.get(value, 0))(label).astype(np.uint8)


def run(tree: Path, out: Path, **options: object) -> dict:
    return prepare_folder("mmwhs", tree, out, **{"recipe": "none", "partial": True, **options})


@pytest.mark.parametrize("way", ["ct2mr", "mr2ct"])
def test_labels_are_of_one_modality_and_all_else_of_the_other(way: str) -> None:
    split = load_split(f"mmwhs_ad_{way}")
    source, target = way.split("2")
    domains = split["domains"]
    assert [domains[case] for case in split["training"]] == [source] * 16 + [target] * 13
    assert {domains[case] for case in (*split["validation"], *split["test"])} == {target}
    assert split["labeled"]["source"] == split["training"][:16]


def test_import_turns_to_left_posterior_superior_without_resampling(fake, tree, tmp_path, tools) -> None:
    report = run(tree, tmp_path / "out")
    for name in fake.NAMES:
        part = "Ts" if name == "ct_train_1003" else "Tr"
        image, label = fake.heart(name)
        found, affine = tools["load"](tmp_path / "out" / f"images{part}" / f"{name}.nii.gz")
        assert np.array_equal(found, image) and nibabel.aff2axcodes(affine) == ("L", "P", "S")
        before = fake.affine(name)[:3] @ [*np.argwhere(fake.stored(image, name) == 2000)[0], 1]
        assert np.allclose(affine[:3] @ [3, 5, 7, 1], before, atol=1e-4)
        found, _ = tools["load"](tmp_path / "out" / f"labels{part}" / f"{name}.nii.gz")
        if name != "mr_train_1002":
            assert np.array_equal(found, classes(label)) and set(np.unique(found)) == {0, 1, 2, 3, 4}
    records = report["cases"]
    assert {name: (records[name]["modality"], records[name]["domain"]) for name in fake.NAMES[1:3]} == {
        "ct_train_1003": ("CT", "ct"),
        "mr_train_1002": ("MR", "mr"),
    }
    assert np.allclose(records["ct_train_1001"]["spacing"], [0.4, 0.5, 0.6])
    assert np.allclose(records["mr_train_1007"]["spacing"], [1.1, 0.9, 1.3], atol=1e-2)


def test_both_directions_come_from_one_run(tree, tmp_path) -> None:
    report = run(tree, tmp_path / "out")
    assert report["split"] == "mmwhs_ad_mr2ct"
    assert report["counts"] == {
        "training": 3,
        "validation": 0,
        "test": 1,
        "for_other_splits": 1,
        "missing": 32,
        "not_used": 0,
    }
    other = tmp_path / "out" / "splits" / "mmwhs_ad_ct2mr.json"
    lists = []
    for split in ("auto", str(other)):
        folder = CaseFolder(str(tmp_path / "out"), labeled="source", split=split)
        parts = (folder.labeled, folder.unlabeled, folder.test)
        lists.append([{case_name(case["image"]): case["domain"] for case in cases} for cases in parts])
    assert lists == [
        [{"mr_train_1010": "mr", "mr_train_1002": "mr"}, {"ct_train_1001": "ct"}, {"ct_train_1003": "ct"}],
        [{"ct_train_1001": "ct"}, {"mr_train_1002": "mr", "mr_train_1010": "mr"}, {"mr_train_1007": "mr"}],
    ]
    assert json.loads(other.read_text())["name"] == "mmwhs_ad_ct2mr"
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["numTraining"] == 4


@pytest.mark.parametrize(("recipe", "stray"), [("none", 2), ("ad_as_published", 0)])
def test_the_value_421_is_repaired_or_left_out(fake, tree, tmp_path, tools, recipe: str, stray: int) -> None:
    report = run(tree, tmp_path / "out", recipe=recipe)
    meaning = {2: "the left atrium, 420", 0: "background, as the published code does"}[stray]
    assert f"mr_train_1010: 1 voxel(s) of its label have the value 421; taken as {meaning}" in report["warnings"]
    found, _ = tools["load"](tmp_path / "out" / "labelsTr" / "mr_train_1010.nii.gz")
    label = fake.heart("mr_train_1010")[1]
    if recipe == "none":
        assert np.array_equal(found, classes(label, stray)) and found[9, 7, 12] == stray
    else:
        assert np.array_equal(found, published(*fake.heart("mr_train_1010"), stray)[1])


def published(image: np.ndarray, label: np.ndarray, stray: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """What A&D do, with numpy alone, on axes x, y, z."""
    label = classes(label, stray)
    voxels = np.argwhere(label)
    box = tuple(
        slice(max(low - 4, 0), min(high + 4, side))
        for low, high, side in zip(voxels.min(0), voxels.max(0), label.shape, strict=True)
    )
    image = image[box].astype(float)
    image = np.clip(image, 0, np.percentile(image, 98))
    factors = [144 / side for side in image.shape]
    image = zoom((image - image.mean()) / image.std(), factors, order=0)
    return image, zoom(label[box], factors, order=0)


def test_recipe_is_that_of_the_published_code(fake, tree, tmp_path, tools) -> None:
    report = run(tree, tmp_path / "out", recipe="ad")
    assert any(note.startswith("given-ROI protocol") for note in report["notes"])
    for name, part in (("ct_train_1001", "Tr"), ("ct_train_1003", "Ts"), ("mr_train_1007", "Tr")):
        image, label = published(*fake.heart(name))
        found, affine = tools["load"](tmp_path / "out" / f"images{part}" / f"{name}.nii.gz")
        assert found.shape == (144, 144, 144) and np.allclose(found, image, atol=1e-4)
        assert np.array_equal(tools["load"](tmp_path / "out" / f"labels{part}" / f"{name}.nii.gz")[0], label)
    # x: plates of the four classes from 6 to 9, so 2 .. 12 of 0.4 mm become 144 voxels.
    _, affine = tools["load"](tmp_path / "out" / "imagesTr" / "ct_train_1001.nii.gz")
    assert np.isclose(np.linalg.norm(affine[:3, 0]), 0.4 * 10 / 143)
    assert np.isclose(affine[0, 3], fake.CT[0, 3] - 2 * 0.4)


def test_stray_voxels_of_one_case_are_cleared_near_three_faces(fake, tree, tmp_path, tools) -> None:
    """The first four planes along x and z, and of the last ten along y all but the last, as published."""
    report = run(tree, tmp_path / "out")
    assert "mr_train_1002: 4 stray voxel(s) of its label were cleared near three faces" in report["warnings"]
    image, label = fake.heart("mr_train_1002")
    label[tuple(np.transpose(fake.STRAY))] = 0
    found, _ = tools["load"](tmp_path / "out" / "labelsTr" / "mr_train_1002.nii.gz")
    assert np.array_equal(found, classes(label)) and all(found[voxel] == 3 for voxel in fake.KEPT)
    run(tree, tmp_path / "ad", recipe="ad")
    found, _ = tools["load"](tmp_path / "ad" / "labelsTr" / "mr_train_1002.nii.gz")
    assert np.array_equal(found, published(image, label)[1])


def broken(tree: Path, out: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        run(tree, out, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_broken_trees_are_one_line_that_names_the_file(fake, tree, tmp_path, tools) -> None:
    name = "ct_train_1001"
    image, label = fake.heart(name)
    path = tree / "ct_train1" / f"{name}_label.nii.gz"
    wrong = label.copy()
    wrong[0, 0, :3] = 2220
    tools["write_nifti"](path, wrong, fake.CT)
    known = "0, 205, 420, 421, 500, 550, 600, 820, 850"
    assert broken(tree, tmp_path / "out") == f"{path}: 3 voxel(s) have the label 2220, which is none of {known}"
    tools["write_nifti"](path, label.astype(np.uint8), fake.CT)
    assert broken(tree, tmp_path / "out").startswith(f"{path}: ")
    tools["write_nifti"](path, label.transpose(1, 0, 2), fake.CT)
    assert broken(tree, tmp_path / "out").startswith(f"{path}: has the shape (24, 26, 22)")
    tools["write_nifti"](path, label, fake.MR)
    assert broken(tree, tmp_path / "out").startswith(f"{path}: its spacing or directions differ")
    tools["write_nifti"](path, label, fake.CT)
    twin = tools["write_nifti"](tree / "copy" / path.name, label, fake.CT)
    assert broken(tree, tmp_path / "out").startswith(f"{path}: another label of the case '{name}' is {twin}")
    twin.unlink()
    path.unlink()
    message = broken(tree, tmp_path / "out", partial=False)
    assert f"33 of the 36 cases of the split mmwhs_ad_mr2ct are not complete, for example there is no {path.name}" in (
        message
    )
