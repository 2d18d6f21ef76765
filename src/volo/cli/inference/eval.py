"""``volo eval``: evaluate a trained model on labeled images, or on images with masks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from rich.table import Table

from volo.cli.ui.model_options import (
    SEGMENTATION_OPTIONS,
    add_segmentation_options,
    make_segmenter,
    model_task,
    open_model_option,
    refuse,
)
from volo.cli.ui.parser import (
    VerbParser,
    add_data_options,
    add_overwrite_option,
    add_runtime_options,
    data_source,
    parse,
    runtime_of,
)
from volo.cli.ui.progress import image_progress
from volo.cli.ui.terminal import Console, note, warn, warn_left_out
from volo.data import ImageSet, open_splits, with_channels
from volo.data.class_names import find_classes
from volo.data.identity import data_root
from volo.data.read_notes import summarize_notes
from volo.data.splits import UNSPLIT, evaluation_split, training_split
from volo.inference import Predictor
from volo.messages import elide, join_few, printable
from volo.outputs import check_output_folder, own_folder

if TYPE_CHECKING:
    from volo.evaluation.classification import Evaluation
    from volo.evaluation.imagenet import RealLabels
    from volo.evaluation.segmentation import SegmentationEvaluation

#: With more classes than this, only the worst and the best are printed.
_MOST_CLASSES = 20
_WORST, _BEST = 10, 5


def run(arguments: Sequence[str]) -> int:
    """Print the scores, and write them, the predictions and pictures to the output folder if one is options."""
    options, explicit = parse(parser(), arguments), parse(parser(), arguments, defaults=False)
    for name, least in (("batch_size", 1), ("workers", 0)):
        if options[name] is not None and options[name] < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, not {options[name]}")
    options["inputs"] = [options["model"], options["data"]]
    options["model"] = open_model_option(options)
    task = model_task(options["model"])
    if task == "segmentation":
        refuse(explicit, ("among", "real"), task)
        return _evaluate_segmenter(options)
    if explicit.get("classes") in ("all", "folder"):
        raise ValueError(f"--classes is a list of class names now: write --among {explicit['classes']}")
    refuse(explicit, (*SEGMENTATION_OPTIONS, "classes"), task)
    return _evaluate_classifier(options)


def parser() -> VerbParser:
    """Return the parser of ``volo eval``."""
    parser = VerbParser(
        prog="volo eval",
        usage="MODEL DATA [options]",
        description="Evaluate a trained model on labeled images, or on images with masks.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="model folder, file of weights or of volo export, hf-hub:org/name, or a name of volo weights list",
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        help="folder, table or name of a data set, as for volo train; the val split is evaluated, or the images that "
        "the training of the model held out",
    )
    parser.add_argument(
        "--split", type=str | None, help="evaluate this split instead: train, val, test, or all of data without splits"
    )
    add_data_options(parser)
    parser.add_argument(
        "--among",
        type=Literal["all", "folder"],
        default="all",
        help="classes that the model chooses among: all it has, or those of the folder, as for ImageNet-A and -R",
    )
    parser.add_argument("--real", type=str | None, help="real.json: evaluate ImageNet's val images by its labels, too")
    parser.add_argument(
        "--output",
        type=str | None,
        help="folder for results.json, per_class.csv, predictions.csv, confusion.png, reliability.png, mistakes.png; "
        "segmentation: results.json, per_class.csv, per_image.csv, confusion.png, worst.png",
    )
    add_overwrite_option(parser)
    add_segmentation_options(parser)
    parser.add_argument(
        "--batch-size", type=int | None, help="images at a time (default: 64); segmentation: windows (default: 4)"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes that load images; 0 loads in this one")
    parser.add_argument("--device", type=str | None, help="where to compute (default: an accelerator if there is one)")
    parser.add_argument("--strict", action="store_true", help="make an image that cannot be read an error")
    add_runtime_options(parser)
    return parser


def _evaluate_classifier(options: dict[str, Any]) -> int:
    from volo.evaluation.classification import evaluate
    from volo.evaluation.report import write_evaluation
    from volo.imagenet import in_words

    output = _checked_output(options)
    console = Console()
    predictor = Predictor(options["model"], device=options["device"], **runtime_of(options))
    images, trained_on, chosen, real = _open(options, predictor)
    with image_progress(console) as progress:
        task = progress.add_task("evaluating", total=len(images.labels))
        result = evaluate(
            predictor,
            images,
            classes=chosen,
            batch_size=options["batch_size"] or 64,
            workers=options["workers"],
            on_batch=lambda count: progress.advance(task, count),
        )
    result = replace(result, class_names=in_words(result.class_names), trained_on=_count(trained_on, result.indices))
    _warn(result, "have no images and so no score", strict=options["strict"])
    reassessed = real.scores(result) if real else {}
    for table in (_scores(result, reassessed), _classes(result)):
        console.print(table)
    if output is not None:
        with own_folder(output, "eval"):
            write_evaluation(result, images, output, more=reassessed)
        console.print(f"scores of every class, predictions and pictures are in {output}", soft_wrap=True)
    elif len(result.class_names) > _MOST_CLASSES:
        console.print(f"--output FOLDER writes the scores of all {len(result.class_names):,} classes")
    return 0


def _evaluate_segmenter(options: dict[str, Any]) -> int:
    from volo.evaluation.report import write_evaluation
    from volo.evaluation.segmentation import evaluate_segmentation

    output = _checked_output(options)
    console, model = Console(), make_segmenter(options)
    opened, trained_on = _open_split(options, "segmentation")
    images = with_channels(opened, model.preprocessing.channels, model.preprocessing.background)
    with image_progress(console) as progress:
        task = progress.add_task("evaluating", total=len(images))
        result = evaluate_segmentation(
            model, images, workers=options["workers"], on_image=lambda: progress.advance(task)
        )
    result = replace(result, trained_on=_count(trained_on, result.indices))
    _warn(
        result,
        "are in no mask, so their IoU is 0 if the model predicts them anywhere, else undefined",
        strict=options["strict"],
    )
    for table in (_segmentation_scores(result), _segmentation_classes(result)):
        console.print(table)
    if output is not None:
        with own_folder(output, "eval"):
            write_evaluation(result, images, output, more={"views": asdict(model.sliding)})
        console.print(f"scores of every class and image, and pictures are in {printable(output)}", soft_wrap=True)
    return 0


def _checked_output(options: dict[str, Any]) -> Path | None:
    """Return the folder to write to, checked before the work rather than after it."""
    output = Path(options["output"]) if options["output"] else None
    if output is not None:
        from volo.evaluation.report import EVALUATION_FILES

        names = EVALUATION_FILES[model_task(options["model"])]
        check_output_folder(output, names, overwrite=options["overwrite"], inputs=options["inputs"])
    return output


def _open_split(options: dict[str, Any], task: Literal["classification", "segmentation"]) -> tuple[Any, Any]:
    """Open the images to evaluate; of data without splits, those that the run of the model held out.

    Returns:
        The images; and which of them the model was trained on, (number of images,) bool, or None if it is unknown.
    """
    data, split, source = options["data"], options["split"], data_source(options)
    splits: Mapping[str, Any] = open_splits(data, task=task, source=source)
    if split is not None or splits.keys() & {"val", "test"}:
        images = evaluation_split(splits, data, split)
        return images, _trained_on(options, images)
    images = training_split(splits, data)
    trained_on = _trained_on(options, images)
    if trained_on is None or not trained_on.any() or trained_on.all():
        return (images if UNSPLIT in splits else evaluation_split(splits, data, None)), trained_on
    held_out = np.flatnonzero(~trained_on)
    note(
        f"these are the {len(held_out):,} images held out from training; the model was trained on the other "
        f"{trained_on.sum():,} in {data} (--split {next(iter(splits))} evaluates them, too)"
    )
    return images.taking(held_out), trained_on[held_out]


def _trained_on(options: dict[str, Any], images: Any) -> "np.ndarray | None":
    """Return which images the model was trained on, or None if it is unknown."""
    from volo.training.run_images import find_trained_on

    model, data = options["inputs"]
    try:
        return find_trained_on(model, images, data_root(data, data_source(options)))
    except (ValueError, OSError) as error:
        note(f"how many of these images the model was trained on is unknown: {error}")
        return None


def _count(trained_on: "np.ndarray | None", evaluated: np.ndarray) -> int | None:
    """Return the number of evaluated images that the model was trained on, and print a warning if there are any."""
    if trained_on is None:
        return None
    count = int(trained_on[evaluated].sum())
    if count:
        warn(
            f"the model was trained on {count:,} of these {len(evaluated):,} images: the scores do not tell how it "
            "does on new ones"
        )
    return count


def _open(
    options: dict[str, Any], predictor: Predictor
) -> tuple[ImageSet, "np.ndarray | None", list[int] | None, "RealLabels | None"]:
    """Return the images, which of them were trained on, the classes to choose among, and the ReaL labels.

    None stands for unknown, for all classes, and for no labels.
    """
    from volo.evaluation.imagenet import RealLabels, StoredImages, as_imagenet
    from volo.imagenet import knows_imagenet

    opened, trained_on = _open_split(options, "classification")
    opened = as_imagenet(opened, predictor.class_names)
    images = with_channels(opened, predictor.preprocessing.channels, predictor.preprocessing.background)
    among = options["among"] == "folder"
    if options["real"] and (among or not knows_imagenet(predictor.class_names)):
        raise ValueError("--real evaluates a model of ImageNet's 1000 classes, choosing among all of them")
    real = RealLabels(options["real"], images) if options["real"] else None
    count = len(images.class_names)
    if isinstance(opened, StoredImages) and not among and count < 1000:
        note(
            f"the folder has {count} of ImageNet's 1000 classes, and the model chooses among all of them; "
            "published scores of ImageNet-A and -R are among the classes of the folder: --among folder"
        )
    found = find_classes(images.class_names, predictor.class_names)
    # If the model knows none of them, all are chosen, and the evaluation raises an error that names them.
    chosen = sorted(index for index in found if index is not None) or None
    return images, trained_on, chosen if among else None, real


def _warn(result: "Evaluation | SegmentationEvaluation", absent: str, *, strict: bool) -> None:
    """Print a warning for every image that was left out, and one for the classes that are not in the data.

    Args:
        result: of either task.
        absent: the end of the sentence about those classes.
        strict: make an image that was left out an error.
    """
    warn_left_out(result.problems, strict=strict)
    for line in summarize_notes(result.notes):
        warn(line)
    if result.absent:
        warn(
            f"{len(result.absent)} of the model's {len(result.class_names)} classes {absent}: "
            f"{join_few(map(elide, result.absent))}"
        )


def _score_table(title: str, result: "Evaluation | SegmentationEvaluation") -> Table:
    """Return an empty table with a column for scores, one for values and one for intervals."""
    trained_on = f", {result.trained_on:,} trained on" if result.trained_on else ""
    unreadable = f", {len(result.problems)} unreadable" if result.problems else ""
    table = Table(title=f"{title}{trained_on}{unreadable}")
    for column in ("score", "value", "95 % interval"):
        table.add_column(column, justify="left" if column == "score" else "right")
    return table


def _add_scores(table: Table, result: "Evaluation | SegmentationEvaluation") -> None:
    """Add a row for each score that has a value."""
    for key, name in result.score_names.items():
        if result.scores[key] is not None:
            ends = result.intervals[key]
            table.add_row(name, f"{result.scores[key]:.2%}", f"{ends[0]:.2%} to {ends[1]:.2%}" if ends else "")


def _scores(result: "Evaluation", reassessed: dict[str, Any]) -> Table:
    table = _score_table(f"{len(result.labels):,} images of {len(result.class_names):,} classes", result)
    _add_scores(table, result)
    table.add_row("  by chance alone", f"< {result.chance_calibration_error:.2%}")
    for key, name in (("real_top1", "top-1 on ReaL labels"), ("real_top5", "top-5 on ReaL labels")):
        if reassessed.get(key) is not None:
            table.add_row(name, f"{reassessed[key]:.2%}", "")
    table.add_row("loss", f"{result.loss:.4f}")
    return table


def _segmentation_scores(result: "SegmentationEvaluation") -> Table:
    table = _score_table(f"{len(result.indices):,} images of {len(result.class_names)} classes", result)
    _add_scores(table, result)
    return table


def _class_table(columns: Sequence[str], *, title: str | None = None) -> Table:
    """Return an empty table with a column for classes, one for each score, and one for the commonest mistake."""
    table = Table(title=title)
    table.add_column("class", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True, min_width=max(6, len(column)))
    table.add_column("mistaken for", no_wrap=True)
    return table


def _classes(result: "Evaluation") -> Table:
    """Return a table with a row for every class, or for the worst and the best by F1 where there are many."""
    from volo.evaluation.report import most_mistaken

    classes, mistaken = result.classes, most_mistaken(result)
    order = np.argsort(classes.f1, kind="stable")
    order = order[~np.isnan(classes.f1[order])]
    many = len(result.class_names) > _MOST_CLASSES and len(order) > _WORST + _BEST
    title = f"the {_WORST} worst and the {_BEST} best classes by F1" if many else None
    table = _class_table(("images", "precision", "recall", "F1"), title=title)
    listed = range(len(result.class_names)) if len(result.class_names) <= _MOST_CLASSES else order
    sections = (order[:_WORST], order[-_BEST:]) if many else (listed,)
    for section in sections:
        for index in section:
            scores = (classes.precision[index], classes.recall[index], classes.f1[index])
            other = ""
            if index in mistaken:
                which, count = mistaken[index]
                other = f"{elide(result.class_names[which], 12)} {count:,}"
            name = elide(result.class_names[index], 20)
            table.add_row(name, f"{classes.images[index]:,}", *map(_percent, scores), other)
        table.add_section()
    return table


def _segmentation_classes(result: "SegmentationEvaluation") -> Table:
    """Return a table with a row for every class."""
    from volo.evaluation.report import most_mistaken

    table, mistaken = _class_table(("pixels", "IoU", "precision", "recall")), most_mistaken(result)
    right, true, predicted = (values.sum(axis=0) for values in (result.right, result.true, result.predicted))
    for index, name in enumerate(result.class_names):
        other = ""
        if index in mistaken:
            which, count = mistaken[index]
            other = f"{elide(result.class_names[which], 12)} {count / true[index]:.1%}"
        table.add_row(
            elide(name, 20),
            _percent(_ratio(true[index], true.sum())),
            _percent(result.iou[index]),
            _percent(_ratio(right[index], predicted[index])),
            _percent(_ratio(right[index], true[index])),
            other,
        )
    return table


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _percent(share: float) -> str:
    """Return a share in percent, or a dash where it is undefined (NaN)."""
    return "–" if np.isnan(share) else f"{share:.1%}"
