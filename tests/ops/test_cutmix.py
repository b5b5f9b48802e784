# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from medssl_components.ops.cutmix import CutMixBoxes, cutmix, sample_cutmix


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def volumes(count: int, first: int, shape: tuple[int, ...] = (6, 5, 4)) -> torch.Tensor:
    """Volumes whose voxels all hold the volume's number."""
    return torch.arange(first, first + count).reshape(count, 1, *(1,) * len(shape)).expand(count, 1, *shape)


def test_box_by_hand():
    labeled, unlabeled = volumes(1, 10), volumes(2, 20)
    boxes = CutMixBoxes(
        torch.tensor([0, 1]), torch.tensor([[1, 0, 2], [0, 0, 0]]), torch.tensor([[3, 2, 4], [6, 1, 1]])
    )
    mixed = cutmix(labeled, unlabeled, boxes)
    expected = unlabeled.clone()
    expected[0, :, 1:3, 0:2, 2:4] = 10
    expected[1, :, 0:6, 0:1, 0:1] = 20
    assert torch.equal(mixed, expected)


def test_image_and_label_take_the_same_box_and_the_label_in_a_labelled_box_is_the_ground_truth():
    shape = (8, 7, 6)
    boxes = sample_cutmix(shape, 2, 2, labeled_share=1.0, generator=generator())
    images = torch.randn(4, 2, *shape, generator=generator(1))
    labels = torch.randint(1, 4, (4, 1, *shape), generator=generator(2))
    truth, pseudo = labels[:2], -labels[2:]
    image, label = cutmix(images[:2], images[2:], boxes), cutmix(truth, pseudo, boxes)
    assert image.shape == (2, 2, *shape) and label.dtype == labels.dtype
    for own, (partner, start, stop) in enumerate(zip(*boxes, strict=True)):
        box = tuple(slice(*bounds) for bounds in zip(start.tolist(), stop.tolist(), strict=True))
        assert torch.equal(label[own][0][box], truth[partner][0][box])
        assert (label[own][0] > 0).sum() == label[own][0][box].numel() > 0
        assert torch.equal(image[own][0][box], images[partner][0][box])
        assert torch.equal(image[own][1][box], images[partner][1][box])
        outside = label[own][0] < 0
        assert torch.equal(label[own][0][outside], pseudo[own][0][outside])
        assert torch.equal(image[own][:, outside], images[2 + own][:, outside])


@pytest.mark.parametrize("share, expected", [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0)])
def test_partner_is_labelled_with_its_share_and_never_the_volume_itself(share, expected):
    partners = torch.stack(
        [sample_cutmix((4, 4, 4), 2, 3, share, generator=generator(seed)).partner for seed in range(300)]
    )
    assert (partners < 2).float().mean().item() == pytest.approx(expected, abs=0.05)
    assert not (partners == torch.arange(2, 5)).any()
    kinds = {0.0: range(2, 5), 1.0: range(2)}.get(share, range(5))
    assert set(partners.unique().tolist()) == set(kinds)
    if share < 1:
        assert set(partners[:, 1].unique().tolist()) - {0, 1} == {2, 4}


def test_with_one_kind_of_partner_it_is_taken():
    assert sample_cutmix((4, 4, 4), 3, 1, labeled_share=0.0, generator=generator()).partner.item() < 3
    for seed in range(5):
        alone = sample_cutmix((4, 4, 4), 0, 2, labeled_share=1.0, generator=generator(seed))
        assert alone.partner.tolist() == [1, 0]


def test_box_has_the_volume_fraction_of_the_beta_distribution():
    side, count = 1000, 20_000
    for concentration in (1, 4):
        boxes = sample_cutmix((side,) * 3, 1, count, concentration=concentration, generator=generator())
        drawn = torch.rand(count, 2 * concentration - 1, generator=generator()).double().median(1).values
        assert drawn.mean().item() == pytest.approx(1 / 2, abs=0.01)  # of Beta(a, a), as the next
        assert drawn.var().item() == pytest.approx(1 / (4 * (2 * concentration + 1)), rel=0.05)
        assert (boxes.start >= 0).all() and (boxes.stop <= side).all()
        sides = (boxes.stop - boxes.start).double() / side
        whole = (boxes.start > 0) & (boxes.stop < side)
        full = ((1 - drawn) ** (1 / 3))[:, None].expand(-1, 3)
        torch.testing.assert_close(sides[whole], full[whole], atol=1e-3, rtol=0)
        assert (sides <= full + 1e-3).all()  # cut off at the border
        assert (sides[~whole] < full[~whole] - 1e-2).float().mean() > 0.9


def test_boxes_lie_everywhere():
    boxes = sample_cutmix((8, 8, 8), 1, 4000, generator=generator())
    voxel = torch.arange(8)
    covered = ((voxel >= boxes.start[..., None]) & (voxel < boxes.stop[..., None])).float().mean(0)
    assert (covered > 0.4).all()
    torch.testing.assert_close(covered[0], covered[2], atol=0.04, rtol=0)
    assert covered[0, 4] > covered[0, 0] and covered[0, 4] > covered[0, 7]


def test_two_dimensions_take_the_square_root():
    boxes = sample_cutmix((1000, 1000), 1, 2000, generator=generator())
    inside = ((boxes.start > 0) & (boxes.stop < 1000)).all(1)
    drawn = torch.rand(2000, 7, generator=generator()).sort(1).values[:, 3]
    area = ((boxes.stop - boxes.start).double() / 1000).prod(1)
    torch.testing.assert_close(area[inside], (1 - drawn.double())[inside], atol=2e-3, rtol=0)
    mixed = cutmix(volumes(1, 5, (8, 8)), volumes(2, 7, (8, 8)), sample_cutmix((8, 8), 1, 2, generator=generator()))
    assert mixed.shape == (2, 1, 8, 8)


def test_same_generator_same_boxes():
    one, other = (sample_cutmix((9, 8, 7), 2, 2, generator=generator(4)) for _ in range(2))
    assert all(torch.equal(*parts) for parts in zip(one, other, strict=True))


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"labeled_share": 1.5}, "labeled_share is 1.5"),
        ({"concentration": 0}, "concentration is 0"),
        ({"concentration": 1.5}, "concentration is 1.5"),
        ({"num_labeled": 0, "num_unlabeled": 1}, "no partner for 1 unlabelled volume"),
    ],
)
def test_settings_out_of_range_are_errors(settings, words):
    with pytest.raises(ValueError, match=words):
        sample_cutmix((4, 4, 4), **{"num_labeled": 1, "num_unlabeled": 2, **settings})


def test_other_volumes_than_the_boxes_are_an_error():
    boxes = sample_cutmix((6, 5, 4), 1, 2, generator=generator())
    for labeled, unlabeled in ((volumes(1, 0), volumes(3, 0)), (volumes(1, 0, (6, 5, 3)), volumes(2, 0))):
        with pytest.raises(ValueError, match="2 boxes; draw the boxes for them"):
            cutmix(labeled, unlabeled, boxes)
