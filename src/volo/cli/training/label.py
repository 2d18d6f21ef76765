"""``volo label``: label every region of images with a teacher, to train on token labels."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from volo.cli.ui.parser import VerbParser, add_data_options, add_overwrite_option, data_source, parse
from volo.cli.ui.terminal import Console, say, warn
from volo.data import ImageError, ImageSet, TokenLabels, open_token_labels, open_training_data, with_channels
from volo.data.read_notes import summarize_notes
from volo.data.token_labels.match import check_store
from volo.data.token_labels.store import TokenLabelStore
from volo.files import check_writable_file
from volo.outputs import check_outputs
from volo.precision import canonical_precision

#: Most label files of a folder to report when they cannot be used.
_SHOWN_PROBLEMS = 5
#: Precision → the type that the teacher computes in.
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_TEACHER_HELP = "a VOLO as for volo eval, a classifier of timm (downloaded), or efficientnet-lite0 (offline, ImageNet)"


def run(arguments: Sequence[str]) -> int:
    """Label, check, show or convert."""
    options = parse(parser(), arguments)
    if sum(bool(options[mode]) for mode in ("check", "show", "convert")) > 1:
        raise ValueError("--check, --show and --convert are three different jobs: give one of them")
    images = open_training_data(options["data"], source=data_source(options, masks=False))
    output = Path(options["output"])
    if options["convert"]:
        return _convert(images, Path(options["convert"]), output, options["data"])
    if options["check"]:
        return _check(images, output, options["data"])
    if options["show"]:
        return _show(images, options)
    return _label(images, output, options)


def parser() -> VerbParser:
    """Return the parser of ``volo label``."""
    parser = VerbParser(
        prog="volo label",
        usage="DATA --output STORE [options]",
        description="Label every region of training images with a teacher.",
        synonyms={"out": "output"},
    )
    add = parser.add_argument
    add(
        "data",
        metavar="DATA",
        help="folder, table or name of a data set, as for volo train; the train split",
    )
    add_data_options(parser, masks=False)
    add("--output", metavar="STORE", required=True, help="file of token labels; an unfinished one is continued")
    add("--check", action="store_true", help="compare the store with the images, and list what differs")
    add("--show", metavar="PNG", type=str | None, help="draw images with their labels, augmented, too")
    add_overwrite_option(parser)
    add("--convert", metavar="SOURCE", type=str | None, help="make --output of a folder CLASS/STEM.pt, or of a store")
    add("--teacher", default="efficientnet-lite0", help=_TEACHER_HELP)
    add("--weights", type=str | None, help="weights of timm's classifier, in place of a download")
    add("--classes", metavar="LIST", type=str | None, help="the teacher's classes: file with one a line, or cat,dog")
    add("--resolution", type=int | None, help="pixels of the teacher's input (default: its own)")
    add("--fit", default="squeeze", help="squeeze images to the teacher's square, or keep their aspect")
    add("--flip", action="store_true", help="average the labels with those of the mirror image")
    add("--top-k", type=int, default=5, help="classes kept for each region")
    add("--batch-size", type=int, default=32, help="images at a time")
    add("--workers", type=int, default=0, help="processes that load images; 0 loads in this one")
    add("--device", type=str | None, help="where to compute (default: an accelerator if there is one)")
    add("--precision", metavar="fp32|bf16|fp16", default="fp32", help="of the teacher")
    add("--strict", action="store_true", help="end with an error if an image cannot be read")
    add("--size", type=int, default=224, help="with --show: pixels of the augmented images")
    add("--count", type=int, default=4, help="with --show: number of images")
    add("--seed", type=int, default=0, help="with --show: choice of the images, and their augmentation")
    return parser


def _label(images: ImageSet, output: Path, options: dict[str, Any]) -> int:
    from volo.labeling.label import LabelOptions, label_images
    from volo.labeling.teachers import load_teacher
    from volo.runtime.devices import find_device

    precision = canonical_precision(options["precision"])
    if options["batch_size"] < 1 or options["workers"] < 0:
        raise ValueError("--batch-size must be at least 1, --workers at least 0")
    check_writable_file(output)
    device = find_device(options["device"])
    teacher = load_teacher(
        options["teacher"], weights=options["weights"], classes=options["classes"], resolution=options["resolution"]
    )
    console = Console()
    columns = ("[progress.description]{task.description}", "{task.fields[rate]}")
    with Progress(
        TextColumn(columns[0]),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(columns[1]),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal or os.environ.get("RANK", "0") != "0",
    ) as progress:
        bar = progress.add_task("labeling", total=None, rate="")

        def advance(count: int) -> None:
            progress.advance(bar, count)
            speed = progress.tasks[0].speed
            progress.update(bar, rate=f"{speed:.0f} images/s" if speed else "")

        report = label_images(
            teacher,
            with_channels(images, teacher.preprocessing.channels),
            output,
            data=options["data"],
            options=LabelOptions(fit=options["fit"], flip=options["flip"], top_k=options["top_k"]),
            batch_size=options["batch_size"],
            workers=options["workers"],
            device=device,
            precision=_DTYPES[precision],
            on_start=lambda count: progress.update(bar, total=count),
            on_batch=advance,
        )
    for problem in report.problems:
        warn(f"{problem}; left out")
    for line in summarize_notes(report.notes):
        warn(line)
    if report.problems and not report.labeled and not report.before:
        raise ValueError(f"none of the {len(images.labels)} images could be read")
    done = f"{report.labeled:,} images labeled" + (f", {report.before:,} were labeled before" if report.before else "")
    bad = f", {len(report.problems):,} cannot be read" if report.problems else ""
    console.print(f"{done}{bad}; the labels are in {output}", soft_wrap=True)
    if report.problems and options["strict"]:
        raise ValueError(f"{len(report.problems)} images cannot be read (--strict)")
    return 0


def _check(images: ImageSet, output: Path, data: str) -> int:
    if not output.exists():
        raise ValueError(f"the store {output} does not exist")
    if output.is_dir():
        return _check_files(open_token_labels(str(output), images, data), len(images.labels), output, data)
    store = TokenLabelStore(output)
    info, (problems, states) = store.info, check_store(store, images, data)
    rows, columns = info.grid
    kept = f"{rows}×{columns} cells, {info.top_k} of {len(info.class_names):,} classes each"
    say(f"{output}: {info.count:,} images, {kept}, by {info.teacher}")
    say(", ".join(f"{count:,} {kind}" for kind, count in states.items()))
    for problem in problems:
        say(problem)
    if problems:
        raise ValueError(f"{output} does not fit {data}: {len(problems)} kinds of difference, listed above")
    say(f"fits {data}")
    return 0


def _check_files(labels: TokenLabels, count: int, output: Path, data: str) -> int:
    """Read the label file of every image."""
    problems = []
    for index in range(count):
        try:
            labels.read(index)
        except ImageError as error:
            problems.append(str(error))
    for problem in problems[:_SHOWN_PROBLEMS]:
        say(problem)
    if problems:
        raise ValueError(
            f"{output} does not fit {data}: {len(problems):,} of {count:,} label files cannot be used; the first "
            f"{'is' if len(problems) == 1 else 'ones are'} listed above"
        )
    say(f"{output}: a label file that can be read for each of {count:,} images")
    return 0


def _show(images: ImageSet, options: dict[str, Any]) -> int:
    from volo.labeling.plots import draw_labels

    picture = Path(options["show"])
    check_outputs([picture], overwrite=options["overwrite"], inputs=[options["output"], options["data"]])
    draw_labels(
        images,
        options["output"],
        picture,
        data=options["data"],
        size=options["size"],
        count=options["count"],
        seed=options["seed"],
    )
    say(f"the picture is {picture}")
    return 0


def _convert(images: ImageSet, source: Path, output: Path, data: str) -> int:
    from volo.data.token_labels.convert import folder_to_store, store_to_folder

    if source.is_dir():
        count = folder_to_store(source, images, output, data)
    else:
        count = store_to_folder(TokenLabelStore(source), images, output, data)
    say(f"{count:,} label maps of {source} are in {output}")
    return 0
