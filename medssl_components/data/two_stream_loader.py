# SPDX-License-Identifier: Apache-2.0
"""Batches of labelled and unlabelled patches, each a function of seed, epoch and place in the epoch alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from monai.data import MetaTensor
from torch.utils.data import DataLoader, Dataset, default_collate

from .case_dataset import CaseDataset

STREAMS = ("labeled", "unlabeled")


class Draw(NamedTuple):
    """One item of a batch: which case of which stream, and the seed of its random transforms."""

    stream: str
    index: int
    seed: int


def draw_epoch(
    sizes: dict[str, int],
    batch_sizes: dict[str, int],
    seed: int,
    epoch: int,
    iterations: int,
    rank: int = 0,
    world_size: int = 1,
    domains: dict[str, Sequence[str]] | None = None,
) -> list[list[Draw]]:
    """Draw the cases of one rank's batches of one epoch.

    Each stream goes through endless fresh permutations of its cases, so the shorter stream repeats. The ranks share
    one order and take neighbouring pieces of it, so r ranks of batch b see the cases and the crops of one rank of batch
    r * b.

    If the cases of a stream come from several domains, these take turns, whatever their numbers of cases, and each
    domain's cases come in fresh permutations of their own. In every batch, and in every rank's part of it, the domains'
    numbers of cases differ by one at most. A stream of one domain is drawn as if it had none.

    Args:
        sizes: number of cases of each stream.
        batch_sizes: cases of each stream in one rank's batch.
        seed: of the whole training.
        epoch: counted from 1.
        iterations: batches in the epoch.
        rank: of this process.
        world_size: number of processes.
        domains: the domain of each case of each stream; None if there are no domains.

    Returns:
        For every iteration the draws of this rank, labelled ones first.
    """
    batches: list[list[Draw]] = [[] for _ in range(iterations)]
    for number, stream in enumerate(STREAMS):
        width = batch_sizes[stream] * world_size
        if not sizes[stream] or not width:
            continue
        names = np.array(domains[stream] if domains else [""] * sizes[stream])
        members = [np.flatnonzero(names == name) for name in sorted(set(names.tolist()))]
        generators = (np.random.default_rng((seed, epoch, number, use)) for use in range(2 + len(members)))
        first, crops, turns, *others = generators
        order = _in_turns(members, [first, *others], turns, width, iterations)
        seeds = crops.integers(2**32, size=(iterations, width))
        for k, batch in enumerate(batches):
            for slot in range(rank * batch_sizes[stream], (rank + 1) * batch_sizes[stream]):
                batch.append(Draw(stream, int(order[k * width + slot]), int(seeds[k, slot])))
    return batches


def _endless(cases: np.ndarray, generator: np.random.Generator, length: int) -> np.ndarray:
    """Return the first of endless fresh permutations of the cases."""
    rounds = -(-length // len(cases))
    return np.concatenate([generator.permutation(cases) for _ in range(rounds)] or [cases])[:length]


def _in_turns(
    members: list[np.ndarray],
    generators: list[np.random.Generator],
    turns: np.random.Generator,
    width: int,
    iterations: int,
) -> np.ndarray:
    """Return an order in which domains alternate; after as many batches as all need for equal shares in a new way."""
    block = math.lcm(width, len(members))
    rounds = -(-iterations * width // block)
    turn = [np.tile(turns.permutation(len(members)), block // len(members)) for _ in range(rounds)]
    turn = np.concatenate(turn)[: iterations * width]
    order = np.empty_like(turn)
    for number, (cases, generator) in enumerate(zip(members, generators, strict=True)):
        places = np.flatnonzero(turn == number)
        order[places] = _endless(cases, generator, len(places))
    return order


class TwoStreamLoader:
    """Iterate over batches `{"labeled": {"image", "label"}, "unlabeled": {"image"}}`.

    The k-th batch of epoch e depends on the seed, e, k and the rank alone, so a resumed run sees what an uninterrupted
    one would have seen, with any number of workers. `"unlabeled"` is None if there is no unlabelled case, or if its
    batch size is 0; the unlabelled scans are not even read then. Where cases have a "domain", the domains have equal
    shares of each stream, see :func:`draw_epoch`; batches do not tell it.

    Args:
        labeled: labelled cases, whose items have "image" and "label".
        unlabeled: unlabelled cases, whose items have "image" alone, or None.
        batch_size: cases of each stream in a batch, `{"labeled": 2, "unlabeled": 2}`.
        seed: of the order of cases and of their random transforms.
        num_workers: processes that prepare batches; 0 prepares them in the training process.
        pin_memory: whether batches lie in page-locked memory, for faster copies to a GPU.

    Raises:
        ValueError: for a batch without labelled cases.
    """

    def __init__(
        self,
        labeled: CaseDataset,
        unlabeled: CaseDataset | None,
        batch_size: dict[str, int],
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        if batch_size["labeled"] < 1 or batch_size["unlabeled"] < 0:
            raise ValueError(f"batch_size is {batch_size}; it takes at least one labelled case and no negative number")
        used = unlabeled is not None and batch_size["unlabeled"] > 0
        self.datasets = {"labeled": labeled, "unlabeled": unlabeled if used else None}
        self.batch_size = dict(batch_size)
        self.seed = seed
        self._plan: list[list[Draw]] = []
        self._batches = DataLoader(
            _Streams(self.datasets),
            batch_sampler=_Plan(self),
            num_workers=num_workers,
            collate_fn=collate_streams,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            generator=torch.Generator(),  # its own, so that an iterator leaves the global random state alone
        )

    def set_epoch(self, epoch: int, iterations: int) -> None:
        """Choose the epoch, counted from 1, and how many batches it has."""
        domains = {stream: [] if dataset is None else dataset.domains for stream, dataset in self.datasets.items()}
        sizes = {stream: len(names) for stream, names in domains.items()}
        distributed = dist.is_available() and dist.is_initialized()
        rank, world_size = (dist.get_rank(), dist.get_world_size()) if distributed else (0, 1)
        self._plan = draw_epoch(sizes, self.batch_size, self.seed, epoch, iterations, rank, world_size, domains)

    def __len__(self) -> int:
        return len(self._plan)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for dataset in self.datasets.values():
            if dataset is not None and len(dataset):
                dataset.load()  # here, so that workers share the cache
        yield from self._batches


class _Plan:
    """The epoch's batches, read when an iterator starts, so that one `DataLoader` and its workers serve all epochs."""

    def __init__(self, loader: TwoStreamLoader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[list[Draw]]:
        return iter(self.loader._plan)

    def __len__(self) -> int:
        return len(self.loader._plan)


class _Streams(Dataset):
    def __init__(self, datasets: dict[str, CaseDataset | None]) -> None:
        self.datasets = datasets

    def __getitem__(self, draw: Draw) -> tuple[str, dict[str, Any]]:
        dataset = self.datasets[draw.stream]
        dataset.set_random_state(draw.seed)
        return draw.stream, dataset[draw.index]


def collate_streams(items: list[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, torch.Tensor] | None]:
    """Stack the items of each stream as plain tensors; a stream without items gives None."""
    streams = {stream: [_plain(item) for name, item in items if name == stream] for stream in STREAMS}
    return {stream: default_collate(group) if group else None for stream, group in streams.items()}


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    # random crops and flips bring MONAI's metadata back, and a batch that has it cannot be sliced by channel
    plain = {key: value.as_tensor() if isinstance(value, MetaTensor) else value for key, value in item.items()}
    plain.pop("domain", None)
    return plain
