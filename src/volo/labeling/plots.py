"""Pictures of token labels over the images they belong to, before and after augmentation. Needs ``volo[train]``."""

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

#: Augmented forms of every image, and classes of a row that get a color of their own.
_FORMS, _COLORS = 4, 9

#: Nine colors that can be told apart; gray is for all other classes.
_PALETTE = [color for place, color in enumerate(matplotlib.colormaps["tab10"].colors) if place != 7]  # type: ignore[attr-defined]


def draw_labels(
    images: ImageSet, labels: str, path: Path, *, data: str, size: int = 224, count: int = 4, seed: int = 0
) -> None:
    """Draw images under a grid of their token labels into a PNG: whole, then as training sees them.

    Every row is an image. Of the whole image each cell of the map is colored by its best class, of the augmented
    ones each token by the best class of its target; the surer the teacher, the stronger the color.

    Args:
        images: the images that were labeled.
        labels: a store, or a folder in the authors' layout.
        path: where to write.
        data: what the person named to open the images.
        size: pixels of the augmented images.
        count: images to draw.
        seed: chooses the images, and draws their augmentation.

    Raises:
        ValueError: the labels do not fit the images, or not one image can be drawn.
    """
    if count < 1 or size < 16:
        raise ValueError(f"there must be at least 1 image of at least 16 pixels, not {count} of {size}")
    source = open_token_labels(labels, images, data)
    rng = np.random.default_rng(seed)
    rows = _rows(images, source, size, count, rng)
    if not rows:
        raise ValueError(f"no image of {data} has labels and can be read")
    figure = Figure(figsize=(2.6 * (_FORMS + 2), 3.1 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), _FORMS + 2, squeeze=False)
    names = [elide(name) for name in in_words(images.class_names)]
    for axes, (index, panels) in zip(grid, rows, strict=True):
        _draw_row(axes, panels, names, names[images.labels[index]])
    save_figure(figure, path, dpi=90)


def _rows(
    images: ImageSet, source: TokenLabels, size: int, count: int, rng: np.random.Generator
) -> list[tuple[int, list[tuple[np.ndarray, Tensor]]]]:
    """Images with their panels: pixels, and probabilities of every cell (h, w, classes)."""
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
    """The targets of a crop without smoothing, (h2, w2, classes)."""
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
