# SPDX-License-Identifier: Apache-2.0
"""A list of cases and a chain of transforms, with a cache that fills when the first item is asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import psutil
from monai.data import CacheDataset, Dataset, PersistentDataset, json_hashing, pickle_hashing
from monai.transforms import Compose
from torch.utils.data import Dataset as TorchDataset

from .errors import DataError
from .header import read_header

BYTES_PER_VOXEL = 5  # float32 image, uint8 label
logger = logging.getLogger(__name__)


class CaseDataset(TorchDataset):
    """Cases after their transforms; the deterministic ones, up to the first random one, are done once and cached.

    Nothing is read before the first item is asked for, so a stream that a method does not use costs nothing.

    Args:
        data: cases, `{"image": path, "label": path}` or without the label; with "domain" where they have one.
        transform: MONAI transforms in reading order; nested `Compose` blocks are flattened.
        cache: "auto" keeps as many cases in memory as fit half of what is free; a fraction from 0 to 1; or a folder,
            where MONAI's `PersistentDataset` keeps them across runs. Cases that are not kept are read as needed.
        num_workers: threads that fill the cache.
        spacing: voxel size in mm after the transforms, or "native", for the estimate of "auto".
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable | Sequence[Callable],
        cache: str | float = "auto",
        num_workers: int = 2,
        spacing: str | Sequence[float] = "native",
    ) -> None:
        self.data = data
        self.transform = (transform if isinstance(transform, Compose) else Compose(transform)).flatten()
        self.cache = cache
        self.num_workers = num_workers
        self.spacing = spacing
        self._loaded: Dataset | None = None

    def __len__(self) -> int:
        return len(self.data)

    @property
    def domains(self) -> list[str]:
        """The domain of each case; "" for a case without one."""
        return [case.get("domain", "") for case in self.data]

    def __getitem__(self, index: int) -> Any:
        return self.load()[index]

    def set_random_state(self, seed: int) -> None:
        """Seed every random transform, for the next item only."""
        self.load()  # first, since MONAI seeds the transforms anew when it makes a dataset
        self.transform.set_random_state(seed=seed)

    def load(self) -> Dataset:
        """Return the MONAI dataset behind this one, filling the cache the first time."""
        if self._loaded is None:
            self._loaded = self._make()
        return self._loaded

    def _make(self) -> Dataset:
        cases = list(self.data)
        if isinstance(self.cache, str) and self.cache != "auto":
            return PersistentDataset(
                cases, self.transform, cache_dir=self.cache, hash_func=_file_hash, hash_transform=_transform_hash
            )
        number = self._number_in_memory(cases)
        if number < len(cases):
            logger.info("%d of %d cases are kept in memory, the rest is read as needed", number, len(cases))
        return CacheDataset(cases, self.transform, cache_num=number, num_workers=self.num_workers, progress=False)

    def _number_in_memory(self, cases: Sequence[dict[str, Any]]) -> int:
        if self.cache != "auto":
            if isinstance(self.cache, bool) or not 0 <= self.cache <= 1:
                raise DataError(f'cache is {self.cache!r}; give "auto", a fraction from 0 to 1 or a folder')
            return round(self.cache * len(cases))
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's, of this machine; each has its own cache
        left = psutil.virtual_memory().available / 2 / processes
        for number, case in enumerate(cases):
            left -= _bytes(case, self.spacing)
            if left < 0:
                return number
        return len(cases)


def _bytes(case: dict[str, Any], spacing: str | Sequence[float]) -> float:
    files = case["image"] if isinstance(case["image"], (list, tuple)) else [case["image"]]
    header = read_header(files[0])
    scale = 1.0 if isinstance(spacing, str) else np.prod(header.spacing) / np.prod(spacing)
    return float(np.prod(header.shape) * scale * header.channels * len(files) * BYTES_PER_VOXEL)


def _file_hash(case: dict[str, Any]) -> bytes:
    files = [value for key, value in case.items() if key != "domain"]
    paths = [path for value in files for path in (value if isinstance(value, (list, tuple)) else [value])]
    stats = [os.stat(path) for path in paths]
    domain = [case["domain"]] if "domain" in case else []  # transforms may depend on it
    return pickle_hashing(
        [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in zip(paths, stats, strict=True)] + domain
    )


def _transform_hash(transforms: Any) -> bytes:
    try:
        return json_hashing(transforms)
    except TypeError:
        return pickle_hashing(transforms)
