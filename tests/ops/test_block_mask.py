# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from medssl_components.ops.block_mask import mask_blocks, sample_block_mask


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.7, 1.0])
def test_keep_rate_is_one_minus_the_ratio(ratio):
    visible = sample_block_mask(4, (32, 32, 32), ratio, generator=generator())
    assert visible.dtype == torch.bool and visible.shape == (4, 1, 32, 32, 32)
    assert visible.float().mean().item() == pytest.approx(1 - ratio, abs=0.02)  # of 16384 blocks
    if ratio in (0.0, 1.0):
        assert visible.unique().tolist() == [ratio == 0.0]
    else:
        assert not torch.equal(visible[0], visible[1])


@pytest.mark.parametrize(
    "shape, block",
    [
        ((64, 128, 128), (4, 8, 8)),
        ((112, 112, 80), (7, 7, 5)),
        ((32, 48, 32), (2, 3, 2)),
        ((8, 20, 40), (1, 1, 2)),
        ((100, 33), (6, 2)),
    ],
)
def test_blocks_are_a_sixteenth_of_each_axis(shape, block):
    visible = sample_block_mask(1, shape, generator=generator())[0, 0]
    whole = visible[tuple(slice(0, side // step * step) for side, step in zip(shape, block, strict=True))]
    grid = whole[tuple(slice(None, None, step) for step in block)]
    for axis, step in enumerate(block):
        grid = grid.repeat_interleave(step, axis)
    assert torch.equal(whole, grid)
    for axis, step in enumerate(block):  # neighbouring blocks differ somewhere: none is larger
        one, next_ = visible.narrow(axis, step - 1, 1), visible.narrow(axis, step, 1)
        assert not torch.equal(one, next_)


def test_hidden_voxels_take_the_fill():
    visible = torch.tensor([[True, False], [False, True]]).reshape(1, 1, 2, 2, 1)
    image = torch.arange(1.0, 9.0).reshape(1, 2, 2, 2, 1)
    assert mask_blocks(image, visible).flatten().tolist() == [1, 0, 0, 4, 5, 0, 0, 8]
    assert mask_blocks(image, visible, fill=-1.0).flatten().tolist() == [1, -1, -1, 4, 5, -1, -1, 8]
    means = image.mean((2, 3, 4), keepdim=True)
    assert mask_blocks(image, visible, fill=means).flatten().tolist() == [1, 2.5, 2.5, 4, 5, 6.5, 6.5, 8]
    assert mask_blocks(image.bfloat16(), visible).dtype == torch.bfloat16


def test_same_generator_same_mask():
    one, other = (sample_block_mask(2, (32, 48, 32), generator=generator(3)) for _ in range(2))
    assert torch.equal(one, other)


def test_settings_out_of_range_are_errors():
    with pytest.raises(ValueError, match="mask_ratio is 1.5"):
        sample_block_mask(1, (8, 8, 8), 1.5)
    with pytest.raises(ValueError, match="blocks is 0"):
        sample_block_mask(1, (8, 8, 8), blocks=0)
    with pytest.raises(ValueError, match=r"visible has the shape \(1, 1, 4, 4\); draw it for \(2, 1, 4, 4\)"):
        mask_blocks(torch.zeros(2, 1, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.bool))
