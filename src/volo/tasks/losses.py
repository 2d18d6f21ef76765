"""The training loss of VOLO with image labels only, without token labels.

Source: All Tokens Matter (token labeling), arXiv:2104.10858, equation 3; each token takes the label of its image.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from volo.data import BALANCES
from volo.messages import nearest
from volo.models import Logits


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the loss.

    Attributes:
        label_smoothing: share of every target that is spread evenly over the classes.
        class_weight: weight of the class token's loss.
        dense_weight: weight of the mean loss of the patch tokens; 0 trains on the logits of inference instead: those
            of the class token plus half of the strongest patch token's.
        mix_token: paste patch tokens of one image into another (MixToken).
        ground_truth: mix the image's label into the class token's target, with weight 0.5 where the teacher agrees
            with the label and 0.1 where it does not. Needs token labels.
        legacy_crop: read the token labels of a crop as the authors' code did, with x and y exchanged and a box of
            at least one cell; only for reproducing their numbers. Needs token labels.
        class_balance: weight of each class in the loss: ``none`` (all equal), ``inverse`` (inverse to its number of
            images) or ``effective`` (inverse to its effective number of images, a weaker weighting).
        balance_beta: beta of ``effective``, in [0, 1): 0 gives equal weights, near 1 those of ``inverse``.
    """

    label_smoothing: float = 0.1
    class_weight: float = 1.0
    dense_weight: float = 0.5
    mix_token: bool = True
    ground_truth: bool = False
    legacy_crop: bool = False
    class_balance: Literal["none", "inverse", "effective"] = "none"
    balance_beta: float = 0.999

    def __post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"loss.label_smoothing must lie in [0, 1), not {self.label_smoothing}")
        if not (self.class_weight >= 0 and self.dense_weight >= 0 and self.class_weight + self.dense_weight > 0):
            raise ValueError(
                "loss.class_weight and loss.dense_weight must not be negative, nor both zero; "
                f"they are {self.class_weight} and {self.dense_weight}"
            )
        if self.mix_token and self.dense_weight == 0:
            raise ValueError("MixToken needs the token loss: set loss.dense_weight above 0, or loss.mix_token to false")
        if self.class_balance not in BALANCES:
            raise ValueError(
                f"unknown loss.class_balance {self.class_balance!r}{nearest(self.class_balance, BALANCES)}"
            )
        if not 0.0 <= self.balance_beta < 1.0:
            raise ValueError(f"loss.balance_beta must lie in [0, 1), not {self.balance_beta}")


def repeated_label_loss(
    config: LossConfig, logits: Logits, labels: Tensor, kept: float = 1.0, class_weights: Tensor | None = None
) -> Tensor:
    """Return the loss of class and token logits, with the image's label as the target of every token.

    Args:
        config: weights of the loss.
        logits: class logits (B, K), and token logits (B, h2, w2, K) already un-mixed.
        labels: (B,) int64 class indices.
        kept: share of each image that is not mixed, 0–1; the rest comes from its counterpart in the flipped batch.
        class_weights: (K,) weight of each class in the means over images and tokens; None gives all the same weight.

    Returns:
        A scalar.
    """
    tokens = logits.tokens.flatten(1, 2)
    cls = logits.cls if config.dense_weight else logits.cls + 0.5 * tokens.amax(dim=1)
    loss = config.class_weight * kept * _cross_entropy(cls, labels, config, class_weights)
    if kept < 1.0:
        loss = loss + config.class_weight * (1.0 - kept) * _cross_entropy(cls, labels.flip(0), config, class_weights)
    if config.dense_weight:
        repeated = labels.repeat_interleave(tokens.shape[1])
        loss = loss + config.dense_weight * _cross_entropy(tokens.flatten(0, 1), repeated, config, class_weights)
    return loss


def _cross_entropy(logits: Tensor, labels: Tensor, config: LossConfig, class_weights: Tensor | None) -> Tensor:
    return F.cross_entropy(
        logits.to(torch.float32), labels, weight=class_weights, label_smoothing=config.label_smoothing
    )
