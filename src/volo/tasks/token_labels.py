"""The training loss of VOLO with token labels: label maps that a teacher model predicted for the images.

Source: All Tokens Matter (token labeling), arXiv:2104.10858, section 3; details that the paper leaves open (sampling,
the softmax after it, smoothing of soft targets) follow the authors' code.
Shape letters: B batch, h w cells of a label map, k classes kept for each cell, h2 w2 tokens, K classes.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from volo.data import LabelMaps
from volo.models import Logits
from volo.tasks.losses import LossConfig

#: Largest number of values in a dense map (B, h, w, K) of several images; the map of a single image may be larger.
MAP_NUMBERS = 2**24


def token_label_loss(config: LossConfig, logits: Logits, labels: Tensor, maps: LabelMaps, kept: float = 1.0) -> Tensor:
    """Return the loss of class and token logits against label maps.

    Args:
        config: weights of the loss, label smoothing, and the way the maps are read.
        logits: class logits (B, K), and token logits (B, h2, w2, K) already un-mixed.
        labels: (B,) int64, the classes of the images; mixed into the class targets if ``config.ground_truth``.
        maps: label maps of the same images, augmented like them.
        kept: share of each image that is not mixed, 0–1; the rest comes from its counterpart in the flipped batch.

    Returns:
        A scalar.
    """
    tokens, num_classes = logits.tokens, logits.cls.shape[-1]
    targets, gradient = [], torch.empty_like(tokens)
    dense_loss = torch.zeros((), device=tokens.device)
    with torch.no_grad(), torch.autocast(tokens.device.type, enabled=False):
        for part, part_maps in split_micro_batches(maps, num_classes):
            dense = dense_map(part_maps, num_classes)
            targets.append(crop_targets(config, dense, part_maps.boxes, (1, 1)).flatten(1))
            if config.dense_weight:
                target = crop_targets(config, dense, part_maps.boxes, (tokens.shape[1], tokens.shape[2]))
                dense_loss += _cross_entropy(tokens[part], target, gradient[part])
    target = with_ground_truth(config, torch.cat(targets), labels) if config.ground_truth else torch.cat(targets)
    target = kept * target + (1.0 - kept) * target.flip(0)
    cls = logits.cls if config.dense_weight else logits.cls + 0.5 * tokens.amax(dim=(1, 2))
    loss = config.class_weight * F.cross_entropy(cls.float(), target)
    if config.dense_weight:
        weight = config.dense_weight / tokens[..., 0].numel()
        loss = loss + weight * _KnownGradient.apply(tokens, dense_loss, gradient)
    return loss


def with_ground_truth(config: LossConfig, targets: Tensor, labels: Tensor) -> Tensor:
    """Mix soft class targets (B, K) with the smoothed labels (B,), with the authors' weights.

    The weight of the teacher is 0.5 where it agrees with the label, and 0.9 where it does not.
    """
    num_classes = targets.shape[-1]
    trust = torch.where(targets.argmax(-1) == labels, 0.5, 0.9).unsqueeze(-1)
    smoothing = config.label_smoothing
    hard = F.one_hot(labels, num_classes) * (1.0 - smoothing) + smoothing / num_classes
    return trust * targets + (1.0 - trust) * hard


def split_micro_batches(maps: LabelMaps, num_classes: int) -> Iterator[tuple[slice, LabelMaps]]:
    """Yield slices of the batch, with their label maps, whose dense maps have at most ``MAP_NUMBERS`` values."""
    size, h, w = maps.scores.shape[:3]
    step = max(1, MAP_NUMBERS // (h * w * num_classes))
    for start in range(0, size, step):
        part = slice(start, start + step)
        yield part, LabelMaps(*(values[part] for values in maps))


def dense_map(maps: LabelMaps, num_classes: int) -> Tensor:
    """Return the logits of every cell, (B, h, w, K) float32: the k kept scores, and zero for every other class."""
    dense = maps.scores.new_zeros(*maps.scores.shape[:3], num_classes, dtype=torch.float32)
    return dense.scatter_(-1, maps.classes.long(), maps.scores.float())


def crop_targets(config: LossConfig, dense: Tensor, boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the soft targets of a crop's tokens.

    RoI-align samples the logits of the crop; softmax and smoothing follow: p·(1 − s + s/K) + s/K, whose sum over the
    classes is 1 + s/K, as in the authors' code.

    Args:
        config: label smoothing s, and whether to sample as the authors' code did.
        dense: (B, h, w, K) logits of the whole image, from :func:`dense_map`.
        boxes: (B, 4) left, top, width and height of each crop, as shares of its image.
        grid: rows and columns of tokens, (h2, w2).

    Returns:
        (B, h2, w2, K), float32.
    """
    rows, columns = _sampling(boxes, dense.shape[1:3], grid, config.legacy_crop)
    across = columns.unsqueeze(1) @ dense  # (B, h, w2, K)
    read = (rows @ across.flatten(2)).unflatten(2, across.shape[2:])
    share = config.label_smoothing / dense.shape[-1]
    return read.softmax(-1).mul_(1.0 - config.label_smoothing + share).add_(share)


def _sampling(boxes: Tensor, cells: Sequence[int], grid: tuple[int, int], legacy: bool) -> tuple[Tensor, Tensor]:
    """Return the weight of every cell in every token: rows (B, h2, h) and columns (B, w2, w).

    RoI-align is separable: the weight of a cell is the product of its row's and its column's.
    """
    (h, w), corner = cells, boxes[:, :2]
    (left, top), (right, bottom) = corner.unbind(1), (corner + boxes[:, 2:]).unbind(1)
    if not legacy:
        top, bottom, left, right = top * h - 0.5, bottom * h - 0.5, left * w - 0.5, right * w - 0.5
        rows = align_weights(top, bottom - top, h, grid[0], widest=h)
        return rows, align_weights(left, right - left, w, grid[1], widest=w)
    # The authors' code passes (top, left, bottom, right) to a function that expects (left, top, right, bottom), all
    # four in cells of the map's width; the function widens each box to at least one cell.
    top, left, bottom, right = (side * w - 0.5 for side in (left, top, right, bottom))
    rows = align_weights(top, (bottom - top).clamp_min(1.0), h, grid[0], widest=w)
    return rows, align_weights(left, (right - left).clamp_min(1.0), w, grid[1], widest=w)


def align_weights(start: Tensor, extent: Tensor, cells: int, bins: int, *, widest: int) -> Tensor:
    """Return the weights of RoI-align along one axis, (B, bins, cells); inside the map they sum to 1 over the cells.

    Every bin is the mean of ceil(extent / bins) evenly spaced samples, each interpolated between its two neighboring
    cells; samples more than one cell outside the map are zero.

    Args:
        start: (B,) start of each box in cells; 0 is the center of the first cell.
        extent: (B,) length of each box in cells.
        cells: number of cells of the map.
        bins: number of bins of the result.
        widest: an upper bound of ``extent``, up to rounding.
    """
    size = (extent / bins)[:, None, None]
    samples = size.ceil().clamp_min(1.0)
    sample = torch.arange(math.ceil(widest / bins) + 1, device=start.device)
    bin_ = torch.arange(bins, device=start.device)[:, None]
    place = start[:, None, None] + bin_ * size + (sample + 0.5) * size / samples  # (B, bins, samples)
    weight = ((sample < samples) & (place >= -1.0) & (place <= cells)) / samples
    cell = torch.arange(cells, device=start.device)
    near = (1.0 - (place.clamp(0, cells - 1).unsqueeze(-1) - cell).abs()).clamp_min(0.0)
    return (weight.unsqueeze(-2) @ near).squeeze(-2)


def _cross_entropy(logits: Tensor, target: Tensor, gradient: Tensor) -> Tensor:
    """Return the cross-entropy summed over tokens (…, K), and write its gradient into ``gradient``."""
    log_probability = logits.float().log_softmax(-1)
    loss = -(target * log_probability).sum()
    gradient.copy_(log_probability.exp_().mul_(target.sum(-1, keepdim=True)).sub_(target))
    return loss


class _KnownGradient(torch.autograd.Function):
    """Return ``value``, and give ``tokens`` a gradient that was computed in the forward pass.

    This way the backward pass needs neither the targets nor the probabilities of the whole batch in memory.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None
