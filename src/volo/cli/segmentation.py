"""What ``volo eval`` and ``volo predict`` do with a segmentation model."""

import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jsonargparse import ArgumentParser
from rich.table import Table

from volo.cli.parser import data_source, runtime_of
from volo.cli.progress import image_progress
from volo.cli.terminal import Console, warn_left_out
from volo.data import open_masked_validation_data, with_channels
from volo.files import check_folder, making
from volo.inference import Segmentation, Segmenter
from volo.inference.forward import ExportedModel, opened
from volo.inference.mask_files import MaskFolder
from volo.models import task_of
from volo.names import few, shortened, shown

if TYPE_CHECKING:
    from volo.cli.predict import Reader
    from volo.inference.segmentation_scores import SegmentationEvaluation

#: Options of both verbs that are for segmentation models alone.
OPTIONS = ("window", "stride", "scales", "flip")

#: Classes that a line of the terminal names of an image.
_MOST_NAMED = 4


def add_segmentation_options(parser: ArgumentParser) -> None:
    """How a segmentation model looks at images."""
    parser.add_argument(
        "--window",
        type=int | list[int] | None,
        help="segmentation: side, or [height,width], of the windows that slide over an image, pixels; default: the "
        "crops it was trained on",
    )
    parser.add_argument(
        "--stride",
        type=int | list[int] | None,
        help="segmentation: from a window to the next, likewise; default: two thirds of the window",
    )
    parser.add_argument(
        "--scales",
        type=list[float],
        default=[1.0],
        help="segmentation: factors by which to enlarge and shrink an image, such as [0.75,1,1.25]; averaged",
    )
    parser.add_argument("--flip", action="store_true", help="segmentation: look at images mirrored as well; averaged")


def refuse(given: dict[str, Any], options: tuple[str, ...], task: str) -> None:
    """See that no option was given that says nothing to a model of this task.

    Raises:
        ValueError: one was.
    """
    wrong = [f"--{name}" for name in options if name in given]
    if wrong:
        others = "classification" if task == "segmentation" else "segmentation"
        raise ValueError(f"{', '.join(wrong)}: for {others} models; this model is one of {task}: leave it out")


def open_exported(given: dict[str, Any]) -> str | ExportedModel:
    """The model that these options name: opened if it is an exported file, which alone can say what its task is."""
    model: str = given["model"]
    return opened(model, device=given["device"], **runtime_of(given)) or model


def model_task(model: str | ExportedModel) -> str:
    """Classification or segmentation."""
    return model.described.task if isinstance(model, ExportedModel) else task_of(model)


def segmenter(given: dict[str, Any]) -> Segmenter:
    """The model with its windows and views, as these options say."""
    return Segmenter(
        given["model"],
        device=given["device"],
        window=_sides("window", given["window"]),
        stride=_sides("stride", given["stride"]),
        scales=given["scales"],
        flip=given["flip"],
        batch_size=given["batch_size"] or 4,
        **runtime_of(given),
    )


def _sides(option: str, value: int | list[int] | None) -> int | tuple[int, int] | None:
    if not isinstance(value, list):
        return value
    if len(value) != 2:
        raise ValueError(f"--{option} must be a side or [height,width], not {value}")
    return value[0], value[1]


def predict(given: dict[str, Any], model: Segmenter, reader: "Reader") -> int:
    """Write masks, overlays, a legend and the shares of classes into a folder, or print the shares."""
    folder = Path(given["output"]) if given["output"] else None
    console, table = Console(), Table()
    table.add_column("image", overflow="fold")
    table.add_column("share of pixels")
    files = None
    if folder is not None:
        files = MaskFolder(folder, reader.paths, model.class_names, model.class_colours, overwrite=given["overwrite"])
    done = 0
    with making(folder) if folder else nullcontext(), files or nullcontext(), image_progress(console) as progress:
        task = progress.add_task("segmenting", total=len(reader.paths))
        for image in reader:
            segmentation, path = model(image), reader.good[-1]
            if files is None:
                table.add_row(shown(path), _in_words(segmentation))
            else:
                files.write(path, image, segmentation)
            done += 1
            progress.update(task, completed=done + reader.bad)
    if not done:
        raise ValueError(f"not one of the {len(reader.paths)} images could be read")
    if folder is None:
        console.print(table)
        console.print("--output FOLDER writes masks and overlays")
    else:
        console.print(f"{done:,} masks, overlays, legend.png and shares.csv are in {shown(folder)}", soft_wrap=True)
    return 0


def _in_words(segmentation: Segmentation) -> str:
    """The largest classes of an image."""
    shares = np.array(segmentation.shares)
    order = [index for index in np.argsort(-shares, kind="stable") if shares[index]]
    named = [f"{shortened(segmentation.class_names[index], 20)} {shares[index]:.1%}" for index in order[:_MOST_NAMED]]
    return ", ".join(named) + (f" and {len(order) - _MOST_NAMED} more" if len(order) > _MOST_NAMED else "")


def evaluate(given: dict[str, Any]) -> int:
    """Print the scores of a segmentation model, and write them and the pictures where asked."""
    from volo.inference.segmentation_report import write_segmentation
    from volo.inference.segmentation_scores import evaluate_segmentation

    output = Path(given["output"]) if given["output"] else None
    if output is not None:
        check_folder(output)  # before the work, not after it
    console, model = Console(), segmenter(given)
    opened = open_masked_validation_data(given["folder"], part=given["split"], source=data_source(given))
    images = with_channels(opened, model.preprocessing.channels, model.preprocessing.background)
    with image_progress(console) as progress:
        task = progress.add_task("judging", total=len(images))
        result = evaluate_segmentation(model, images, workers=given["workers"], on_image=lambda: progress.advance(task))
    _warn(result, strict=given["strict"])
    for table in (_scores(result), _classes(result)):
        console.print(table)
    if output is not None:
        write_segmentation(result, images, output, more={"views": asdict(model.sliding)})
        console.print(f"scores of every class and image, and pictures are in {shown(output)}", soft_wrap=True)
    return 0


def _warn(result: "SegmentationEvaluation", *, strict: bool) -> None:
    """Say what was left out, and what has no score."""
    warn_left_out(result.problems, strict=strict)
    if result.absent:
        print(
            f"warning: {len(result.absent)} of the model's {len(result.class_names)} classes are in no mask, so their "
            f"IoU is 0 if the model sees them anywhere, else there is none: {few(map(shortened, result.absent))}",
            file=sys.stderr,
        )


def _scores(result: "SegmentationEvaluation") -> Table:
    from volo.inference.segmentation_scores import SCORE_NAMES

    unreadable = f", {len(result.problems)} unreadable" if result.problems else ""
    table = Table(title=f"{len(result.indices):,} images of {len(result.class_names)} classes{unreadable}")
    for column in ("score", "value", "95 % interval"):
        table.add_column(column, justify="left" if column == "score" else "right")
    for key, name in SCORE_NAMES.items():
        ends = result.intervals[key]
        table.add_row(name, f"{result.scores[key]:.2%}", f"{ends[0]:.2%} to {ends[1]:.2%}" if ends else "")
    return table


def _classes(result: "SegmentationEvaluation") -> Table:
    """A row for every class."""
    from volo.inference.report import most_mistaken

    table, mistaken = Table(), most_mistaken(result)
    table.add_column("class", no_wrap=True)
    for column in ("pixels", "IoU", "precision", "recall"):
        table.add_column(column, justify="right", no_wrap=True, min_width=len(column))
    table.add_column("taken for", no_wrap=True)
    right, true, predicted = (values.sum(axis=0) for values in (result.right, result.true, result.predicted))
    for index, name in enumerate(result.class_names):
        other = ""
        if index in mistaken:
            which, count = mistaken[index]
            other = f"{shortened(result.class_names[which], 12)} {count / true[index]:.1%}"
        table.add_row(
            shortened(name, 20),
            _percent(true[index], true.sum()),
            "–" if np.isnan(result.iou[index]) else f"{result.iou[index]:.1%}",
            _percent(right[index], predicted[index]),
            _percent(right[index], true[index]),
            other,
        )
    return table


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"
