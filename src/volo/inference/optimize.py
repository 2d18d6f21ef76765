"""A trained VOLO made faster for inference, with the same results.

Shape letters: B batch, H W image, K classes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

import torch
from torch import Tensor

from volo.inference.fused import FusedVOLO
from volo.inference.packed import packs
from volo.models import VOLO
from volo.models.volo import Features, Logits


def optimize_for_inference(model: VOLO, compile: bool = False) -> "OptimizedVOLO":
    """Make a faster copy of a model, for inference alone.

    Its logits are those of ``model.eval()`` within 1e-5 (float32). It has memory of its own: ``model`` stays as it
    is, and what is done to it later does not reach the copy. Move the model to its device and dtype first; anything
    that runs there can be optimised, though float32 on the CPU gains most.

    Args:
        model: any VOLO, in training or evaluation mode.
        compile: apply ``torch.compile`` as well. Each new shape of images is compiled at its first use, which takes
            a minute or so and needs a C++ compiler (on a GPU, Triton).

    Returns:
        A VOLO with the same methods, which computes no gradients and refuses to be trained, moved or saved.

    Raises:
        ValueError: the model is no VOLO, or optimised already.
    """
    if isinstance(model, OptimizedVOLO):
        raise ValueError("the model is optimized for inference already; optimize the model that it was made from")
    if not isinstance(model, VOLO):
        raise ValueError(f"optimize_for_inference takes a volo.VOLO, not {type(model).__name__}")
    return OptimizedVOLO(model, compile=compile)


class OptimizedVOLO(FusedVOLO):
    """What :func:`optimize_for_inference` makes; attributes and methods are those of :class:`VOLO`."""

    def __init__(self, model: VOLO, *, compile: bool = False) -> None:
        super().__init__(
            model, pack=packs(model.norm.weight) and not compile
        )  # torch.compile lays weights out by itself
        self._run: Callable[[Tensor], Tensor] = self._logits
        if compile:
            self._run = torch.compile(self._logits, dynamic=False, options={"freezing": True})

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to logits (B, K): the class token's, plus half the strongest of the patches'."""
        with _alone(images):
            return self._run(images)

    def embed(self, images: Tensor) -> Tensor:
        with _alone(images):
            return super().embed(images)

    def forward_tokens(self, tokens: Tensor) -> Features:
        with _alone(tokens):
            return super().forward_tokens(tokens)

    def forward_head(self, features: Features) -> Logits:
        with _alone(features.cls):
            return super().forward_head(features)

    def forward_feature_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        with _alone(images):
            return super().forward_feature_maps(images)

    def get_intermediate_layers(
        self, images: Tensor, n: int | Sequence[int] = 1, *, norm: bool = False
    ) -> tuple[Tensor, ...]:
        with _alone(images):
            return super().get_intermediate_layers(images, n, norm=norm)

    def reset_classifier(self, num_classes: int) -> NoReturn:
        self._refuse("cannot have other heads")

    def train(self, mode: bool = True) -> "OptimizedVOLO":
        if mode:
            self._refuse("cannot be trained")
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("has no weights to save")

    def _apply(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("cannot be moved or converted")

    def _refuse(self, what: str) -> NoReturn:
        raise RuntimeError(f"a model optimized for inference {what}; use the model that it was made from")


@contextmanager
def _alone(tensor: Tensor) -> Iterator[None]:
    """No gradients and no autocast: the layers' weights have none, and are laid out for their own dtype."""
    device = tensor.device.type
    known = torch.amp.is_autocast_available(device)
    with torch.no_grad(), torch.autocast(device, enabled=False) if known else nullcontext():
        yield
