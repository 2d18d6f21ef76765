"""Targets and losses of token labels: worked values, the authors' definition, a brute-force oracle, and bounds."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.ops import roi_align

from volo.data import AugmentConfig, LabelMap, LabelMaps, Preprocessing, TrainTransform
from volo.data.classification.dataset import Sample, collate
from volo.data.classification.label_map import move_labels
from volo.models import Logits
from volo.tasks import token_labels
from volo.tasks.losses import LossConfig
from volo.tasks.token_labels import crop_targets, dense_map, token_label_loss, with_ground_truth


def make_maps(*, batch, cells, top_k, classes, seed, box=None):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, *cells)
    indices = torch.rand(*shape, classes, generator=generator).topk(top_k, dim=-1).indices
    sides = torch.rand(batch, 2, generator=generator) * 0.95 + 0.05
    corners = torch.rand(batch, 2, generator=generator) * (1 - sides)
    boxes = torch.cat([corners, sides], 1) if box is None else torch.tensor([box]).repeat(batch, 1)
    scores = (torch.randn(*shape, top_k, generator=generator) * 4 + 6).half()
    return LabelMaps(scores, indices.int(), boxes)


def scattered(maps, classes):
    """The dense map (B, K, h, w) of the authors' code."""
    dense = torch.zeros(len(maps.scores), classes, *maps.scores.shape[1:3])
    return dense.scatter_(1, maps.classes.permute(0, 3, 1, 2).long(), maps.scores.permute(0, 3, 1, 2).float())


def authors_targets(config, maps, grid, classes):
    """Scatter, RoI-align, softmax, smoothing: with the box as their code hands it over, or as it should have been."""
    dense, (h, w) = scattered(maps, classes), maps.scores.shape[1:3]
    corner, end = maps.boxes[:, :2], maps.boxes[:, :2] + maps.boxes[:, 2:]
    (left, top), (right, bottom) = corner.unbind(1), end.unbind(1)
    if config.legacy_crop:
        boxes, aligned = torch.stack([top, left, bottom, right], 1) * w - 0.5, False
    else:
        boxes, aligned = torch.stack([left * w, top * h, right * w, bottom * h], 1), True
    numbered = torch.cat([torch.arange(len(boxes))[:, None].float(), boxes], 1)
    off = config.label_smoothing / classes
    on = 1 - config.label_smoothing + off
    return (roi_align(dense, numbered, grid, aligned=aligned).softmax(1) * on + off).permute(0, 2, 3, 1)


def our_targets(config, maps, grid, classes):
    return crop_targets(config, dense_map(maps, classes), maps.boxes, grid)


def brute_force(maps, grid, classes):
    """Logits of every token, sample by sample, in plain Python."""
    dense = scattered(maps, classes).numpy()
    (h, w), result = dense.shape[2:], np.zeros((len(dense), *grid, classes))
    for image, (left, top, width, height) in enumerate(maps.boxes.tolist()):
        across, down = width * w / grid[1], height * h / grid[0]
        nx, ny = max(1, math.ceil(np.float32(across) - 1e-6)), max(1, math.ceil(np.float32(down) - 1e-6))
        for row, column in np.ndindex(*grid):
            for j, i in np.ndindex(ny, nx):
                y = top * h - 0.5 + (row + (j + 0.5) / ny) * down
                x = left * w - 0.5 + (column + (i + 0.5) / nx) * across
                y, x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
                for cy, cx in {(int(y) + a, int(x) + b) for a in (0, 1) for b in (0, 1)}:
                    if cy < h and cx < w:
                        near = (1 - abs(y - cy)) * (1 - abs(x - cx))
                        result[image, row, column] += near * dense[image, :, cy, cx] / (nx * ny)
    return torch.from_numpy(result)


def test_worked_values():
    """Two cells side by side, two of three classes kept; the crop is the right half, read into one token of one row."""
    maps = LabelMaps(
        torch.tensor([[[[3.0, 1.0], [2.0, 5.0]]]]).half(),
        torch.tensor([[[[0, 2], [1, 2]]]]),
        torch.tensor([[0.5, 0.0, 0.5, 1.0]]),
    )
    # The sample of the right half lies in the middle of the right cell: its logits are (0, 2, 5).
    total = 1 + math.exp(2) + math.exp(5)
    plain = torch.tensor([1, math.exp(2), math.exp(5)]) / total
    config = LossConfig(label_smoothing=0.0)
    torch.testing.assert_close(our_targets(config, maps, (1, 1), 3)[0, 0, 0], plain)
    smooth = plain * (0.7 + 0.1) + 0.1
    torch.testing.assert_close(our_targets(LossConfig(label_smoothing=0.3), maps, (1, 1), 3)[0, 0, 0], smooth)
    # The whole image in one token: a box of two cells takes two samples across, one in the middle of each cell.
    whole = maps._replace(boxes=torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    mean = torch.tensor([1.5, 1.0, 3.0]).softmax(0)
    torch.testing.assert_close(our_targets(config, whole, (1, 1), 3)[0, 0, 0], mean)
    # As the authors read the right half: x and y exchanged, all times the width, from (-0.5, 0.5) to (1.5, 1.5).
    # Two samples across, at columns 0 and 1; one down, at row 1 of a map of one row, which reads its only row.
    legacy = our_targets(LossConfig(label_smoothing=0.0, legacy_crop=True), maps, (1, 1), 3)[0, 0, 0]
    torch.testing.assert_close(legacy, mean)


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 3), cells=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    grid=st.tuples(st.integers(1, 15), st.integers(1, 15)), classes=st.integers(2, 40), top_k=st.integers(1, 5),
    seed=st.integers(0, 2**20), legacy=st.booleans(),
)  # fmt: skip
def test_targets_equal_the_authors_definition(batch, cells, grid, classes, top_k, seed, legacy):
    maps = make_maps(batch=batch, cells=cells, top_k=min(top_k, classes), classes=classes, seed=seed)
    config = LossConfig(legacy_crop=legacy)
    expected = authors_targets(config, maps, grid, classes)
    torch.testing.assert_close(our_targets(config, maps, grid, classes), expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    cells=st.tuples(st.integers(1, 9), st.integers(1, 9)), grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    classes=st.integers(2, 6), seed=st.integers(0, 2**20),
)  # fmt: skip
def test_targets_equal_a_brute_force_oracle(cells, grid, classes, seed):
    maps = make_maps(batch=2, cells=cells, top_k=2, classes=classes, seed=seed)
    expected = brute_force(maps, grid, classes).softmax(-1)
    ours = our_targets(LossConfig(label_smoothing=0.0), maps, grid, classes)
    torch.testing.assert_close(ours, expected.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("legacy", [False, True])
def test_twenty_thousand_classes(legacy):
    maps = make_maps(batch=1, cells=(18, 18), top_k=5, classes=20_000, seed=0)
    config = LossConfig(legacy_crop=legacy)
    expected = authors_targets(config, maps, (14, 14), 20_000)
    # Positions of samples are rounded to 2e-6 of a cell, across which logits differ by up to twenty.
    torch.testing.assert_close(our_targets(config, maps, (14, 14), 20_000), expected, rtol=1e-3, atol=1e-7)


def authors_loss(config, cls, tokens, labels, maps, kept):
    """The loss of section 3 of the paper with the authors' weights, on dense targets."""
    classes = cls.shape[-1]
    target = authors_targets(config, maps, (1, 1), classes).flatten(1)
    if config.ground_truth:
        off = config.label_smoothing / classes
        hard = torch.full_like(target, off).scatter_(1, labels[:, None], 1 - config.label_smoothing + off)
        ratio = (0.9 - 0.4 * (hard.argmax(-1) == target.argmax(-1)))[:, None]
        target = target * ratio + hard * (1 - ratio)
    target = kept * target + (1 - kept) * target.flip(0)
    dense = authors_targets(config, maps, tokens.shape[1:3], classes)
    cls_loss = -(target * cls.log_softmax(-1)).sum(-1).mean()
    return config.class_weight * cls_loss - config.dense_weight * (dense * tokens.log_softmax(-1)).sum(-1).mean()


def random_logits(batch, grid, classes, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    cls = torch.randn(batch, classes, generator=generator).to(dtype).requires_grad_()
    tokens = (2 * torch.randn(batch, *grid, classes, generator=generator)).to(dtype).requires_grad_()
    return Logits(cls, tokens), torch.randint(classes, (batch,), generator=generator)


@pytest.mark.parametrize("limit", [1, 2**24])  # one image at a time, and the whole batch
@pytest.mark.parametrize("ground_truth", [False, True])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(("batch", "cells", "grid", "classes"), [(5, (7, 5), (4, 6), 11), (1, (18, 18), (14, 14), 2)])
def test_loss_and_gradient_equal_the_authors_definition(
    monkeypatch, limit, ground_truth, legacy, batch, cells, grid, classes
):
    monkeypatch.setattr(token_labels, "MAP_NUMBERS", limit)
    maps = make_maps(batch=batch, cells=cells, top_k=2, classes=classes, seed=batch)
    logits, labels = random_logits(batch, grid, classes)
    config = LossConfig(ground_truth=ground_truth, legacy_crop=legacy, class_weight=0.8, dense_weight=0.6)
    ours = token_label_loss(config, logits, labels, maps, 0.7)
    expected = authors_loss(config, *logits, labels, maps, 0.7)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(*(torch.autograd.grad(3 * loss, logits) for loss in (ours, expected)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_the_teacher_has_half_of_the_target_where_it_agrees_and_nine_tenths_where_not():
    targets = torch.tensor([[0.75, 0.25], [0.75, 0.25]])
    mixed = with_ground_truth(LossConfig(label_smoothing=0.0), targets, torch.tensor([0, 1]))
    torch.testing.assert_close(mixed, torch.tensor([[0.875, 0.125], [0.675, 0.325]]))


def test_the_dense_map_keeps_within_its_bound(monkeypatch):
    sizes = []

    def measured(maps, classes):
        dense = dense_map(maps, classes)
        sizes.append(dense.numel())
        return dense

    monkeypatch.setattr(token_labels, "dense_map", measured)
    maps = make_maps(batch=12, cells=(10, 10), top_k=3, classes=30_000, seed=0)
    logits, labels = random_logits(12, (2, 2), 30_000)
    token_label_loss(LossConfig(), logits, labels, maps)
    assert sum(sizes) == 12 * 100 * 30_000 > token_labels.MAP_NUMBERS >= max(sizes)


def test_half_precision_changes_the_loss_no_more_than_rounding_the_logits():
    maps = make_maps(batch=4, cells=(6, 6), top_k=3, classes=10, seed=1)
    logits, labels = random_logits(4, (4, 4), 10, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = token_label_loss(LossConfig(), logits, labels, maps, 0.6)
    exact = token_label_loss(LossConfig(), Logits(*(v.detach().float() for v in logits)), labels, maps, 0.6)
    torch.testing.assert_close(half, exact, rtol=1e-6, atol=0)
    half.backward()
    assert logits.tokens.grad.dtype == torch.bfloat16


def test_without_a_dense_weight_the_logits_of_inference_learn_the_class_target():
    maps = make_maps(batch=3, cells=(4, 4), top_k=2, classes=5, seed=2)
    logits, labels = random_logits(3, (2, 2), 5)
    config = LossConfig(dense_weight=0.0, mix_token=False)
    target = authors_targets(config, maps, (1, 1), 5).flatten(1)
    both = logits.cls + 0.5 * logits.tokens.amax((1, 2))
    torch.testing.assert_close(token_label_loss(config, logits, labels, maps), F.cross_entropy(both, target))


@pytest.mark.parametrize("seed", range(6))
def test_targets_of_an_augmented_image_match_its_content(seed):
    """Augment an image with four quarters of four colors and classes: each token must have the class of its color."""
    width, height, rng = 160, 120, np.random.default_rng(seed)
    colors = np.array([(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)], np.uint8)
    quarter = 2 * (np.arange(height)[:, None] >= height // 2) + (np.arange(width) >= width // 2)
    image = Image.fromarray(colors[quarter])
    cells = 2 * (np.arange(12)[:, None] >= 6) + (np.arange(16) >= 8)
    labels = LabelMap(np.full((12, 16, 1), 9, np.float16), cells[..., None].astype(np.uint8))
    preprocessing = Preprocessing(size=(96, 64), mean=(0.5, 0.5, 0.5), std=(1, 1, 1))
    transform, checked = TrainTransform(AugmentConfig(crop_scale=(0.3, 1.0)), preprocessing), 0
    for _ in range(20):
        drawn = transform.draw(image.size, rng)
        drawn = replace(drawn, operations=tuple(o for o in drawn.operations if o.resample is not None))
        sample = Sample(transform.apply(image, drawn), 0, 0, (), move_labels(labels, drawn))
        batch = collate([sample])
        targets = our_targets(LossConfig(label_smoothing=0.0), batch.tokens, (12, 8), 4)[0]
        tokens = batch.images[0].permute(1, 2, 0).unfold(0, 8, 8).unfold(1, 8, 8).flatten(3).int()
        for row, column in np.ndindex(12, 8):
            near = tokens[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]  # a cell is up to two tokens wide
            distance = (near.amax((0, 1, 3)) - near.amin((0, 1, 3))).max()
            color = near[0, 0, :, 0].numpy()
            matches = np.flatnonzero((abs(colors.astype(int) - color) < 4).all(-1))
            if distance < 4 and len(matches):
                assert targets[row, column].argmax() == matches[0], (row, column, drawn)
                checked += 1
    assert checked > 150
