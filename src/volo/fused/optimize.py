"""A trained model made faster for inference, with the same results.

Shape letters: B batch, H W image, K classes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import Any, NoReturn, TypeVar, overload

import torch
from torch import Tensor, nn

from volo.fused.layers import can_prepack
from volo.fused.model import FusedVOLO
from volo.models import VOLO, SegmentationModel
from volo.models.segmentation import SegmentationLogits
from volo.models.volo import Features, Logits


@overload
def optimize_for_inference(model: VOLO, compile: bool = False) -> "OptimizedVOLO": ...


@overload
def optimize_for_inference(model: SegmentationModel, compile: bool = False) -> "OptimizedSegmentationModel": ...


def optimize_for_inference(
    model: VOLO | SegmentationModel, compile: bool = False
) -> "OptimizedVOLO | OptimizedSegmentationModel":
    """Make a faster copy of a model, for inference alone.

    Its logits are those of ``model.eval()`` within 1e-5 (float32; of a segmentation model 1e-4 of the largest). It
    has memory of its own: ``model`` stays as it is, and what is done to it later does not reach the copy. Move the
    model to its device and dtype first; anything that runs there can be optimized, though float32 on the CPU gains
    most.

    Args:
        model: any VOLO or segmentation model, in training or evaluation mode.
        compile: apply ``torch.compile`` as well. Each new shape of images is compiled at its first use, which takes
            a minute or so and needs a C++ compiler (on a GPU, Triton).

    Returns:
        A model with the same methods, which computes no gradients and refuses to be trained, moved or saved.

    Raises:
        ValueError: the model is neither, or optimized already.
    """
    if isinstance(model, _ForInference):
        raise ValueError("the model is optimized for inference already; optimize the model that it was made from")
    if isinstance(model, SegmentationModel):
        return OptimizedSegmentationModel(model, compile=compile)
    if not isinstance(model, VOLO):
        raise ValueError(f"optimize_for_inference takes a volo.VOLO, not {type(model).__name__}")
    return OptimizedVOLO(model, compile=compile)


#: of ``torch.compile``, for a model whose weights change no more.
FREEZING: dict[str, str | int | bool | Callable[..., Any]] = {"freezing": True}
_Model = TypeVar("_Model", bound="_ForInference")


class _ForInference(nn.Module):
    """A network that refuses all but to be run: images (B, in_chans, H, W) to what its ``_logits`` gives."""

    _logits: Callable[[Tensor], Tensor]

    def _prepare(self, compile: bool) -> None:
        self._run = torch.compile(self._logits, dynamic=False, options=FREEZING) if compile else self._logits

    def forward(self, images: Tensor) -> Tensor:
        with _alone(images):
            return self._run(images)

    def train(self: _Model, mode: bool = True) -> _Model:
        if mode:
            self._refuse("cannot be trained")
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("has no weights to save")

    def _apply(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("cannot be moved or converted")

    def _refuse(self, what: str) -> NoReturn:
        raise RuntimeError(f"a model optimized for inference {what}; use the model that it was made from")


class OptimizedVOLO(_ForInference, FusedVOLO):
    """What :func:`optimize_for_inference` makes; attributes and methods are those of :class:`VOLO`."""

    def __init__(self, model: VOLO, *, compile: bool = False) -> None:
        pack = can_prepack(model.norm.weight) and not compile  # torch.compile lays weights out by itself
        super().__init__(model, pack=pack)
        self._prepare(compile)

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


class OptimizedSegmentationModel(_ForInference, SegmentationModel):
    """What :func:`optimize_for_inference` makes; attributes and methods are those of :class:`SegmentationModel`."""

    def __init__(self, model: SegmentationModel, *, compile: bool = False) -> None:
        nn.Module.__init__(self)
        volo = model.backbone.volo
        fused = FusedVOLO(volo, pack=can_prepack(volo.norm.weight) and not compile)
        # The decoder stays as it is: UPerNet's took 15 % longer with its BatchNorms folded, channels-last or not.
        # ``fused`` in the place of a copy of ``volo``.
        copied = deepcopy(model, {id(volo): fused}).requires_grad_(False)
        self.config, self.backbone, self.decoder = copied.config, copied.backbone, copied.decoder
        self.head, self.aux_head = copied.head, copied.aux_head
        nn.Module.train(self, False)
        self._prepare(compile)

    def forward_with_aux(self, images: Tensor) -> SegmentationLogits:
        with _alone(images):
            return super().forward_with_aux(images)

    def _logits(self, images: Tensor) -> Tensor:
        return SegmentationModel.forward(self, images)


@contextmanager
def _alone(tensor: Tensor) -> Iterator[None]:
    """No gradients and no autocast: the layers' weights have none, and are laid out for their own dtype."""
    device = tensor.device.type
    known = torch.amp.is_autocast_available(device)
    with torch.no_grad(), torch.autocast(device, enabled=False) if known else nullcontext():
        yield
