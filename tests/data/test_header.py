# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from medssl_components.data import DataError, Header, LoadCased, read_header

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
SHAPE = (7, 6, 5)
SPACING = np.array([1.2, 0.9, 2.0])


def oblique() -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [10, -15, 20], degrees=True).as_matrix() * SPACING
    affine[:3, 3] = (90.0, -70.0, 12.5)
    return affine


@pytest.fixture
def same_grid(tmp_path: Path) -> dict[str, Path]:
    """One oblique volume, written by ITK in every format."""
    array = np.random.default_rng(0).normal(size=SHAPE[::-1]).astype(np.float32)
    image = itk.image_from_array(array)
    image.SetSpacing([float(side) for side in SPACING])
    image.SetOrigin((12.0, -30.0, 7.5))
    image.SetDirection(itk.matrix_from_array(Rotation.from_euler("xyz", [10, -15, 20], degrees=True).as_matrix()))
    for suffix in SUFFIXES:
        itk.imwrite(image, str(tmp_path / f"a{suffix}"))
    return {suffix: tmp_path / f"a{suffix}" for suffix in SUFFIXES}


def test_all_formats_have_one_grid_in_ras(same_grid: dict[str, Path]) -> None:
    first = read_header(same_grid[".nii.gz"])
    assert first.shape == SHAPE
    np.testing.assert_allclose(first.affine[:3, 3], (-12.0, 30.0, 7.5), atol=1e-4)
    for path in same_grid.values():
        header = read_header(path)
        assert (header.shape, header.channels) == (SHAPE, 1)
        np.testing.assert_allclose(header.affine, first.affine, atol=1e-4)
        np.testing.assert_allclose(header.spacing, SPACING, atol=1e-4)
        assert header.displacement(first) < 1e-4


def test_the_header_is_that_of_the_loaded_volume(same_grid: dict[str, Path]) -> None:
    load = LoadCased("image", num_classes=2)
    voxels = [load({"image": str(path)})["image"] for path in same_grid.values()]
    for volume, path in zip(voxels, same_grid.values(), strict=True):
        assert tuple(volume.shape) == (1, *SHAPE)
        np.testing.assert_allclose(volume.affine, read_header(path).affine, atol=1e-6)
        np.testing.assert_array_equal(volume.numpy(), voxels[0].numpy())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_affine_and_the_channels_that_were_written_are_read(
    tmp_path: Path, write_volume: Callable[..., Path], suffix: str, channels: int
) -> None:
    array = np.zeros((*SHAPE, channels) if channels > 1 else SHAPE, np.float32)
    header = read_header(write_volume(tmp_path / f"a{suffix}", array, oblique()))
    assert (header.shape, header.channels) == (SHAPE, channels)
    np.testing.assert_allclose(header.affine, oblique(), atol=1e-6)


def test_displacement_is_the_largest_at_a_corner() -> None:
    one = Header((11, 11, 11), 1, np.diag([1.0, 1.0, 1.0, 1.0]))
    shifted = np.eye(4)
    shifted[:3, 3] = (3.0, 0.0, 4.0)
    assert one.displacement(Header((11, 11, 11), 1, shifted)) == pytest.approx(5.0)
    assert one.displacement(Header((11, 11, 11), 1, np.diag([1.0, 1.0, 1.1, 1.0]))) == pytest.approx(1.0)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_no_volume_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"this is no volume at all " * 40)
    with pytest.raises(DataError) as caught:
        read_header(path)
    assert str(caught.value).startswith(f"{path}: cannot be read as a volume (")
    assert str(caught.value).endswith("); copy it again")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_and_a_missing_file_are_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with pytest.raises(DataError) as caught:
        read_header(path)
    assert str(caught.value) == f"{path}: no such file"
    path.write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read as a volume"):
        read_header(path)


def test_a_damaged_compressed_header_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).normal(size=SHAPE), np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[12:60] = b"\xff" * 48
    path.write_bytes(content)
    with pytest.raises(DataError, match="a.nii.gz: cannot be read as a volume"):
        read_header(path)


def test_a_source_line_of_the_reading_library_is_no_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    path.write_text("NRRD0004\ntype: shot\ndimension: 3\nsizes: 7 6 5\nencoding: raw\n\n")
    with pytest.raises(DataError) as caught:
        read_header(path)
    assert str(caught.value) == f'{path}: cannot be read as a volume (couldn\'t parse type "shot"); copy it again'


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_a_flat_image_is_no_volume(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    itk.imwrite(itk.image_from_array(np.zeros((6, 7), np.float32)), str(path))
    with pytest.raises(DataError, match="give a 3-D volume"):
        read_header(path)
