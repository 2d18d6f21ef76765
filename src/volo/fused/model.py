"""A VOLO built of inference layers, for ``optimize_for_inference`` and for exports.

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
    """A VOLO built of inference layers: the same results from fewer passes over memory, with its own weights.

    Args:
        model: any VOLO, in training or evaluation mode; it is not changed.
        pack: use oneDNN's layout and operators; see :func:`volo.fused.layers.can_prepack`.
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
        if hasattr(model, "cls_token"):  # a segmentation backbone has none
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
        """Return the logits (B, K) of images (B, in_chans, H, W).

        They are the logits of the class token plus half the maximum over all patch tokens.
        """
        return self._logits(images)

    def _logits(self, images: Tensor) -> Tensor:
        cls, tokens = self.plain_heads(images)
        return cls + 0.5 * tokens.flatten(1, 2).amax(dim=1)

    def plain_heads(self, images: Tensor) -> Logits:
        """Return the same logits as ``forward_head(forward_features(images))``, with fewer operations.

        Raises:
            RuntimeError: The model has no heads (``num_classes=0``).
        """
        if self.head is None or self.token_head is None:
            raise RuntimeError("this model has no heads (num_classes=0); use forward_features or forward_feature_maps")
        _, coarse = self._stages(VOLO.embed(self, images))
        # All class blocks and the last norm read these tokens. They are normalized once, without gain and shift, which
        # are folded into the weights of each reader.
        tokens = F.layer_norm(coarse, self.norm.normalized_shape, eps=self.norm.eps)
        flat = tokens.flatten(1, 2)
        cls = self.cls_token.expand(flat.shape[0], -1, -1)
        for block in self.post_network:
            cls = cast(InferenceClassBlock, block).attend(cls, flat)
        return Logits(self.head(self.norm(cls.squeeze(1))), self.token_head(tokens))


def _frozen(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().clone(), requires_grad=False)


def _head_of_plain_tokens(norm: nn.LayerNorm, head: nn.Linear, *, pack: bool) -> InferenceLinear:
    """Return a head for tokens normalized without gain and shift; both are folded into its weights."""
    weight, gain, shift = head.weight.detach().double(), norm.weight.detach().double(), norm.bias.detach().double()
    bias = head.bias.detach() + (weight @ shift).to(head.bias.dtype)
    return InferenceLinear((weight * gain).to(head.weight.dtype), bias, pack=pack)
