"""``volo eval``: judge a trained model on labelled images."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from rich.progress import Progress
from rich.table import Table

from volo.cli.parser import (
    VerbParser,
    add_data_options,
    add_runtime_options,
    data_source,
    parse,
    runtime_of,
)
from volo.cli.segmentation import OPTIONS, add_segmentation_options, model_task, open_exported, refuse
from volo.cli.segmentation import evaluate as evaluate_segmenter
from volo.cli.terminal import Console, warn_left_out
from volo.data import ImageSet, open_validation_data, with_channels
from volo.files import check_folder
from volo.inference import Predictor
from volo.names import few, shortened

if TYPE_CHECKING:
    from volo.inference.evaluate import Evaluation
    from volo.inference.imagenet import RealLabels

#: With more classes than this, the worst and the best are printed.
_MOST_CLASSES = 20
_WORST, _BEST = 10, 5


def run(arguments: Sequence[str]) -> int:
    """Print the scores, and write them, the predictions and the pictures where asked."""
    parser = VerbParser(prog="volo eval", description="Judge a trained model on labelled images.")
    parser.add_argument(
        "model", help="run folder, file of weights or of `volo export`, hf-hub:org/name, or name of volo weights list"
    )
    parser.add_argument("folder", help="folder, table or name of a data set, as for volo train; judged is its val part")
    parser.add_argument("--split", type=str | None, help="judge this part instead: train, val or test")
    add_data_options(parser)
    parser.add_argument(
        "--classes",
        type=Literal["all", "folder"],
        default="all",
        help="classes that the model chooses among: all it knows, or the folder's alone, as ImageNet-A and -R want",
    )
    parser.add_argument("--real", type=str | None, help="real.json: judge ImageNet's val images by these labels too")
    parser.add_argument(
        "--output",
        type=str | None,
        help="folder for results.json, per_class.csv, predictions.csv, confusion.png, reliability.png, mistakes.png; "
        "segmentation: results.json, per_class.csv, per_image.csv, confusion.png, worst.png",
    )
    add_segmentation_options(parser)
    parser.add_argument(
        "--batch_size", type=int | None, help="images at a time, default 64; segmentation: windows, default 4"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes that decode; 0 decodes in this one")
    parser.add_argument(
        "--device", type=str | None, help="where to compute; default: an accelerator where there is one"
    )
    parser.add_argument("--strict", action="store_true", help="an image that cannot be read is an error")
    add_runtime_options(parser)
    given, said = parse(parser, arguments), parse(parser, arguments, defaults=False)
    for option, least in (("batch_size", 1), ("workers", 0)):
        if given[option] is not None and given[option] < least:
            raise ValueError(f"--{option} must be at least {least}, not {given[option]}")
    given["model"] = open_exported(given)
    task = model_task(given["model"])
    refuse(said, ("classes", "real") if task == "segmentation" else OPTIONS, task)
    return evaluate_segmenter(given) if task == "segmentation" else _evaluate(given)


def _evaluate(given: dict[str, Any]) -> int:
    from volo.inference.evaluate import evaluate
    from volo.inference.imagenet import in_words
    from volo.inference.report import write_evaluation

    output = Path(given["output"]) if given["output"] else None
    if output is not None:
        check_folder(output)  # before the work, not after it
    console = Console()
    predictor = Predictor(given["model"], device=given["device"], **runtime_of(given))
    images, chosen, real = _open(given, predictor)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("judging", total=len(images.labels))
        result = evaluate(
            predictor,
            images,
            classes=chosen,
            batch_size=given["batch_size"] or 64,
            workers=given["workers"],
            on_batch=lambda count: progress.advance(task, count),
        )
    result = replace(result, class_names=in_words(result.class_names))
    _warn(result, strict=given["strict"])
    reassessed = real.scores(result) if real else {}
    for table in (_scores(result, reassessed), _classes(result)):
        console.print(table)
    if output is not None:
        write_evaluation(result, images, output, more=reassessed)
        console.print(f"scores of every class, predictions and pictures are in {output}", soft_wrap=True)
    elif len(result.class_names) > _MOST_CLASSES:
        console.print(f"--output FOLDER writes the scores of all {len(result.class_names):,} classes")
    return 0


def _open(given: dict[str, Any], predictor: Predictor) -> tuple[ImageSet, list[int] | None, "RealLabels | None"]:
    """The images, the classes to choose among (None means all), and the reassessed labels where they are wanted."""
    from volo.inference.imagenet import RealLabels, StoredImages, as_imagenet, knows_imagenet

    opened = open_validation_data(given["folder"], part=given["split"], source=data_source(given))
    opened = as_imagenet(opened, predictor.class_names)
    images = with_channels(opened, predictor.preprocessing.channels, predictor.preprocessing.background)
    among = given["classes"] == "folder"
    if given["real"] and (among or not knows_imagenet(predictor.class_names)):
        raise ValueError("--real judges a model of ImageNet's 1000 classes, choosing among all of them")
    real = RealLabels(given["real"], images) if given["real"] else None
    count = len(images.class_names)
    if isinstance(opened, StoredImages) and not among and count < 1000:
        print(
            f"note: the folder has {count} of ImageNet's 1000 classes, and the model chooses among all of them; "
            "published scores of ImageNet-A and -R are among the folder's alone: --classes folder",
            file=sys.stderr,
        )
    asked = set(images.class_names)
    # Where the model knows none of them, the evaluation says so.
    chosen = [index for index, name in enumerate(predictor.class_names) if name in asked] or None
    return images, chosen if among else None, real


def _warn(result: "Evaluation", *, strict: bool) -> None:
    """Say what was left out, and what has no score."""
    warn_left_out(result.problems, strict=strict)
    if result.absent:
        print(
            f"warning: {len(result.absent)} of the model's {len(result.class_names)} classes have no images and so "
            f"no score: {few(map(shortened, result.absent))}",
            file=sys.stderr,
        )


def _scores(result: "Evaluation", reassessed: dict[str, Any]) -> Table:
    from volo.inference.scores import SCORE_NAMES

    unreadable = f", {len(result.problems)} unreadable" if result.problems else ""
    table = Table(title=f"{len(result.labels):,} images of {len(result.class_names):,} classes{unreadable}")
    for column in ("score", "value", "95 % interval"):
        table.add_column(column, justify="left" if column == "score" else "right")
    for key, name in SCORE_NAMES.items():
        if result.scores[key] is not None:
            ends = result.intervals[key]
            table.add_row(name, f"{result.scores[key]:.2%}", f"{ends[0]:.2%} to {ends[1]:.2%}" if ends else "")
    table.add_row("  by chance alone", f"< {result.chance_calibration_error:.2%}")
    for key, name in (("real_top1", "top-1 on ReaL labels"), ("real_top5", "top-5 on ReaL labels")):
        if reassessed.get(key) is not None:
            table.add_row(name, f"{reassessed[key]:.2%}", "")
    table.add_row("loss", f"{result.loss:.4f}")
    return table


def _classes(result: "Evaluation") -> Table:
    """A row for every class, or for the worst and the best by F1 where there are many."""
    from volo.inference.report import most_mistaken

    classes, mistaken = result.classes, most_mistaken(result)
    order = np.argsort(classes.f1, kind="stable")
    order = order[~np.isnan(classes.f1[order])]
    many = len(result.class_names) > _MOST_CLASSES and len(order) > _WORST + _BEST
    title = f"the {_WORST} worst and the {_BEST} best classes by F1" if many else None
    table = Table(title=title)
    table.add_column("class", no_wrap=True)
    for column in ("images", "precision", "recall", "F1"):
        table.add_column(column, justify="right", no_wrap=True, min_width=max(6, len(column)))
    table.add_column("taken for", no_wrap=True)
    shown = range(len(result.class_names)) if len(result.class_names) <= _MOST_CLASSES else order
    sections = (order[:_WORST], order[-_BEST:]) if many else (shown,)
    for section in sections:
        for index in section:
            scores = (classes.precision[index], classes.recall[index], classes.f1[index])
            other = _counted(result, *mistaken[index]) if index in mistaken else ""
            name = shortened(result.class_names[index], 20)
            table.add_row(name, f"{classes.images[index]:,}", *(_percent(score) for score in scores), other)
        table.add_section()
    return table


def _counted(result: "Evaluation", index: int, count: int) -> str:
    return f"{shortened(result.class_names[index], 12)} {count:,}"


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{share:.1%}"
