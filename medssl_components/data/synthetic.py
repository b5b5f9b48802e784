# SPDX-License-Identifier: Apache-2.0
"""Built-in synthetic scans, so that every bundle runs before any real data is at hand."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter, label
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from scipy.special import expit

from .errors import DataError

GENERATOR_VERSION = 2

Range = tuple[float, float]


@dataclass(frozen=True)
class OneOrganRecipe:
    """Numbers of the scans that look like a left atrium beside a ventricle in an MR scan.

    A pair is the range that a case draws from evenly. Lengths are in mm; the intensity of soft tissue is 1.

    Args:
        class_names: names of the labels, the background first.
        training: number of training cases.
        labeled: how many of them have a label on disk, the first ones.
        validation: number of validation cases.
        test: number of test cases.
        in_plane_size: voxels along the first two axes.
        through_plane_size: voxels along the third axis.
        in_plane_spacing: spacing along the first two axes.
        through_plane_spacing: spacing along the third axis.
        tilt: standard deviation of the angle between the scan's and the body's axes, degrees.
        origin_shift: half width of the range of the volume's centre in world coordinates.
        organ_radii: ranges of the semi-axes of the organ, right-left, front-back and foot-head.
        organ_offset: half width of the range of the organ's centre about the middle of the volume.
        bumps: standard deviation of the organ's radius over the directions, as a fraction.
        veins: least and largest number of tubes that are attached to the organ.
        vein_radius: radius of the tubes.
        vein_length: length of the tubes beyond the organ's mean radius.
        distractor_scale: radius of the distractor over the mean radius of the organ.
        usual_side: probability that the distractor lies on its usual side, left and in front of the organ.
        gap: distance between the surfaces of organ and distractor; below 0 the organ cuts into it.
        wall: thickness of the dark wall of the distractor; that of the organ has a third of it.
        contrast: intensity of the organ.
        distractor_contrast: intensity of the distractor over that of the organ.
        brightness: intensity of the soft tissue as stored.
        texture: standard deviation of the tissue's texture.
        bias: standard deviation of the logarithm of the bias field.
        noise: standard deviation of the noise in both channels of the receiver.
        blur: standard deviation of the point spread function.
    """

    class_names: tuple[str, ...] = ("background", "atrium")
    training: int = 40
    labeled: int = 4
    validation: int = 4
    test: int = 12
    in_plane_size: tuple[int, int] = (56, 72)
    through_plane_size: tuple[int, int] = (40, 56)
    in_plane_spacing: Range = (1.2, 1.6)
    through_plane_spacing: Range = (1.4, 2.0)
    tilt: float = 5.0
    origin_shift: float = 80.0
    organ_radii: tuple[Range, Range, Range] = ((13.0, 21.0), (9.0, 16.0), (10.0, 18.0))
    organ_offset: float = 7.0
    bumps: float = 0.12
    veins: tuple[int, int] = (1, 3)
    vein_radius: Range = (3.2, 5.5)
    vein_length: Range = (6.0, 16.0)
    distractor_scale: Range = (0.7, 1.1)
    usual_side: float = 0.6
    gap: Range = (-1.0, 4.0)
    wall: Range = (2.5, 6.0)
    contrast: Range = (1.6, 2.4)
    distractor_contrast: Range = (0.9, 1.1)
    brightness: Range = (250.0, 500.0)
    texture: float = 0.08
    bias: Range = (0.05, 0.2)
    noise: Range = (0.04, 0.13)
    blur: Range = (0.8, 1.8)


@dataclass(frozen=True)
class _Structures:
    """Signed distances to the structures' surfaces (mm, about, negative inside), all of the volume's shape."""

    organ: np.ndarray
    distractor: np.ndarray
    vessel: np.ndarray
    spine: np.ndarray
    lungs: np.ndarray
    wall: float

    @property
    def label(self) -> np.ndarray:
        """The organ's voxels: its largest connected component."""
        components, _ = label(self.organ < 0)
        return components == np.argmax(np.bincount(components.ravel())[1:]) + 1

    @property
    def distractor_mask(self) -> np.ndarray:
        """The distractor's voxels, none of them the organ's."""
        return (self.distractor < 0) & ~self.label


RECIPES = {"one_organ": OneOrganRecipe(), "one_organ_all_labels": OneOrganRecipe(labeled=40)}


def synthetic_case(
    index: int, seed: int = 0, recipe: OneOrganRecipe = RECIPES["one_organ"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make one scan: image, label and affine, a function of the arguments alone.

    Args:
        index: number of the case, from 0.
        seed: number of the set of cases, from 0.
        recipe: numbers of the scans.

    Returns:
        image: (W, H, D) float32, from 0 to about 2000.
        label: (W, H, D) uint8, 1 in the organ.
        affine: (4, 4) float64, from voxels to mm, right-anterior-superior; its directions are orthonormal.
    """
    rng = np.random.default_rng([seed, index])
    shape, affine = _grid(rng, recipe)
    points = _body_points(shape, affine)
    structures = _structures(points, rng, recipe)
    image = _image(structures, points, np.linalg.norm(affine[:3, :3], axis=0), rng, recipe)
    return image.astype(np.float32), structures.label.astype(np.uint8), affine


def synthetic_folder(name: str = "one_organ", cache_dir: str | Path | None = None) -> Path:
    """Return the folder of a built-in data set, made on the first call.

    It has `imagesTr/`, `labelsTr/` (labels for few of the training cases, as a user's folder has; the data sets called
    `..._all_labels` have the same scans and all labels, for upper bounds), `dataset.json` as nnU-Net has it and
    `split.json`. It is never half made: it is written under another name and then renamed, so
    several processes may ask for it at once.

    Args:
        name: name of the data set.
        cache_dir: folder to keep it in; by default the environment variable MEDSSL_CACHE, else `medssl_components` in
            the user's cache folder.

    Raises:
        DataError: if there is no such data set, or if its folder is there without its files.
    """
    if name not in RECIPES:
        raise DataError(f"{name!r} is no built-in data set; there is {', '.join(sorted(RECIPES))}")
    cache = Path(cache_dir) if cache_dir is not None else _default_cache()
    folder = cache / f"{name}_v{GENERATOR_VERSION}"
    if _is_complete(folder):
        return folder
    if folder.exists():
        raise DataError(f"{folder}: holds no split.json; delete this folder, and the built-in scans are made anew")
    temporary = cache / f".{folder.name}_{uuid.uuid4().hex}"
    try:
        _write_folder(temporary, RECIPES[name])
        os.replace(temporary, folder)
    except OSError:
        # Another process may have been first, and its folder, whose files are the same, cannot be replaced.
        if not _is_complete(folder):
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _default_cache() -> Path:
    """Return the folder for caches that the environment or the platform names."""
    if chosen := os.environ.get("MEDSSL_CACHE"):
        return Path(chosen)
    home = Path.home()
    folders = {
        "darwin": home / "Library" / "Caches",
        "win32": Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"),
    }
    usual = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return folders.get(sys.platform, usual) / "medssl_components"


def _is_complete(folder: Path) -> bool:
    """Say whether the data set is there; its split is written last."""
    return (folder / "split.json").is_file()


def _write_folder(folder: Path, recipe: OneOrganRecipe) -> None:
    """Write all files of a data set."""
    names = [f"scan_{number:02d}" for number in range(1, recipe.training + recipe.validation + recipe.test + 1)]
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for index, name in enumerate(names):
        image, organ, affine = synthetic_case(index, recipe=recipe)
        _write_volume(folder / "imagesTr" / f"{name}.nii.gz", np.rint(image).astype(np.int16), affine)
        if not recipe.labeled <= index < recipe.training:
            _write_volume(folder / "labelsTr" / f"{name}.nii.gz", organ, affine)
    dataset = {
        "name": "synthetic scans of medssl_components",
        "channel_names": {"0": "MR"},
        "labels": {class_name: number for number, class_name in enumerate(recipe.class_names)},
        "numTraining": len(names),
        "file_ending": ".nii.gz",
    }
    split = {
        "description": f"Built-in synthetic scans; the first {recipe.labeled} for training have a label.",
        "training": names[: recipe.training],
        "validation": names[recipe.training : recipe.training + recipe.validation],
        "test": names[recipe.training + recipe.validation :],
    }
    for file_name, content in (("dataset.json", dataset), ("split.json", split)):
        (folder / file_name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_volume(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write a NIfTI file whose bytes depend on the array and the affine alone, not on the time."""
    volume = nib.Nifti1Image(array, affine)
    volume.header.set_xyzt_units("mm")
    # With both forms set, readers that trust either of them agree.
    volume.set_qform(affine, code=1)
    volume.set_sform(affine, code=1)
    path.write_bytes(gzip.compress(volume.to_bytes(), compresslevel=6, mtime=0))


def _grid(rng: np.random.Generator, recipe: OneOrganRecipe) -> tuple[tuple[int, int, int], np.ndarray]:
    """Draw the volume's shape and its affine."""
    width, height = rng.integers(*recipe.in_plane_size, size=2, endpoint=True)
    depth = rng.integers(*recipe.through_plane_size, endpoint=True)
    shape = (int(width), int(height), int(depth))
    in_plane, through_plane = rng.uniform(*recipe.in_plane_spacing), rng.uniform(*recipe.through_plane_spacing)
    # Half of the cases run to the left and to the back (LPS), as scanners write them, and a quarter from head to foot.
    flip = np.array([1, 1, 1]) if rng.random() < 0.5 else np.array([-1, -1, 1])
    flip[2] = -1 if rng.random() < 0.25 else 1
    tilt = Rotation.from_rotvec(rng.normal(0, recipe.tilt, size=3) / np.sqrt(3), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = tilt * (flip * [in_plane, in_plane, through_plane])
    middle = (np.array(shape) - 1) / 2
    affine[:3, 3] = rng.uniform(-recipe.origin_shift, recipe.origin_shift, size=3) - affine[:3, :3] @ middle
    return shape, affine


def _body_points(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """Return the voxels' world coordinates about the volume's middle, (W, H, D, 3) in mm."""
    half = (np.array(shape) - 1) / 2
    indices = np.stack(np.meshgrid(*[np.arange(side) for side in shape], indexing="ij"), axis=-1) - half
    return indices @ affine[:3, :3].T


def _waves(points: np.ndarray, wavelength: float, rng: np.random.Generator, count: int = 8) -> np.ndarray:
    """Return a smooth random field of variance one, a sum of plane waves: (..., 3) to (...)."""
    directions = rng.normal(size=(count, 3))
    directions *= 2 * np.pi / (wavelength * np.linalg.norm(directions, axis=1, keepdims=True))
    phases = rng.uniform(0, 2 * np.pi, size=count)
    return np.sqrt(2 / count) * np.cos(points @ directions.T + phases).sum(axis=-1)


def _ellipsoid(
    points: np.ndarray, centre: np.ndarray, radii: np.ndarray, bumps: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the distance to a turned ellipsoid whose radius varies smoothly over the directions."""
    turn = Rotation.from_rotvec(rng.normal(0, 0.25, size=3)).as_matrix()
    local = (points - centre) @ turn / radii
    norm = np.linalg.norm(local, axis=-1) + 1e-6
    return (norm / np.exp(bumps * _waves(local / norm[..., None], 2.5, rng)) - 1) * np.mean(radii)


def _tube(points: np.ndarray, start: np.ndarray, middle: np.ndarray, end: np.ndarray, radius: float) -> np.ndarray:
    """Return the distance to a tube about the quadratic Bezier curve of three points, infinite beyond three radii."""
    t = np.linspace(0, 1, 40)[:, None]
    curve = cKDTree((1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end)
    return curve.query(points, distance_upper_bound=3 * radius)[0] - radius


def _structures(points: np.ndarray, rng: np.random.Generator, recipe: OneOrganRecipe) -> _Structures:
    """Draw the structures of one case."""
    extent = np.abs(points[-1, -1, -1])
    centre = rng.uniform(-recipe.organ_offset, recipe.organ_offset, size=3)
    radii = np.array([rng.uniform(*radius) for radius in recipe.organ_radii])
    organ = _ellipsoid(points, centre, radii, recipe.bumps, rng)
    for side in rng.permutation([-1, 1, rng.choice([-1, 1])])[: rng.integers(*recipe.veins, endpoint=True)]:
        # Veins leave the organ sideways and backwards and end inside the volume.
        direction = np.array([side, -0.6, 0.0]) + rng.normal(0, 0.4, size=3)
        direction /= np.linalg.norm(direction)
        radius = rng.uniform(*recipe.vein_radius)
        end = centre + direction * (radii + rng.uniform(*recipe.vein_length))
        limit = extent - radius - 4
        middle = (centre + end) / 2 + rng.normal(0, 3, size=3)
        vein = _tube(points, centre, middle, np.clip(end, -limit, limit), radius)
        organ = -1.5 * np.logaddexp(-organ / 1.5, -vein / 1.5)  # a smooth minimum: the tube widens where it opens
    usual = np.array([0.7, 0.7, -0.3]) + rng.normal(0, 0.15, size=3)
    towards = usual if rng.random() < recipe.usual_side else rng.normal(size=3)
    towards /= np.linalg.norm(towards)
    other_radii = np.mean(radii) * rng.uniform(*recipe.distractor_scale) * rng.uniform(0.85, 1.15, size=3)
    reach = 1 / np.linalg.norm(towards / radii) + 1 / np.linalg.norm(towards / other_radii) + rng.uniform(*recipe.gap)
    wall = rng.uniform(*recipe.wall)
    distractor = _ellipsoid(points, centre + reach * towards, other_radii, recipe.bumps / 2, rng)
    # The descending vessel and the spine run along the body behind the organ.
    axis = np.array([0.0, 0.0, 2 * extent[2]])
    beside = centre + [rng.uniform(8, 16), -radii[1] - rng.uniform(9, 14), 0]
    vessel = _tube(points, beside - axis, beside + rng.normal(0, 4, size=3), beside + axis, rng.uniform(4, 7))
    back = np.array([rng.uniform(-5, 5), beside[1] - rng.uniform(12, 18), 0])
    spine = _tube(points, back - axis, back, back + axis, rng.uniform(9, 12))
    spread = rng.uniform(27, 36)
    lungs = spread - np.abs(points[..., 0]) + 0.15 * points[..., 1] + 4 * _waves(points, 60, rng)
    return _Structures(organ, distractor, vessel, spine, lungs, wall)


def _image(
    structures: _Structures, points: np.ndarray, spacing: np.ndarray, rng: np.random.Generator, recipe: OneOrganRecipe
) -> np.ndarray:
    """Draw the scan of the structures, painted from the back to the front."""
    contrast = rng.uniform(*recipe.contrast)
    other = contrast * rng.uniform(*recipe.distractor_contrast)
    layers = [
        (structures.lungs, rng.uniform(0.15, 0.4)),
        (structures.spine + 2, rng.uniform(0.9, 1.5)),
        (structures.vessel, contrast * rng.uniform(0.8, 1.2)),
        (structures.distractor - structures.wall, rng.uniform(0.6, 0.95)),
        (structures.distractor, other),
        (structures.organ - structures.wall / 3, rng.uniform(0.6, 0.95)),
        (structures.organ, contrast),
    ]
    image = np.ones(structures.organ.shape)
    for distance, value in layers:
        inside = expit(-distance / 0.4)
        image += inside * (value - image)
    grain = gaussian_filter(rng.normal(size=image.shape), 2 / spacing, mode="nearest")
    image *= 1 + recipe.texture * (grain / grain.std() + _waves(points, 25, rng))
    image = gaussian_filter(image, rng.uniform(*recipe.blur) / spacing, mode="nearest")
    image *= np.exp(rng.uniform(*recipe.bias) * _waves(points, 120, rng))
    noise = rng.uniform(*recipe.noise)
    real, imaginary = rng.normal(0, noise, size=(2, *image.shape))
    return rng.uniform(*recipe.brightness) * np.hypot(image + real, imaginary)
