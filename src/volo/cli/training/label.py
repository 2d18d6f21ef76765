"""``volo label``: label every region of images by a teacher, for training on token labels."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from volo.cli.ui.parser import VerbParser, add_data_options, data_source, parse
from volo.cli.ui.terminal import Console
from volo.data import ImageSet, open_token_labels, open_training_data, with_channels
from volo.data.token_labels.match import check_store
from volo.data.token_labels.store import TokenLabelStore
from volo.files import check_writable_file

PRECISIONS = ("float32", "bfloat16", "float16")


def run(arguments: Sequence[str]) -> int:
    """Label, check, show or convert."""
    parser = VerbParser(prog="volo label", description="Label every region of training images by a teacher.")
    parser.add_argument("data", help="folder, table or name of a data set, as for volo train; its training part")
    add_data_options(parser)
    parser.add_argument("--out", required=True, help="the store of token labels")
    parser.add_argument("--check", action="store_true", help="compare the store with the images, and name what differs")
    parser.add_argument("--show", metavar="PNG", type=str | None, help="draw images with their labels, augmented too")
    parser.add_argument(
        "--convert", metavar="SOURCE", type=str | None, help="make --out of a folder <class>/<stem>.pt, or of a store"
    )
    parser.add_argument(
        "--teacher",
        default="efficientnet-lite0",
        help="a VOLO as for volo eval, a classifier of timm (downloaded), or efficientnet-lite0 (ImageNet, offline)",
    )
    parser.add_argument("--weights", type=str | None, help="weights of the classifier of timm, in place of a download")
    parser.add_argument("--classes", type=str | None, help="text file: what the teacher's outputs mean, one a line")
    parser.add_argument("--resolution", type=int | None, help="pixels of what the teacher sees; default: its own")
    parser.add_argument("--fit", default="squeeze", help="squeeze images to the teacher's square, or keep their aspect")
    parser.add_argument("--flip", action="store_true", help="average the labels with those of the mirror image")
    parser.add_argument("--top_k", type=int, default=5, help="classes kept for each region")
    parser.add_argument("--batch_size", type=int, default=32, help="images at a time")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode; 0 decodes in this one")
    parser.add_argument("--device", type=str | None, help="where to compute; default: an accelerator if there is one")
    parser.add_argument("--precision", default="float32", help=f"of the teacher: {', '.join(PRECISIONS)}")
    parser.add_argument("--strict", action="store_true", help="an image that cannot be read is an error, in the end")
    parser.add_argument("--size", type=int, default=224, help="with --show: pixels of the augmented images")
    parser.add_argument("--count", type=int, default=4, help="with --show: images")
    parser.add_argument("--seed", type=int, default=0, help="with --show: which images, and their augmentation")
    given = parse(parser, arguments)
    if sum(bool(given[mode]) for mode in ("check", "show", "convert")) > 1:
        raise ValueError("--check, --show and --convert are three jobs: give one of them")
    images, out = open_training_data(given["data"], source=data_source(given)), Path(given["out"])
    if given["convert"]:
        return _convert(images, Path(given["convert"]), out, given["data"])
    if given["check"]:
        return _check(images, out, given["data"])
    if given["show"]:
        return _show(images, given)
    return _label(images, out, given)


def _label(images: ImageSet, out: Path, given: dict[str, Any]) -> int:
    import torch

    from volo.labeling.label import LabelOptions, label_images
    from volo.labeling.teachers import load_teacher
    from volo.runtime.devices import find_device

    if given["precision"] not in PRECISIONS:
        raise ValueError(f"--precision must be one of {', '.join(PRECISIONS)}, not {given['precision']!r}")
    if given["batch_size"] < 1 or given["workers"] < 0:
        raise ValueError("--batch_size must be at least 1, --workers at least 0")
    check_writable_file(out)
    device = find_device(given["device"])
    options = LabelOptions(fit=given["fit"], flip=given["flip"], top_k=given["top_k"])
    teacher = load_teacher(
        given["teacher"], weights=given["weights"], classes=given["classes"], resolution=given["resolution"]
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
            out,
            data=given["data"],
            options=options,
            batch_size=given["batch_size"],
            workers=given["workers"],
            device=device,
            precision=getattr(torch, given["precision"]),
            on_start=lambda count: progress.update(bar, total=count),
            on_batch=advance,
        )
    for problem in report.problems:
        print(f"warning: {problem}; left out", file=sys.stderr)
    if report.problems and not report.labeled and not report.before:
        raise ValueError(f"not one of the {len(images.labels)} images could be read")
    done = f"{report.labeled:,} images labeled" + (f", {report.before:,} were before" if report.before else "")
    bad = f", {len(report.problems):,} cannot be read" if report.problems else ""
    console.print(f"{done}{bad}; the labels are in {out}", soft_wrap=True)
    if report.problems and given["strict"]:
        raise ValueError(f"{len(report.problems)} images cannot be read (--strict)")
    return 0


def _check(images: ImageSet, out: Path, data: str) -> int:
    if not out.exists():
        raise ValueError(f"there is no store {out}")
    if out.is_dir():
        open_token_labels(str(out), images, data)
        print(f"{out}: a label file for each of {len(images.labels):,} images")
        return 0
    store = TokenLabelStore(out)
    info, (problems, states) = store.info, check_store(store, images, data)
    rows, columns = info.grid
    kept = f"{rows}×{columns} cells, {info.top_k} of {len(info.class_names):,} classes each"
    print(f"{out}: {info.count:,} images, {kept}, by {info.teacher}")
    print(", ".join(f"{count:,} {kind}" for kind, count in states.items()))
    for problem in problems:
        print(problem)
    if problems:
        raise ValueError(f"{out} does not fit {data}: {len(problems)} kinds of difference, named above")
    print(f"fits {data}")
    return 0


def _show(images: ImageSet, given: dict[str, Any]) -> int:
    from volo.labeling.plots import draw_labels

    out = Path(given["show"])
    draw_labels(
        images,
        given["out"],
        out,
        data=given["data"],
        size=given["size"],
        count=given["count"],
        seed=given["seed"],
    )
    print(f"the picture is {out}")
    return 0


def _convert(images: ImageSet, source: Path, out: Path, data: str) -> int:
    from volo.data.token_labels.convert import folder_to_store, store_to_folder

    if source.is_dir():
        count = folder_to_store(source, images, out, data)
    else:
        count = store_to_folder(TokenLabelStore(source), images, out, data)
    print(f"{count:,} label maps of {source} are in {out}")
    return 0
