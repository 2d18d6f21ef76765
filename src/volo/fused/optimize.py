"""Faster copies of trained models for inference, with the same results.

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
    """Return a faster copy of a model, for inference only.

    In float32 its logits differ from those of ``model.eval()`` by at most 1e-5 (segmentation: by at most 1e-4 of the
    largest logit). The copy has its own memory: ``model`` is not changed, and later changes of ``model`` do not
    affect the copy. Move the model to its device and dtype before. Every device and dtype works; float32 on the CPU
    gains most.

    Args:
        model: any VOLO or segmentation model, in training or evaluation mode.
        compile: also apply ``torch.compile``. Each new shape of images is compiled at its first use, which takes
            about a minute and needs a C++ compiler (on a GPU, Triton).

    Returns:
        A model with the same methods. It computes no gradients, and raises an error if it is trained, moved or saved.

    Raises:
        ValueError: ``model`` is neither a VOLO nor a segmentation model, or it is optimized already.
    """
    if isinstance(model, _ForInference):
        raise ValueError("the model is already optimized for inference; optimize the model that it was made from")
    if isinstance(model, SegmentationModel):
        return OptimizedSegmentationModel(model, compile=compile)
    if not isinstance(model, VOLO):
        raise ValueError(
            f"optimize_for_inference takes a volo.VOLO or a segmentation model, not {type(model).__name__}"
        )
    return OptimizedVOLO(model, compile=compile)


#: Options of ``torch.compile`` for a model whose weights no longer change.
FREEZING: dict[str, str | int | bool | Callable[..., Any]] = {"freezing": True}
_Model = TypeVar("_Model", bound="_ForInference")


class _ForInference(nn.Module):
    """A network that can only be run: it maps images (B, in_chans, H, W) to the result of its ``_logits``."""

    _logits: Callable[[Tensor], Tensor]

    def _prepare(self, compile: bool) -> None:
        self._run = torch.compile(self._logits, dynamic=False, options=FREEZING) if compile else self._logits

    def forward(self, images: Tensor) -> Tensor:
        with _no_grad_no_autocast(images):
            return self._run(images)

    def train(self: _Model, mode: bool = True) -> _Model:
        if mode:
            self._refuse("cannot be trained")
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("has no weights to save")

    def _apply(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("cannot be moved or converted")

    def _refuse(self, problem: str) -> NoReturn:
        raise RuntimeError(f"a model optimized for inference {problem}; use the model that it was made from")


class OptimizedVOLO(_ForInference, FusedVOLO):
    """A VOLO optimized for inference, with the attributes and methods of :class:`VOLO`."""

    def __init__(self, model: VOLO, *, compile: bool = False) -> None:
        pack = can_prepack(model.norm.weight) and not compile  # torch.compile chooses the layout of weights itself
        super().__init__(model, pack=pack)
        self._prepare(compile)

    def embed(self, images: Tensor) -> Tensor:
        with _no_grad_no_autocast(images):
            return super().embed(images)

    def forward_tokens(self, tokens: Tensor) -> Features:
        with _no_grad_no_autocast(tokens):
            return super().forward_tokens(tokens)

    def forward_head(self, features: Features) -> Logits:
        with _no_grad_no_autocast(features.cls):
            return super().forward_head(features)

    def forward_feature_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        with _no_grad_no_autocast(images):
            return super().forward_feature_maps(images)

    def get_intermediate_layers(
        self, images: Tensor, n: int | Sequence[int] = 1, *, norm: bool = False
    ) -> tuple[Tensor, ...]:
        with _no_grad_no_autocast(images):
            return super().get_intermediate_layers(images, n, norm=norm)

    def reset_classifier(self, num_classes: int) -> NoReturn:
        self._refuse("cannot have other heads")


class OptimizedSegmentationModel(_ForInference, SegmentationModel):
    """A segmentation model optimized for inference, with the attributes and methods of :class:`SegmentationModel`."""

    def __init__(self, model: SegmentationModel, *, compile: bool = False) -> None:
        nn.Module.__init__(self)
        volo = model.backbone.volo
        fused = FusedVOLO(volo, pack=can_prepack(volo.norm.weight) and not compile)
        # The decoder is not rewritten: UPerNet's took 15 % longer with its BatchNorms folded, channels-last or not.
        # The memo argument of deepcopy puts ``fused`` in the place of a copy of ``volo``.
        copied = deepcopy(model, {id(volo): fused}).requires_grad_(False)
        self.config, self.backbone, self.decoder = copied.config, copied.backbone, copied.decoder
        self.head, self.aux_head = copied.head, copied.aux_head
        nn.Module.train(self, False)
        self._prepare(compile)

    def forward_with_aux(self, images: Tensor) -> SegmentationLogits:
        with _no_grad_no_autocast(images):
            return super().forward_with_aux(images)

    def _logits(self, images: Tensor) -> Tensor:
        return SegmentationModel.forward(self, images)


@contextmanager
def _no_grad_no_autocast(tensor: Tensor) -> Iterator[None]:
    """Disable gradients, which the layers do not compute, and autocast, since weights are laid out for one dtype."""
    device = tensor.device.type
    has_autocast = torch.amp.is_autocast_available(device)
    with torch.no_grad(), torch.autocast(device, enabled=False) if has_autocast else nullcontext():
        yield
