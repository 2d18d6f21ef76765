"""A trained VOLO made faster for inference, with the same results.

Shape letters: B batch, H W image, h2 w2 stage-2 tokens, C channels of stage 2, K classes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from volo.inference.blocks import (
    InferenceClassBlock,
    InferenceDownsample,
    InferenceOutlooker,
    InferenceStem,
    InferenceTransformer,
    layer_norm,
    linear,
)
from volo.inference.packed import InferenceLinear, packs
from volo.layers import ClassBlock
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


class OptimizedVOLO(VOLO):
    """What :func:`optimize_for_inference` makes; attributes and methods are those of :class:`VOLO`."""

    def __init__(self, model: VOLO, *, compile: bool = False) -> None:
        nn.Module.__init__(self)
        self.config = model.config
        self.grad_checkpointing = False
        self._resized = {}
        self.feature_channels, self.feature_strides = model.feature_channels, model.feature_strides
        pack = packs(model.cls_token) and not compile  # torch.compile lays weights out by itself
        parts: list[Any] = list(model.network)
        outlookers, downsample, *groups = parts
        self.patch_embed = InferenceStem(model.patch_embed, pack=pack)  # type: ignore[assignment]
        self.network = nn.ModuleList(
            [
                nn.Sequential(*(InferenceOutlooker(block, pack=pack) for block in outlookers)),
                InferenceDownsample(downsample, pack=pack),
                *(nn.Sequential(*(InferenceTransformer(block, pack=pack) for block in group)) for group in groups),
            ]
        )
        self.pos_embed, self.cls_token = _frozen(model.pos_embed), _frozen(model.cls_token)
        self.pos_drop = nn.Identity()  # type: ignore[assignment]
        self.post_network = nn.ModuleList(
            InferenceClassBlock(cast(ClassBlock, block), pack=pack) for block in model.post_network
        )
        self.norm = layer_norm(model.norm)
        self.head = self.aux_head = None
        self.token_head: InferenceLinear | None = None
        if model.head is not None and model.aux_head is not None:
            self.head = linear(model.head, pack=pack)  # type: ignore[assignment]
            self.aux_head = linear(model.aux_head, pack=pack)  # type: ignore[assignment]
            self.token_head = _head_of_plain_tokens(model.norm, model.aux_head, pack=pack)
        super().train(False)
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

    def _logits(self, images: Tensor) -> Tensor:
        if self.head is None or self.token_head is None:
            raise RuntimeError("this model has no heads (num_classes=0); use forward_features or forward_feature_maps")
        _, coarse = self._stages(super().embed(images))
        # Every class block and the last norm read these tokens: normalise them once, gains and shifts are in weights.
        tokens = F.layer_norm(coarse.flatten(1, 2), self.norm.normalized_shape, eps=self.norm.eps)
        cls = self.cls_token.expand(tokens.shape[0], -1, -1)
        for block in self.post_network:
            cls = cast(InferenceClassBlock, block).attend(cls, tokens)
        return self.head(self.norm(cls.squeeze(1))) + 0.5 * self.token_head(tokens).amax(dim=1)

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


def _frozen(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().clone(), requires_grad=False)


def _head_of_plain_tokens(norm: nn.LayerNorm, head: nn.Linear, *, pack: bool) -> InferenceLinear:
    """A head for tokens that are normalised without gain and shift, which go into its weights."""
    weight, gain, shift = head.weight.detach().double(), norm.weight.detach().double(), norm.bias.detach().double()
    bias = head.bias.detach() + (weight @ shift).to(head.bias.dtype)
    return InferenceLinear((weight * gain).to(head.weight.dtype), bias, pack=pack)
