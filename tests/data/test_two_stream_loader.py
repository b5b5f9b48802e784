# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from monai.data import MetaTensor
from monai.transforms import EnsureTyped, RandFlipd, RandSpatialCropd

from medssl_components.data import CaseDataset, CaseFolder, LoadCased, TwoStreamLoader, collate_streams, draw_epoch

ITERATIONS = 4
Draws = list[tuple[str, int, int]]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory, make_folder: Callable[..., Path]) -> CaseFolder:
    folder = make_folder(tmp_path_factory.mktemp("source") / "data", labeled=3, unlabeled=5, test=0, shape=(10, 9, 8))
    return CaseFolder(str(folder))


def make_dataset(data: Any) -> CaseDataset:
    keys = ["image", "label"]
    return CaseDataset(
        data,
        [
            LoadCased(keys, num_classes=2),
            EnsureTyped(keys, dtype=[torch.float32, torch.uint8], track_meta=False, allow_missing_keys=True),
            RandSpatialCropd(keys, roi_size=(4, 4, 4), random_size=False, allow_missing_keys=True),
            RandFlipd(keys, prob=0.5, spatial_axis=0, allow_missing_keys=True),
        ],
    )


def make_loader(cases: CaseFolder, labeled: int = 2, unlabeled: int = 2, **options: Any) -> TwoStreamLoader:
    batch_size = {"labeled": labeled, "unlabeled": unlabeled}
    return TwoStreamLoader(make_dataset(cases.labeled), make_dataset(cases.unlabeled), batch_size, **options)


def epoch(loader: TwoStreamLoader, number: int) -> list[dict[str, Any]]:
    loader.set_epoch(number, ITERATIONS)
    return list(loader)


def assert_equal(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> None:
    assert len(one) == len(two) == ITERATIONS
    torch.testing.assert_close(one, two, rtol=0, atol=0)


def draws(rank: int = 0, world_size: int = 1, width: int = 2, **options: Any) -> list[Draws]:
    settings = {"sizes": {"labeled": 3, "unlabeled": 7}, "seed": 0, "epoch": 1, "iterations": 20, **options}
    batch_sizes = {"labeled": width, "unlabeled": width}
    return draw_epoch(batch_sizes=batch_sizes, rank=rank, world_size=world_size, **settings)


def test_a_batch_has_named_streams_and_no_label_of_the_unlabelled(cases: CaseFolder) -> None:
    loader = make_loader(cases, labeled=2, unlabeled=1)
    loader.set_epoch(1, ITERATIONS)
    assert len(loader) == ITERATIONS
    for batch in loader:
        assert set(batch) == {"labeled", "unlabeled"}
        assert {key: value.shape for key, value in batch["labeled"].items()} == {
            "image": (2, 1, 4, 4, 4),
            "label": (2, 1, 4, 4, 4),
        }
        assert {key: value.shape for key, value in batch["unlabeled"].items()} == {"image": (1, 1, 4, 4, 4)}


def test_batches_are_the_same_with_workers_without_and_after_a_new_start(cases: CaseFolder) -> None:
    first = make_loader(cases)
    epochs = {number: epoch(first, number) for number in (1, 2, 3)}
    workers = make_loader(cases, num_workers=2)
    for number in (1, 2, 3):
        assert_equal(epochs[number], epoch(workers, number))
    assert_equal(epochs[2], epoch(make_loader(cases), 2))
    assert_equal(epochs[3], epoch(make_loader(cases, num_workers=2), 3))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_epoch_that_was_left_early_does_not_change_the_next(cases: CaseFolder, num_workers: int) -> None:
    loader = make_loader(cases, num_workers=num_workers)
    loader.set_epoch(1, ITERATIONS)
    next(iter(loader))
    assert_equal(epoch(loader, 2), epoch(make_loader(cases), 2))


def test_epochs_and_seeds_differ(cases: CaseFolder) -> None:
    batches = [epoch(make_loader(cases, seed=seed), number)[0] for seed, number in itertools.product((0, 1), (1, 2))]
    for one, two in itertools.combinations(batches, 2):
        assert not torch.equal(one["labeled"]["image"], two["labeled"]["image"])
        assert not torch.equal(one["unlabeled"]["image"], two["unlabeled"]["image"])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_global_random_state_is_left_alone(cases: CaseFolder, num_workers: int) -> None:
    loader = make_loader(cases, num_workers=num_workers)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    epoch(loader, 1)
    torch.testing.assert_close(torch.get_rng_state(), before)


def test_the_rank_of_the_process_chooses_its_part_of_the_batch(
    cases: CaseFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = epoch(make_loader(cases, 2, 2), 1)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        for part, batch in zip(epoch(make_loader(cases, 1, 1), 1), whole, strict=True):
            for stream in ("labeled", "unlabeled"):
                assert torch.equal(part[stream]["image"][0], batch[stream]["image"][rank])


def test_without_unlabelled_cases_their_stream_is_none(cases: CaseFolder) -> None:
    labeled = make_dataset(cases.labeled)
    for unlabeled in (make_dataset([]), None):
        loader = TwoStreamLoader(labeled, unlabeled, {"labeled": 2, "unlabeled": 2})
        assert [batch["unlabeled"] for batch in epoch(loader, 1)] == [None] * ITERATIONS


def test_an_unlabelled_dataset_that_is_not_used_is_not_read(cases: CaseFolder, tmp_path: Path) -> None:
    unlabeled = make_dataset(CaseFolder(str(tmp_path / "gone")).unlabeled)
    loader = TwoStreamLoader(make_dataset(cases.labeled), unlabeled, {"labeled": 2, "unlabeled": 0})
    assert [batch["unlabeled"] for batch in epoch(loader, 1)] == [None] * ITERATIONS


def test_the_labelled_stream_does_not_depend_on_the_unlabelled_one(cases: CaseFolder) -> None:
    alone, both = epoch(make_loader(cases, 2, 0), 1), epoch(make_loader(cases, 2, 3), 1)
    assert_equal([batch["labeled"] for batch in alone], [batch["labeled"] for batch in both])


@pytest.mark.parametrize("batch_size", [{"labeled": 0, "unlabeled": 2}, {"labeled": 1, "unlabeled": -1}])
def test_a_batch_without_labels_is_an_error(cases: CaseFolder, batch_size: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="takes at least one labelled case and no negative number"):
        TwoStreamLoader(make_dataset(cases.labeled), None, batch_size)


def test_nothing_is_read_before_the_first_batch(tmp_path: Path) -> None:
    make_loader(CaseFolder(str(tmp_path / "gone")))


def test_the_shorter_stream_repeats_and_every_case_is_used_equally_often() -> None:
    counts = Counter((draw.stream, draw.index) for batch in draws(iterations=21) for draw in batch)
    assert counts == {**{("labeled", case): 14 for case in range(3)}, **{("unlabeled", case): 6 for case in range(7)}}


def test_a_stream_uses_all_of_its_cases_before_it_repeats_one() -> None:
    order = [draw.index for batch in draws() for draw in batch if draw.stream == "unlabeled"]
    assert sorted(order[:7]) == sorted(order[7:14]) == list(range(7))
    assert order[:7] != order[7:14]


def test_ranks_share_what_one_process_would_draw() -> None:
    for one, *parts in zip(draws(width=2), draws(0, 2, width=1), draws(1, 2, width=1), strict=True):
        assert [
            draw for stream in ("labeled", "unlabeled") for part in parts for draw in part if draw.stream == stream
        ] == one


def test_crops_differ_between_all_items_of_an_epoch() -> None:
    seeds = [draw.seed for batch in draws() for draw in batch]
    assert len(set(seeds)) == len(seeds)
    assert 0 <= min(seeds) <= max(seeds) < 2**32


def test_draws_are_labelled_first_and_stay_as_they_are() -> None:
    # The numbers pin the draws: a change of theirs would change every published score and every resumed run.
    assert [draw.stream for draw in draws()[0]] == ["labeled", "labeled", "unlabeled", "unlabeled"]
    assert [draw.index for batch in draws(iterations=3) for draw in batch] == [2, 0, 0, 6, 1, 1, 4, 1, 2, 0, 3, 5]


def test_a_longer_epoch_begins_as_a_shorter_one() -> None:
    assert draws(iterations=20)[:5] == draws(iterations=5)


SMALL, LARGE, OTHER = ["a"] * 3, ["b"] * 7, ["c"] * 2
MIXED = [*SMALL, *LARGE]


def in_domains(labeled: list[str], unlabeled: list[str], **options: Any) -> list[Draws]:
    names = {"labeled": labeled, "unlabeled": unlabeled}
    return draws(domains=names, sizes={stream: len(cases) for stream, cases in names.items()}, **options)


def drawn(batches: list[Draws], domains: list[str], stream: str = "unlabeled") -> list[list[str]]:
    return [[domains[draw.index] for draw in batch if draw.stream == stream] for batch in batches]


def before_domains(size: int, number: int, width: int, seed: int, epoch: int, iterations: int) -> list[int]:
    """The order as it was drawn before there were domains, which published scores depend on."""
    cases = np.random.default_rng((seed, epoch, number, 0))
    rounds = -(-iterations * width // size)
    return np.concatenate([cases.permutation(size) for _ in range(rounds)])[: iterations * width].tolist()


@pytest.mark.parametrize("domains", [None, {"labeled": ["mr"] * 3, "unlabeled": ["ct"] * 7}])
def test_one_domain_or_none_leaves_the_draws_as_they_were(domains: dict[str, list[str]] | None) -> None:
    for seed, number in itertools.product((0, 5), (1, 4)):
        batches = draws(seed=seed, epoch=number, domains=domains)
        assert batches == draws(seed=seed, epoch=number)
        for place, (stream, size) in enumerate({"labeled": 3, "unlabeled": 7}.items()):
            order = [draw.index for batch in batches for draw in batch if draw.stream == stream]
            assert order == before_domains(size, place, 2, seed, number, 20)


@pytest.mark.parametrize("domains", [MIXED, [*OTHER, *MIXED], [*LARGE, *SMALL, *OTHER, "d"]])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_domains_have_equal_shares_of_batches_and_epochs(domains: list[str], width: int) -> None:
    number = len(set(domains))
    for epoch_number in (1, 2):
        batches = drawn(in_domains(["a"], domains, width=width, iterations=12, epoch=epoch_number), domains)
        for batch in batches:
            shares = [batch.count(name) for name in sorted(set(domains))]
            assert max(shares) - min(shares) <= 1
        total = Counter(name for batch in batches for name in batch)
        assert total == dict.fromkeys(domains, 12 * width // number)


def test_every_case_of_a_domain_is_used_equally_often() -> None:
    batches = in_domains(MIXED, MIXED, iterations=42)
    for stream in ("labeled", "unlabeled"):
        counts = Counter(draw.index for batch in batches for draw in batch if draw.stream == stream)
        assert counts == {case: 14 if name == "a" else 6 for case, name in enumerate(MIXED)}


def test_domains_take_the_places_of_a_batch_in_turns() -> None:
    """One rank of two, with a case each, sees both domains: its running statistics are those that are kept."""
    first = [batch[0] for batch in drawn(in_domains(["a"], MIXED, iterations=40), MIXED)]
    assert 10 < first.count("a") < 30


@pytest.mark.parametrize(("world_size", "width"), [(2, 1), (2, 2), (3, 2)])
def test_ranks_share_what_one_process_would_draw_of_domains(world_size: int, width: int) -> None:
    domains = [*MIXED, *OTHER]
    whole = in_domains(MIXED, domains, width=world_size * width)
    ranks = [in_domains(MIXED, domains, rank=rank, world_size=world_size, width=width) for rank in range(world_size)]
    for one, *parts in zip(whole, *ranks, strict=True):
        for stream in ("labeled", "unlabeled"):
            assert [draw for part in parts for draw in part if draw.stream == stream] == [
                draw for draw in one if draw.stream == stream
            ]
    for part in (part for rank in ranks for part in drawn(rank, domains)):
        assert len(set(part)) == len(part)  # fewer than domains, so none twice


def test_draws_of_domains_are_a_function_of_seed_and_epoch() -> None:
    assert in_domains(MIXED, MIXED) == in_domains(MIXED, MIXED)
    assert in_domains(MIXED, MIXED, iterations=20)[:5] == in_domains(MIXED, MIXED, iterations=5)
    others = [in_domains(MIXED, MIXED, **{key: 3}) for key in ("seed", "epoch")]
    assert all(other != in_domains(MIXED, MIXED) for other in others)


def test_the_names_of_domains_and_the_other_stream_do_not_matter() -> None:
    renamed = [{"a": "1", "b": "2"}[name] for name in MIXED]
    assert in_domains(MIXED, MIXED) == in_domains(MIXED, renamed)
    for one, two in zip(in_domains(MIXED, MIXED), in_domains(["a"], MIXED), strict=True):
        assert one[2:] == two[2:]


def test_draws_of_domains_stay_as_they_are() -> None:
    order = [draw.index for batch in in_domains(SMALL, MIXED, iterations=3) for draw in batch]
    assert order == [2, 0, 5, 0, 1, 1, 6, 1, 2, 0, 2, 8]


def test_batches_of_domains_resume_and_do_not_tell_the_domain(cases: CaseFolder) -> None:
    def loader() -> TwoStreamLoader:
        unlabeled = [{**case, "domain": name} for case, name in zip(cases.unlabeled, "abbbb", strict=True)]
        return TwoStreamLoader(
            make_dataset(cases.labeled), make_dataset(unlabeled), {"labeled": 1, "unlabeled": 2}, num_workers=0
        )

    first = loader()
    epochs = {number: epoch(first, number) for number in (1, 2)}
    assert_equal(epochs[2], epoch(loader(), 2))
    assert set(epochs[1][0]["unlabeled"]) == {"image"}
    seen = [[draw.index == 0 for draw in batch if draw.stream == "unlabeled"] for batch in first._plan]
    assert all(sum(batch) == 1 for batch in seen)


def test_streams_are_collated_apart() -> None:
    items = [
        ("unlabeled", {"image": torch.ones(2)}),
        ("labeled", {"image": torch.zeros(2)}),
        ("unlabeled", {"image": torch.zeros(2)}),
    ]
    streams = collate_streams(items)
    assert streams["unlabeled"]["image"].tolist() == [[1, 1], [0, 0]]
    assert streams["labeled"]["image"].tolist() == [[0, 0]]


def test_batches_are_plain_tensors() -> None:
    """A batch of MONAI's tensors cannot be sliced by channel when the metadata of its items differ."""
    items = [("labeled", {"image": MetaTensor(torch.ones(2, 3), meta={"name": name})}) for name in "ab"]
    image = collate_streams(items)["labeled"]["image"]
    assert type(image) is torch.Tensor
    assert image[:, :1].shape == (2, 1, 3)
