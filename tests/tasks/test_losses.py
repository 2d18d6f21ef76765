"""The loss with one label an image, beside its formula written out with soft targets."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from volo.models import Logits
from volo.tasks.losses import LossConfig, repeated_label_loss

CLASSES = 6


def random_logits(batch: int = 3, grid: tuple[int, int] = (2, 4), dtype=torch.float32) -> Logits:
    source = torch.Generator().manual_seed(0)
    return Logits(
        (3 * torch.randn(batch, CLASSES, generator=source)).to(dtype),
        (3 * torch.randn(batch, *grid, CLASSES, generator=source)).to(dtype),
    )


LABELS = torch.tensor([4, 0, 5])


def soft(labels: Tensor, smoothing: float) -> Tensor:
    """Smoothed one-hot targets (B, classes): off = s / C, on = 1 - s + off."""
    off = smoothing / CLASSES
    targets = torch.full((len(labels), CLASSES), off, dtype=torch.float64)
    targets[range(len(labels)), labels] = 1 - smoothing + off
    return targets


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over all but the last dimension."""
    logits = logits.double()
    return -(targets * (logits - logits.logsumexp(-1, keepdim=True))).sum(-1).mean()


def written_out(config: LossConfig, logits: Logits, labels: Tensor, kept: float) -> Tensor:
    own, other = soft(labels, config.label_smoothing), soft(labels.flip(0), config.label_smoothing)
    loss = config.class_weight * cross_entropy(logits.cls, kept * own + (1 - kept) * other)
    return loss + config.dense_weight * cross_entropy(logits.tokens, own[:, None, None])


@pytest.mark.parametrize("kept", [1.0, 0.7, 0.25, 0.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("weights", [(1.0, 0.5), (0.3, 2.0), (0.0, 1.0)])
def test_the_loss_is_the_formula(weights, smoothing, kept):
    config = LossConfig(class_weight=weights[0], dense_weight=weights[1], label_smoothing=smoothing)
    loss = repeated_label_loss(config, random_logits(), LABELS, kept)
    assert loss.shape == ()
    assert_close(loss.double(), written_out(config, random_logits(), LABELS, kept), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kept", [1.0, 0.6])
def test_class_weights_make_weighted_means(kept):
    config, logits = LossConfig(label_smoothing=0.0), random_logits()
    weights = torch.rand(CLASSES, generator=torch.Generator().manual_seed(1)) + 0.1

    def weighted(logits: Tensor, labels: Tensor) -> Tensor:
        each = logits.logsumexp(-1) - logits.gather(-1, labels[..., None])[..., 0]
        return (weights[labels] * each).sum() / weights[labels].sum()

    flipped = LABELS.flip(0)
    expected = kept * weighted(logits.cls, LABELS) + (1 - kept) * weighted(logits.cls, flipped)
    expected = expected + 0.5 * weighted(logits.tokens, LABELS[:, None, None].expand(logits.tokens.shape[:-1]))
    assert_close(repeated_label_loss(config, logits, LABELS, kept, weights), expected)
    alike = repeated_label_loss(config, logits, LABELS, kept, torch.full((CLASSES,), 3.0))
    assert_close(alike, repeated_label_loss(config, logits, LABELS, kept))


def test_unknown_balances_are_named():
    with pytest.raises(ValueError, match=r"unknown loss.class_balance 'inverted'; did you mean 'inverse'"):
        LossConfig(class_balance="inverted")
    with pytest.raises(ValueError, match=r"loss.balance_beta must lie in \[0, 1\), not 1.0"):
        LossConfig(balance_beta=1.0)


def test_the_defaults_are_the_papers():
    assert LossConfig() == LossConfig(label_smoothing=0.1, class_weight=1.0, dense_weight=0.5, mix_token=True)


def test_the_default_target_is_not_mixed():
    config, logits = LossConfig(), random_logits()
    assert_close(repeated_label_loss(config, logits, LABELS), repeated_label_loss(config, logits, LABELS, 1.0))


def test_mix_token_without_the_token_loss_is_refused():
    with pytest.raises(ValueError, match="MixToken needs the token loss"):
        LossConfig(dense_weight=0)


@pytest.mark.parametrize("kept", [1.0, 0.6])
def test_without_dense_weight_the_logits_of_inference_are_trained(kept):
    config, logits = LossConfig(dense_weight=0, class_weight=0.8, label_smoothing=0.2, mix_token=False), random_logits()
    inference = torch.stack([c + 0.5 * t.flatten(0, 1).max(0).values for c, t in zip(*logits, strict=True)])
    targets = kept * soft(LABELS, 0.2) + (1 - kept) * soft(LABELS.flip(0), 0.2)
    loss = repeated_label_loss(config, logits, LABELS, kept)
    assert_close(loss.double(), 0.8 * cross_entropy(inference, targets), rtol=1e-6, atol=1e-6)


def test_the_token_loss_is_not_mixed():
    config, logits = LossConfig(class_weight=0.0, dense_weight=1.0), random_logits()
    assert_close(repeated_label_loss(config, logits, LABELS, 0.3), repeated_label_loss(config, logits, LABELS, 1.0))


def test_the_loss_of_confident_correct_logits_is_zero_without_smoothing():
    sure = 50 * torch.nn.functional.one_hot(LABELS, CLASSES).float()
    logits = Logits(sure, sure[:, None, None].expand(-1, 2, 4, -1))
    assert repeated_label_loss(LossConfig(label_smoothing=0.0), logits, LABELS).item() == pytest.approx(0, abs=1e-6)
    assert repeated_label_loss(LossConfig(label_smoothing=0.0), logits, LABELS, 0.5).item() > 10


def test_half_precision_logits_are_summed_in_single():
    logits = random_logits(dtype=torch.bfloat16)
    loss = repeated_label_loss(LossConfig(), logits, LABELS, 0.7)
    assert loss.dtype == torch.float32
    assert_close(loss.double(), written_out(LossConfig(), logits, LABELS, 0.7), rtol=1e-6, atol=1e-6)


def test_gradients_reach_both_heads():
    logits = Logits(*(part.requires_grad_() for part in random_logits()))
    repeated_label_loss(LossConfig(), logits, LABELS, 0.7).backward()
    assert logits.cls.grad.abs().sum() > 0
    assert (logits.tokens.grad.abs().sum(-1) > 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_smoothing": -0.1}, r"loss\.label_smoothing must lie in \[0, 1\), not -0\.1"),
        ({"label_smoothing": 1.0}, r"loss\.label_smoothing must lie in \[0, 1\), not 1\.0"),
        ({"class_weight": -1.0}, r"must not be negative, nor both zero; they are -1\.0 and 0\.5"),
        ({"dense_weight": -0.5}, r"must not be negative, nor both zero; they are 1\.0 and -0\.5"),
        ({"class_weight": 0.0, "dense_weight": 0.0}, r"must not be negative, nor both zero; they are 0\.0 and 0\.0"),
    ],
)
def test_weights_that_make_no_sense_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**settings)
