"""Plots of token labels over their images, before and after augmentation. Needs the extra ``volo[train]``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from volo.data import (
    AugmentConfig,
    ImageError,
    ImageSet,
    LabelMap,
    LabelMaps,
    Preprocessing,
    TokenLabels,
    TrainTransform,
    open_token_labels,
)
from volo.data.classification.label_map import move_labels
from volo.figures import save_figure
from volo.imagenet import in_words
from volo.messages import elide
from volo.tasks.losses import LossConfig
from volo.tasks.token_labels import crop_targets, dense_map

#: Number of augmented versions of every image, and of classes in a row that get a color of their own.
_FORMS, _COLORS = 4, 9

#: Nine colors that are easy to tell apart. Gray is left out, since it stands for all other classes.
_PALETTE = [color for place, color in enumerate(matplotlib.colormaps["tab10"].colors) if place != 7]  # type: ignore[attr-defined]


def draw_labels(
    images: ImageSet, labels: str, path: Path, *, data: str, size: int = 224, count: int = 4, seed: int = 0
) -> None:
    """Draw images with their token labels as a colored grid and save them as PNG.

    Every row shows one image, first whole, then augmented as in training. On the whole image the color of a cell is
    that of its best class; on an augmented image the color of a token is that of the best class of its target. The
    color is the stronger, the higher the probability of the class.

    Args:
        images: the images that were labeled.
        labels: a store, or a folder in the authors' layout.
        path: the PNG file to write.
        data: path or name of the data as the user gave it, see :func:`~volo.data.token_labels.listing.list_images`.
        size: side of the augmented images, pixels.
        count: number of images to draw.
        seed: seed of the choice of images and of their augmentation.

    Raises:
        ValueError: The labels do not fit the images, or no image can be drawn.
    """
    if count < 1 or size < 16:
        raise ValueError(f"--count must be at least 1 and --size at least 16, not {count} and {size}")
    source = open_token_labels(labels, images, data)
    rng = np.random.default_rng(seed)
    rows = _rows(images, source, size, count, rng)
    if not rows:
        raise ValueError(f"{data} has no readable image with token labels")
    figure = Figure(figsize=(2.6 * (_FORMS + 2), 3.1 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), _FORMS + 2, squeeze=False)
    names = [elide(name) for name in in_words(images.class_names)]
    for axes, (index, panels) in zip(grid, rows, strict=True):
        _draw_row(axes, panels, names, names[images.labels[index]])
    save_figure(figure, path, dpi=90)


def _rows(
    images: ImageSet, source: TokenLabels, size: int, count: int, rng: np.random.Generator
) -> list[tuple[int, list[tuple[np.ndarray, Tensor]]]]:
    """Return the index of every image with its panels: pixels, and probabilities of the cells (h, w, classes)."""
    channels, classes = images.channels, len(images.class_names)
    transform = TrainTransform(
        AugmentConfig(), Preprocessing(size=(size, size), mean=(0.45,) * channels, std=(0.22,) * channels)
    )
    tokens = size // (16 if size >= 128 else 8)
    rows: list[tuple[int, list[tuple[np.ndarray, Tensor]]]] = []
    for index in rng.permutation(len(images.labels)):
        if len(rows) == count:
            break
        try:
            image, whole = images.read(int(index)), source.read(int(index))
        except ImageError:
            continue
        panels = [(np.asarray(image), _probabilities(whole, whole.scores.shape[:2], classes))]
        for _ in range(_FORMS):
            drawn = transform.draw(image.size, rng)
            moved = move_labels(whole, drawn)
            panels.append((transform.apply(image, drawn), _probabilities(moved, (tokens, tokens), classes)))
        rows.append((int(index), panels))
    return rows


def _probabilities(labels: LabelMap, grid: Sequence[int], classes: int) -> Tensor:
    """Return the targets of the tokens of a crop without label smoothing, (h2, w2, classes) for ``grid`` (h2, w2)."""
    scores, indices = torch.from_numpy(labels.scores)[None], torch.from_numpy(labels.classes.astype(np.int64))[None]
    maps = LabelMaps(scores, indices, torch.tensor([labels.box]))
    dense = dense_map(maps, classes)
    return crop_targets(LossConfig(label_smoothing=0.0), dense, maps.boxes, (grid[0], grid[1]))[0]


def _draw_row(axes: Sequence[Any], panels: list[tuple[np.ndarray, Tensor]], names: Sequence[str], title: str) -> None:
    best = [probabilities.max(dim=-1) for _, probabilities in panels]
    mass = torch.stack([torch.bincount(b.indices.flatten(), b.values.flatten(), len(names)) for b in best]).sum(0)
    ranked = mass.argsort(descending=True)[:_COLORS].tolist()
    colors = dict(zip(ranked, _PALETTE, strict=False))
    for place, (axis, (pixels, _), (values, classes)) in enumerate(zip(axes, panels, best, strict=False)):
        axis.imshow(pixels.squeeze(), cmap="gray" if pixels.squeeze().ndim == 2 else None)
        overlay = np.zeros((*classes.shape, 4))
        for cell in np.ndindex(*classes.shape):
            color = colors.get(int(classes[cell]), (0.6, 0.6, 0.6))
            overlay[cell] = (*color, 0.6 * float(values[cell]))
        height, width = pixels.shape[:2]
        axis.imshow(overlay, extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="nearest", aspect="auto")
        axis.set_aspect("equal")
        axis.set_title("whole: " + title if place == 0 else f"augmented {place}", fontsize=9, parse_math=False)
        axis.axis("off")
    axes[-1].axis("off")
    legend = axes[-1].legend(
        handles=[Patch(color=colors[index], label=names[index]) for index in ranked if mass[index] > 0],
        loc="center", fontsize=8, frameon=False,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
