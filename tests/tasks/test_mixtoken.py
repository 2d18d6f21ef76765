"""MixToken: the box, mixing and un-mixing, and the authors' procedure written out beside it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from volo.tasks.mixtoken import TokenBox, draw_box, mix_tokens, unmix_logits

GRIDS = [(14, 14), (4, 4), (5, 7), (3, 2), (1, 1)]
SIDES = st.integers(1, 30)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def located(batch: int, height: int, width: int) -> torch.Tensor:
    """Tokens (batch, height, width, 3) that say where they are from: image, row, column."""
    axes = (torch.arange(side, dtype=torch.float32) for side in (batch, height, width))
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def boxes(grid: tuple[int, int], count: int = 30) -> list[TokenBox]:
    source = generator()
    return [draw_box(grid, source) for _ in range(count)]


# The box


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(0, 2**32))
def test_a_box_lies_inside_the_grid(height, width, seed):
    box = draw_box((height, width), generator(seed))
    assert 0 <= box.top <= box.bottom <= height
    assert 0 <= box.left <= box.right <= width


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(0, 2**32))
def test_kept_is_the_share_outside_the_box(height, width, seed):
    box = draw_box((height, width), generator(seed))
    outside = torch.ones(height, width)
    outside[box.top : box.bottom, box.left : box.right] = 0
    assert box.kept((height, width)) == pytest.approx(outside.mean().item(), abs=1e-6)
    assert 0 < box.kept((height, width)) <= 1


def test_an_empty_box_keeps_all_and_a_full_one_nothing():
    assert TokenBox(3, 4, 3, 4).kept((7, 7)) == 1.0
    assert TokenBox(0, 0, 7, 5).kept((7, 5)) == 0.0


def test_the_same_generator_state_gives_the_same_box():
    assert boxes((14, 14)) == boxes((14, 14))
    assert len(set(boxes((14, 14)))) > 10


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    draw_box((14, 14), generator())
    assert torch.equal(torch.get_rng_state(), before)


def mean_kept(grid: tuple[int, int]) -> float:
    """The expected share: over areas uniform in 0–1 (numerically), and over all centers."""
    height, width = grid

    def mean_length(side: int, half: int) -> float:
        return sum(min(center + half, side) - max(center - half, 0) for center in range(side)) / side

    roots = np.sqrt((np.arange(20_000) + 0.5) / 20_000)
    areas = [mean_length(height, int(height * r) // 2) * mean_length(width, int(width * r) // 2) for r in roots]
    return 1.0 - float(np.mean(areas)) / (height * width)


@pytest.mark.parametrize("grid", [(14, 14), (4, 4), (5, 9)])
def test_the_mean_share_kept_is_that_of_the_formula(grid):
    source = generator(1)
    shares = np.array([draw_box(grid, source).kept(grid) for _ in range(4000)])
    assert shares.mean() == pytest.approx(mean_kept(grid), abs=4 * shares.std() / math.sqrt(4000))


# Mixing


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_inside_the_box_tokens_are_of_the_counterpart_and_of_the_same_place(batch, grid):
    tokens = located(batch, 2 * grid[0], 2 * grid[1])
    for box in boxes(grid):
        mixed = mix_tokens(tokens, box)
        assert torch.equal(mixed[..., 1:], tokens[..., 1:])
        foreign = torch.zeros(tokens.shape[1:3], dtype=torch.bool)
        foreign[2 * box.top : 2 * box.bottom, 2 * box.left : 2 * box.right] = True
        for image in range(batch):
            assert (mixed[image, ..., 0][foreign] == batch - 1 - image).all()
            assert (mixed[image, ..., 0][~foreign] == image).all()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_every_token_s_logits_return_to_the_image_it_came_from(batch, grid):
    tokens = located(batch, 2 * grid[0], 2 * grid[1])
    for box in boxes(grid):
        # The downsampling takes 2×2 stage-1 tokens to one; of tokens of one image each corner says the same image.
        blocks = mix_tokens(tokens, box).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))[..., 0]
        assert torch.equal(blocks.amin(dim=(2, 4)), blocks.amax(dim=(2, 4)))
        logits = unmix_logits(blocks.amax(dim=(2, 4))[..., None], box)
        assert torch.equal(logits[..., 0], located(batch, *grid)[..., 0])


def test_a_stage_1_grid_with_an_odd_side_keeps_its_last_row_and_column():
    tokens = located(2, 7, 9)
    for box in boxes((3, 4)):
        mixed = mix_tokens(tokens, box)
        assert mixed.shape == tokens.shape
        assert torch.equal(mixed[:, 6:], tokens[:, 6:])
        assert torch.equal(mixed[:, :, 8:], tokens[:, :, 8:])


def test_mixing_leaves_the_given_tokens_as_they_were():
    tokens = located(2, 8, 8)
    before = tokens.clone()
    mixed = mix_tokens(tokens, TokenBox(0, 0, 3, 3))
    assert not torch.equal(mixed, before)
    assert torch.equal(tokens, before)


def test_gradients_reach_the_image_a_token_came_from():
    tokens = torch.zeros(2, 4, 4, 1, requires_grad=True)
    mix_tokens(tokens, TokenBox(0, 0, 1, 1))[0].sum().backward()
    expected = torch.zeros(2, 4, 4, 1)
    expected[0], expected[1, :2, :2] = 1, 1
    expected[0, :2, :2] = 0
    assert torch.equal(tokens.grad, expected)


# The authors' procedure


def authors_box(height: int, width: int, share: float, y: int, x: int) -> tuple[int, int, int, int]:
    """rand_bbox of sail-sg/volo with its draws handed in: 1 - lam is ``share``, the center (y, x)."""
    ratio = np.sqrt(share)
    cut_h, cut_w = int(height * ratio), int(width * ratio)
    return (
        int(np.clip(y - cut_h // 2, 0, height)),
        int(np.clip(x - cut_w // 2, 0, width)),
        int(np.clip(y + cut_h // 2, 0, height)),
        int(np.clip(x + cut_w // 2, 0, width)),
    )


def draws(grid: tuple[int, int], seed: int) -> tuple[float, int, int]:
    """The draws that ``draw_box`` makes."""
    source = generator(seed)
    share = float(torch.rand((), generator=source))
    return share, *(int(torch.randint(side, (), generator=source)) for side in grid)


@pytest.mark.parametrize("grid", [(14, 14), (24, 24), (5, 7), (1, 1)])
def test_the_box_is_the_authors(grid):
    for seed in range(50):
        assert tuple(draw_box(grid, generator(seed))) == authors_box(*grid, *draws(grid, seed))


@pytest.mark.parametrize("seed", range(5))
def test_mixing_and_unmixing_are_the_authors(seed):
    grid, source = (5, 7), generator(seed)
    tokens = torch.randn(3, 10, 14, 4, generator=source)
    logits = torch.randn(3, 5, 7, 6, generator=source)
    box = draw_box(grid, source)
    bbx1, bby1, bbx2, bby2 = box

    temp_x = tokens.clone()
    sbbx1, sbby1, sbbx2, sbby2 = 2 * bbx1, 2 * bby1, 2 * bbx2, 2 * bby2
    temp_x[:, sbbx1:sbbx2, sbby1:sbby2, :] = tokens.flip(0)[:, sbbx1:sbbx2, sbby1:sbby2, :]
    assert_close(mix_tokens(tokens, box), temp_x, rtol=0, atol=0)

    x_aux = logits.flatten(1, 2).reshape(3, *grid, 6)
    temp_x = x_aux.clone()
    temp_x[:, bbx1:bbx2, bby1:bby2, :] = x_aux.flip(0)[:, bbx1:bbx2, bby1:bby2, :]
    assert_close(unmix_logits(logits, box), temp_x, rtol=0, atol=0)

    lam = 1 - ((bbx2 - bbx1) * (bby2 - bby1) / (grid[0] * grid[1]))
    assert box.kept(grid) == lam
