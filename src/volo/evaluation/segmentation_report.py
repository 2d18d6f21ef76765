"""The evaluation of a segmentation model as files. Needs the extra ``volo[train]``."""

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from volo.data import MaskedImages, hex_color
from volo.data.segmentation.overlay import overlay
from volo.evaluation.plots import draw_confusion
from volo.evaluation.report import RESULTS_FILE, most_mistaken, write_csv
from volo.evaluation.segmentation import SegmentationEvaluation
from volo.figures import save_figure
from volo.files import atomic_write, check_writable_folder, created_folder
from volo.messages import elide

#: Files that :func:`write_segmentation` writes.
FILES = (RESULTS_FILE, "per_class.csv", "per_image.csv", "confusion.png", "worst.png")


def write_segmentation(
    evaluation: SegmentationEvaluation, images: MaskedImages, folder: Path, *, more: dict[str, Any] | None = None
) -> None:
    """Write scores and pictures into ``folder``, all of them or none.

    ``results.json``, ``per_class.csv``, ``per_image.csv``, ``confusion.png`` and ``worst.png``.

    Args:
        evaluation: what to write.
        images: what was judged.
        folder: made where there is none.
        more: further entries of ``results.json``.

    Raises:
        ValueError: the folder is a file, or not writable.
    """
    check_writable_folder(folder)
    results = {**evaluation.summary(), **(more or {})}
    with created_folder(folder), ExitStack() as stack:  # the files get their names when all of them are written

        def path(name: str) -> Path:
            return stack.enter_context(atomic_write(folder / name))

        path(RESULTS_FILE).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        write_csv(path("per_class.csv"), _CLASS_COLUMNS, _class_rows(evaluation))
        write_csv(path("per_image.csv"), _IMAGE_COLUMNS, _image_rows(evaluation, images))
        draw_confusion(evaluation, path("confusion.png"))
        draw_worst(evaluation, images, path("worst.png"))


_CLASS_COLUMNS = ("class", "color", "pixels", "images", "iou", "precision", "recall", "mistaken_for", "mistaken")


def _class_rows(evaluation: SegmentationEvaluation) -> Iterable[Sequence[Any]]:
    """Scores of every class, what its pixels are mistaken for most often, and how many are."""
    right, true, taken = (table.sum(axis=0) for table in (evaluation.right, evaluation.true, evaluation.predicted))
    mistaken, iou = most_mistaken(evaluation), evaluation.iou
    for index, name in enumerate(evaluation.class_names):
        other, count = mistaken.get(index, (None, 0))
        yield (
            name,
            hex_color(evaluation.class_colors[index]),
            true[index],
            np.count_nonzero(evaluation.true[:, index]),
            "" if np.isnan(iou[index]) else f"{iou[index]:.6f}",
            f"{right[index] / taken[index]:.6f}" if taken[index] else "",
            f"{right[index] / true[index]:.6f}" if true[index] else "",
            "" if other is None else evaluation.class_names[other],
            count,
        )


_IMAGE_COLUMNS = ("path", "miou", "pixel_accuracy", "pixels")


def _image_rows(evaluation: SegmentationEvaluation, images: MaskedImages) -> Iterable[Sequence[Any]]:
    scores = evaluation.image_scores
    for row, index in enumerate(evaluation.indices):
        values = (f"{scores[name][row]:.6f}" for name in ("miou", "pixel_accuracy"))
        yield images.name(int(index)), *values, evaluation.true[row].sum()


def draw_worst(evaluation: SegmentationEvaluation, images: MaskedImages, path: Path) -> None:
    """Draw the images with the least share of right pixels into a PNG: photo, true classes, predicted ones."""
    shown = evaluation.worst
    heights = [3.4 * image.photo.height / image.photo.width for image in shown]
    figure = Figure(figsize=(11, 1.4 + sum(heights) + 0.3 * len(shown)), layout="constrained")
    figure.suptitle(f"the {len(shown)} images with the fewest pixels right, of {len(evaluation.indices):,}")
    grid = figure.subplots(len(shown), 3, squeeze=False, height_ratios=heights)
    for axes, image in zip(grid, shown, strict=True):
        name = Path(*Path(images.name(image.index)).parts[-2:])
        _show(axes[0], image.photo, elide(str(name), 44))
        _show(axes[1], overlay(image.photo, image.truth, evaluation.class_colors, opacity=0.6), "true")
        predicted = overlay(image.photo, image.predicted, evaluation.class_colors, opacity=0.6)
        _show(axes[2], predicted, f"predicted, {image.accuracy:.1%} of pixels right")
    present = np.unique(np.concatenate([mask.ravel() for image in shown for mask in (image.truth, image.predicted)]))
    patches = [
        Patch(facecolor=hex_color(evaluation.class_colors[index]), edgecolor="dimgray", label=elide(name, 20))
        for index, name in enumerate(evaluation.class_names)
        if index in present
    ]
    for text in figure.legend(handles=patches, loc="outside lower center", ncols=6, fontsize=8).get_texts():
        text.set_parse_math(False)
    save_figure(figure, path)


def _show(axes: Axes, picture: Any, title: str) -> None:
    axes.imshow(np.asarray(picture), cmap="gray")
    axes.set_title(title, fontsize=8, parse_math=False)
    axes.axis("off")
