"""Plots of an evaluation of a segmentation model. Needs the extra ``volo[train]``."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from volo.data import MaskedImages, hex_color
from volo.data.segmentation.overlay import overlay
from volo.evaluation.segmentation import SegmentationEvaluation
from volo.figures import save_figure
from volo.messages import elide


def draw_worst(evaluation: SegmentationEvaluation, images: MaskedImages, path: Path) -> None:
    """Draw the images with the lowest pixel accuracy into a PNG: photo, true classes, predicted classes."""
    worst = evaluation.worst
    heights = [3.4 * image.photo.height / image.photo.width for image in worst]
    figure = Figure(figsize=(11, 1.4 + sum(heights) + 0.3 * len(worst)), layout="constrained")
    figure.suptitle(f"the {len(worst)} of {len(evaluation.indices):,} images with the lowest pixel accuracy")
    grid = figure.subplots(len(worst), 3, squeeze=False, height_ratios=heights)
    for axes, image in zip(grid, worst, strict=True):
        name = Path(*Path(images.name(image.index)).parts[-2:])
        _show(axes[0], image.photo, elide(str(name), 44))
        _show(axes[1], overlay(image.photo, image.truth, evaluation.class_colors, opacity=0.6), "true")
        predicted = overlay(image.photo, image.predicted, evaluation.class_colors, opacity=0.6)
        _show(axes[2], predicted, f"predicted, {image.accuracy:.1%} of pixels correct")
    present = np.unique(np.concatenate([mask.ravel() for image in worst for mask in (image.truth, image.predicted)]))
    patches = [
        Patch(facecolor=hex_color(evaluation.class_colors[index]), edgecolor="dimgray", label=elide(name, 20))
        for index, name in enumerate(evaluation.class_names)
        if index in present
    ]
    # matplotlib would typeset $…$ in a class name as a formula.
    for text in figure.legend(handles=patches, loc="outside lower center", ncols=6, fontsize=8).get_texts():
        text.set_parse_math(False)
    save_figure(figure, path)


def _show(axes: Axes, picture: Any, title: str) -> None:
    axes.imshow(np.asarray(picture), cmap="gray")
    axes.set_title(title, fontsize=8, parse_math=False)
    axes.axis("off")
