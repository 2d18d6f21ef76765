"""A VOLO of inference layers: what ``optimize_for_inference`` runs, and what an export writes down.

Shape letters: B batch, H W image, h2 w2 stage-2 tokens, C channels of stage 2, K classes.
"""

from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from volo.fused.blocks import (
    InferenceClassBlock,
    InferenceDownsample,
    InferenceOutlooker,
    InferenceStem,
    InferenceTransformer,
    layer_norm,
    linear,
)
from volo.fused.layers import InferenceLinear
from volo.layers import ClassBlock
from volo.models import VOLO
from volo.models.volo import Logits


class FusedVOLO(VOLO):
    """A VOLO of inference layers: the same results from fewer passes over memory, with weights of its own.

    Args:
        model: any VOLO, in training or evaluation mode; not changed.
        pack: lay weights out for oneDNN; see :func:`volo.fused.layers.can_prepack`.
    """

    def __init__(self, model: VOLO, *, pack: bool) -> None:
        nn.Module.__init__(self)
        self.config = model.config
        self.grad_checkpointing = False
        self._resized = {}
        self.feature_channels, self.feature_strides = model.feature_channels, model.feature_strides
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
        self.pos_embed = _frozen(model.pos_embed)
        self.pos_drop = nn.Identity()  # type: ignore[assignment]
        if hasattr(model, "cls_token"):  # else feature maps alone were kept of it
            self.cls_token = _frozen(model.cls_token)
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

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to logits (B, K): the class token's, plus half the strongest of the patches'."""
        return self._logits(images)

    def _logits(self, images: Tensor) -> Tensor:
        cls, tokens = self.plain_heads(images)
        return cls + 0.5 * tokens.flatten(1, 2).amax(dim=1)

    def plain_heads(self, images: Tensor) -> Logits:
        """As ``forward_head(forward_features(images))``, by the shortest way from the images to both heads.

        Raises:
            RuntimeError: the model was made with ``num_classes=0``.
        """
        if self.head is None or self.token_head is None:
            raise RuntimeError("this model has no heads (num_classes=0); use forward_features or forward_feature_maps")
        _, coarse = self._stages(VOLO.embed(self, images))
        # Every class block and the last norm read these tokens: normalize them once, gains and shifts are in weights.
        tokens = F.layer_norm(coarse, self.norm.normalized_shape, eps=self.norm.eps)
        flat = tokens.flatten(1, 2)
        cls = self.cls_token.expand(flat.shape[0], -1, -1)
        for block in self.post_network:
            cls = cast(InferenceClassBlock, block).attend(cls, flat)
        return Logits(self.head(self.norm(cls.squeeze(1))), self.token_head(tokens))


def _frozen(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().clone(), requires_grad=False)


def _head_of_plain_tokens(norm: nn.LayerNorm, head: nn.Linear, *, pack: bool) -> InferenceLinear:
    """A head for tokens that are normalized without gain and shift, which go into its weights."""
    weight, gain, shift = head.weight.detach().double(), norm.weight.detach().double(), norm.bias.detach().double()
    bias = head.bias.detach() + (weight @ shift).to(head.bias.dtype)
    return InferenceLinear((weight * gain).to(head.weight.dtype), bias, pack=pack)
