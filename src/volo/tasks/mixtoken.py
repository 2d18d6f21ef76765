"""MixToken: paste a box of one image's tokens into another image, as pure functions on tokens and token logits.

One box, on the stage-2 grid, serves the whole batch. The partner of every image is its counterpart in the flipped
batch. After the network, the token logits of the box are moved back to the image they came from, so token targets need
no mixing; the class target is mixed by the area share of the box.

Source: All Tokens Matter (token labeling), arXiv:2104.10858, section 3.3.
Shape letters: B batch, h1 w1 stage-1 tokens, h2 w2 stage-2 tokens, C channels, K classes.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class TokenBox(NamedTuple):
    """A box on the stage-2 grid, upper bounds exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    def kept(self, grid: tuple[int, int]) -> float:
        """Return the share of a ``grid`` (h2, w2) outside the box, which is the weight of an image's own label."""
        return 1.0 - (self.bottom - self.top) * (self.right - self.left) / (grid[0] * grid[1])


def draw_box(grid: tuple[int, int], generator: torch.Generator) -> TokenBox:
    """Draw a box on ``grid`` (h2, w2): area share uniform (Beta(1, 1)), center uniform, clipped at the edges."""
    height, width = grid
    side = math.sqrt(float(torch.rand((), generator=generator)))
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    y = int(torch.randint(height, (), generator=generator))
    x = int(torch.randint(width, (), generator=generator))
    return TokenBox(
        max(y - half_height, 0), max(x - half_width, 0), min(y + half_height, height), min(x + half_width, width)
    )


def mix_tokens(tokens: Tensor, box: TokenBox) -> Tensor:
    """Return stage-1 tokens (B, h1, w1, C) whose box is replaced with that of the flipped batch.

    The bounds of ``box`` are doubled, since the stage-1 grid is twice as fine as the stage-2 grid.
    """
    return _paste(tokens, TokenBox(*(2 * bound for bound in box)))


def unmix_logits(logits: Tensor, box: TokenBox) -> Tensor:
    """Return token logits (B, h2, w2, K) with the logits of the box moved back to the image they came from."""
    return _paste(logits, box)


def _paste(maps: Tensor, box: TokenBox) -> Tensor:
    mixed = maps.clone()
    mixed[:, box.top : box.bottom, box.left : box.right] = maps.flip(0)[:, box.top : box.bottom, box.left : box.right]
    return mixed
