# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import psutil
import pytest
import torch
from monai.transforms import Compose, EnsureTyped, Orientationd, RandFlipd, RandSpatialCropd, Spacingd

from medssl_components.data import CaseDataset, CaseFolder, DataError, LoadCased, ShiftDomaind

SHAPE = (10, 9, 8)
NATIVE_BYTES = 10 * 9 * 8 * 5


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, make_folder: Callable[..., Path]) -> Path:
    return make_folder(tmp_path_factory.mktemp("source") / "data", labeled=4, shape=SHAPE)


@pytest.fixture
def folder(tmp_path: Path, source: Path) -> Path:
    return shutil.copytree(source, tmp_path / "data")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose voxels were read."""
    names: list[str] = []
    read = LoadCased._read

    def note(self: LoadCased, file: str) -> torch.Tensor:
        names.append("/".join(Path(file).parts[-2:]))
        return read(self, file)

    monkeypatch.setattr(LoadCased, "_read", note)
    return names


def chain(spacing: float = 1.5) -> Compose:
    keys = ["image", "label"]
    grid = [
        Orientationd(keys, axcodes="RAS", labels=None, allow_missing_keys=True),
        Spacingd(keys, pixdim=[spacing] * 3, mode=("bilinear", "nearest"), allow_missing_keys=True),
    ]
    random = [
        RandSpatialCropd(keys, roi_size=(4, 4, 4), random_size=False, allow_missing_keys=True),
        RandFlipd(keys, prob=0.5, spatial_axis=0, allow_missing_keys=True),
    ]
    typed = EnsureTyped(keys, dtype=[torch.float32, torch.uint8], track_meta=False, allow_missing_keys=True)
    return Compose([LoadCased(keys, num_classes=2), Compose(grid), typed, Compose(random)])


def dataset(folder: Path, part: str = "labeled", **options: object) -> CaseDataset:
    spacing = options.pop("to", 1.5)
    return CaseDataset(getattr(CaseFolder(str(folder)), part), chain(spacing), **options)


def item(cases: CaseDataset, index: int, seed: int = 0) -> dict[str, np.ndarray]:
    cases.set_random_state(seed)
    return {key: value.numpy().copy() for key, value in cases[index].items()}


def assert_equal(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> None:
    assert set(one) == set(two)
    for key in one:
        np.testing.assert_array_equal(one[key], two[key])


def test_nothing_is_read_before_it_is_needed(tmp_path: Path) -> None:
    cases = dataset(tmp_path / "gone", cache=str(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()
    with pytest.raises(DataError):
        len(cases)


def test_items_have_the_keys_of_their_stream(folder: Path) -> None:
    labeled, unlabeled = item(dataset(folder), 0), item(dataset(folder, "unlabeled"), 0)
    assert {key: (value.shape, value.dtype) for key, value in labeled.items()} == {
        "image": ((1, 4, 4, 4), np.float32),
        "label": ((1, 4, 4, 4), np.uint8),
    }
    assert set(unlabeled) == {"image"}


@pytest.mark.parametrize(("cache", "kept"), [(1.0, 4), (1, 4), (0.5, 2), (0, 0)])
def test_a_fraction_of_the_cases_is_read_once(folder: Path, reads: list[str], cache: float, kept: int) -> None:
    cases = dataset(folder, cache=cache)
    cases.load()
    assert sorted(set(reads)) == sorted(
        f"{kind}Tr/case_0{k}.nii.gz" for kind in ("images", "labels") for k in range(1, kept + 1)
    )
    reads.clear()
    for index in (*range(4), *range(4)):
        item(cases, index)
    assert len(reads) == 2 * 2 * (4 - kept)


@pytest.mark.parametrize(
    ("available", "spacing", "kept"),
    [
        (10**9, "native", 4),
        (2 * 2 * NATIVE_BYTES, "native", 2),
        (2 * 2 * NATIVE_BYTES - 2, "native", 1),
        (0, "native", 0),
        (2 * 2 * NATIVE_BYTES * 2.16, (1.0, 1.0, 1.0), 2),  # a voxel has 1.2 x 0.9 x 2.0 = 2.16 mm3
        (2 * 2 * NATIVE_BYTES, (1.2, 0.9, 1.0), 1),
    ],
)
def test_auto_keeps_what_fits_half_of_the_free_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str], available: float, spacing: object, kept: int
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=available + 1e-3))
    dataset(folder, cache="auto", spacing=spacing).load()
    assert len(reads) == 2 * kept


@pytest.mark.parametrize("cache", [-0.1, 1.5, True])
def test_a_cache_that_is_neither(folder: Path, cache: float) -> None:
    with pytest.raises(DataError) as caught:
        dataset(folder, cache=cache).load()
    assert str(caught.value) == f'cache is {cache!r}; give "auto", a fraction from 0 to 1 or a folder'


def test_all_caches_give_the_same_items(folder: Path, tmp_path: Path) -> None:
    datasets = [dataset(folder, cache=cache) for cache in ("auto", 0.5, 0, str(tmp_path / "cache"))]
    datasets.append(dataset(folder, cache=str(tmp_path / "cache")))
    for index in range(4):
        for seed in (1, 2):
            first = item(datasets[0], index, seed)
            for other in datasets[1:]:
                assert_equal(first, item(other, index, seed))


def test_the_seed_alone_makes_an_item(folder: Path) -> None:
    cases = dataset(folder)
    first = item(cases, 1, seed=5)
    item(cases, 2, seed=6)
    cases[1]
    assert_equal(first, item(cases, 1, seed=5))
    assert len({item(cases, 1, seed)["image"].tobytes() for seed in range(8)}) > 4


def test_a_folder_of_items_serves_the_next_run(folder: Path, tmp_path: Path, reads: list[str]) -> None:
    for part in ("labeled", "unlabeled"):
        cases = dataset(folder, part, cache=str(tmp_path / "cache"))
        expected = [item(cases, index) for index in range(len(cases))]
        assert len(reads) == (2 if part == "labeled" else 1) * len(cases)
        reads.clear()
        again = dataset(folder, part, cache=str(tmp_path / "cache"))
        for index, one in enumerate(expected):
            assert_equal(one, item(again, index))
        assert not reads


def test_a_folder_of_items_serves_streams_that_share_their_transforms(
    folder: Path, tmp_path: Path, reads: list[str]
) -> None:
    for expected in (2 * 4 + 2, 0):
        transforms = chain()
        for part in ("labeled", "unlabeled"):
            cases = CaseDataset(getattr(CaseFolder(str(folder)), part), transforms, cache=str(tmp_path / "cache"))
            [item(cases, index) for index in range(len(cases))]
        assert len(reads) == expected
        reads.clear()


def test_one_file_in_two_domains_is_two_items_of_the_cache(folder: Path, tmp_path: Path) -> None:
    transforms = [LoadCased("image", num_classes=2), ShiftDomaind("image", "b", invert=True)]
    path = str(folder / "imagesTr/case_01.nii.gz")
    cases = [{"image": path}, {"image": path, "domain": "a"}, {"image": path, "domain": "b"}]
    for _ in range(2):
        whole = CaseDataset(cases, transforms, cache=str(tmp_path / "cache"))
        plain, first, second = (whole[index]["image"] for index in range(3))
        assert torch.equal(plain, first) and not torch.allclose(first, second)


def test_domains_are_those_of_the_cases() -> None:
    assert CaseDataset([{"image": "x"}, {"image": "y", "domain": "b"}], []).domains == ["", "b"]


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_a_changed_file_is_read_again(folder: Path, tmp_path: Path, reads: list[str], kind: str) -> None:
    cache = str(tmp_path / "cache")
    for index in range(4):
        item(dataset(folder, cache=cache), index)
    path = folder / f"{kind}Tr/case_02.nii.gz"
    volume = nibabel.load(path)
    changed = np.asarray(volume.dataobj)
    changed[:] = 1
    before = path.stat()
    nibabel.save(nibabel.Nifti1Image(changed, volume.affine), path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    reads.clear()
    new = [item(dataset(folder, cache=cache), index) for index in range(4)]
    assert sorted(reads) == ["imagesTr/case_02.nii.gz", "labelsTr/case_02.nii.gz"]
    assert (new[1][kind.removesuffix("s")] == 1).all()


def test_other_transforms_do_not_take_the_items_of_these(folder: Path, tmp_path: Path, reads: list[str]) -> None:
    cache = str(tmp_path / "cache")
    item(dataset(folder, cache=cache), 0)
    reads.clear()
    assert_equal(item(dataset(folder, cache=cache, to=3.0), 0), item(dataset(folder, to=3.0, cache=0), 0))
    assert len(reads) == 2 * 2


def test_a_bad_file_is_named_through_the_cache(folder: Path) -> None:
    path = folder / "imagesTr/case_03.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])
    for cache in ("auto", str(folder / "cache")):
        with pytest.raises(RuntimeError) as caught:
            cases = dataset(folder, cache=cache)
            [item(cases, index) for index in range(4)]
        error: BaseException | None = caught.value
        while not isinstance(error, DataError):
            error = error.__cause__
        assert str(error).startswith(f"{path}: cannot be read")
