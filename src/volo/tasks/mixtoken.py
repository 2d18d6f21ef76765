"""MixToken: patch one image's tokens into another's, as pure functions on stage-1 tokens and token logits.

One box for the whole batch, on the stage-2 grid; the partner of every image is its counterpart in the
flipped batch. After the network the token logits are put back where they belong, so that token targets
need no mixing; the class target is mixed by the share of the box.

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
        """The share of a ``grid`` (h2, w2) outside the box: the weight of an image's own class target."""
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
    """Stage-1 tokens (B, h1, w1, C) with the box, twice as large on their grid, taken from the flipped batch."""
    return _paste(tokens, TokenBox(*(2 * bound for bound in box)))


def unmix_logits(logits: Tensor, box: TokenBox) -> Tensor:
    """Token logits (B, h2, w2, K) with every token's logits back at the image the token came from."""
    return _paste(logits, box)


def _paste(maps: Tensor, box: TokenBox) -> Tensor:
    mixed = maps.clone()
    mixed[:, box.top : box.bottom, box.left : box.right] = maps.flip(0)[:, box.top : box.bottom, box.left : box.right]
    return mixed
