"""``volo predict``: classify images, or segment them, with a trained model."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

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
from volo.cli.ui.parser import VerbParser, add_overwrite_option, add_runtime_options, parse, runtime_of
from volo.cli.ui.progress import image_progress
from volo.cli.ui.reader import ImageReader
from volo.cli.ui.terminal import Console, say
from volo.csv_files import path_cell, write_csv
from volo.data import (
    MAX_PIXELS,
    ImageError,
    find_images,
    listed_images,
    mode_of,
)
from volo.files import atomic_write, created_folder
from volo.inference import Prediction, Predictor, Segmentation, Segmenter
from volo.inference.mask_files import MaskFolder
from volo.messages import elide, printable, quoted
from volo.outputs import check_outputs, own_folder

#: Most classes that a line of the table lists.
_MOST_LISTED = 4


def run(arguments: Sequence[str]) -> int:
    """Print a table, or write JSON, CSV or a folder of masks."""
    options, explicit = parse(parser(), arguments), parse(parser(), arguments, defaults=False)
    words: list[str] = options.pop("model_and_images")
    options["model"], *options["images"] = words if options["model"] is None else [options["model"], *words]
    if not options["images"]:
        word = quoted(options["model"])
        raise ValueError(f"images are missing: volo predict {word} IMAGE…, or volo predict {word} --model MODEL")
    for name in ("top_k", "batch_size", "max_pixels"):
        if options[name] is not None and options[name] < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, not {options[name]}")
    options["inputs"] = [options["model"], *options["images"]]
    options["model"] = open_model_option(options)
    task = model_task(options["model"])
    refuse(explicit, ("top_k",) if task == "segmentation" else SEGMENTATION_OPTIONS, task)
    return _segment(options) if task == "segmentation" else _classify(options)


def parser() -> VerbParser:
    """Return the parser of ``volo predict``."""
    parser = VerbParser(
        prog="volo predict",
        usage="MODEL IMAGE... [options]\nIMAGE... --model MODEL [options]",
        description="Classify images, or segment them, with a trained model.",
    )
    parser.add_argument(
        "model_and_images",
        metavar="MODEL IMAGE",
        nargs="+",
        help="first the model, unless --model gives it: model folder, file of weights or of volo export, "
        "hf-hub:org/name, or name of weights, such as volo_tiny_32.cifar10, which comes with the package; then images: "
        "files, folders (all images below them) and patterns such as 'a/*.jpg'; - reads file names from standard "
        "input, one a line or separated by NUL",
    )
    parser.add_argument("--model", type=str | None, help="the model; all arguments without an option are images then")
    parser.add_argument("--top-k", type=int, default=3, help="classification: classes for each image")
    parser.add_argument(
        "--output",
        type=str | None,
        help="file to write, *.json or *.csv, in place of the table; segmentation: folder for masks (PNG with a "
        "palette), overlays, legend.png and shares.csv",
    )
    add_overwrite_option(parser)
    add_segmentation_options(parser)
    parser.add_argument(
        "--batch-size", type=int | None, help="images at a time (default: 32); segmentation: windows (default: 4)"
    )
    parser.add_argument("--device", type=str | None, help="where to compute (default: an accelerator if there is one)")
    parser.add_argument(
        "--max-pixels", type=int, default=MAX_PIXELS, help="do not decode images with more pixels in their headers"
    )
    parser.add_argument("--strict", action="store_true", help="stop at an image that cannot be read")
    add_runtime_options(parser)
    return parser


def _segment(options: dict[str, Any]) -> int:
    if options["output"] and Path(options["output"]).suffix in (".json", ".csv"):
        raise ValueError(f"--output of a segmentation model is a folder, not {options['output']!r}")
    paths = _paths(options)
    model = make_segmenter(options)
    mode_of(model.preprocessing.channels)
    reader = ImageReader(paths, model.preprocessing, max_pixels=options["max_pixels"], strict=options["strict"])
    _write_masks(options, model, reader)
    return reader.report()


def _write_masks(options: dict[str, Any], model: Segmenter, reader: ImageReader) -> None:
    """Write masks, overlays, a legend and the shares of classes into a folder, or print the shares."""
    folder = Path(options["output"]) if options["output"] else None
    console, table = Console(), Table()
    table.add_column("image", overflow="fold")
    table.add_column("share of pixels")
    files = None
    if folder is not None:
        files = MaskFolder(folder, reader.paths, model.class_names, model.class_colors, overwrite=options["overwrite"])
    done = 0
    with (
        own_folder(folder, "predict") if folder else nullcontext(),
        files or nullcontext(),
        image_progress(console) as progress,
    ):
        task = progress.add_task("segmenting", total=len(reader.paths))
        for image in reader:
            path = reader.good[-1]
            try:
                segmentation = model(image)
            except (ImageError, MemoryError) as error:
                reader.leave_out_last(error)
                continue
            if files is None:
                table.add_row(printable(path), _largest_classes(segmentation))
            else:
                files.write(path, image, segmentation)
            done += 1
            progress.update(task, completed=done + reader.bad)
    if not done:
        raise ValueError(f"none of the {len(reader.paths)} images could be read")
    if folder is None:
        console.print(table)
        console.print("--output FOLDER writes masks and overlays")
    else:
        console.print(f"{done:,} masks, overlays, legend.png and shares.csv are in {printable(folder)}", soft_wrap=True)


def _largest_classes(segmentation: Segmentation) -> str:
    """Return the largest classes of an image with their shares."""
    shares = np.array(segmentation.shares)
    order = [index for index in np.argsort(-shares, kind="stable") if shares[index]]
    named = [f"{elide(segmentation.class_names[index], 20)} {shares[index]:.1%}" for index in order[:_MOST_LISTED]]
    return ", ".join(named) + (f" and {len(order) - _MOST_LISTED} more" if len(order) > _MOST_LISTED else "")


def _classify(options: dict[str, Any]) -> int:
    output = Path(options["output"]) if options["output"] else None
    if output is not None:
        if output.suffix not in (".json", ".csv"):
            raise ValueError(f"--output must end in .json or .csv, not {output.name!r}")
        check_outputs([output], overwrite=options["overwrite"], inputs=options["inputs"])

    paths = _paths(options)
    predictor = Predictor(options["model"], device=options["device"], **runtime_of(options))
    mode_of(predictor.preprocessing.channels)
    count = options["batch_size"] or 32
    reader = ImageReader(
        paths,
        predictor.preprocessing,
        max_pixels=options["max_pixels"],
        strict=options["strict"],
        count=1 if predictor.takes_photos else count,  # such a model gets whole photos, which take much memory
        prepare=predictor.preprocess,
    )
    predictions = predictor.predict_pixels(reader, top_k=options["top_k"], batch_size=count)
    results = [(reader.good[number], prediction) for number, prediction in enumerate(predictions)]
    if not results:
        raise ValueError(f"none of the {len(paths)} images could be read")
    if output is None:
        Console().print(_table(results))
    else:
        with created_folder(output.parent), atomic_write(output) as temporary:
            if output.suffix == ".json":
                temporary.write_text(_json(results), encoding="utf-8")
            else:
                write_csv(temporary, ["image", "rank", "name", "probability"], _csv_rows(results))
        say(f"{len(results)} predictions are in {output}")
    return reader.report()


def _paths(options: dict[str, Any]) -> list[Path]:
    return listed_images(sys.stdin) if options["images"] == ["-"] else find_images(options["images"])


Results = Sequence[tuple[Path, Prediction]]


def _table(results: Results) -> Table:
    table = Table()
    table.add_column("image", overflow="fold")
    table.add_column("prediction")
    table.add_column("then")
    for path, prediction in results:
        ranked = [
            f"{name} {probability:.1%}"
            for name, probability in zip(prediction.names, prediction.probabilities, strict=True)
        ]
        table.add_row(printable(path), ranked[0], ", ".join(ranked[1:]))
    return table


def _json(results: Results) -> str:
    records = [
        {
            "image": printable(path),
            "predictions": [
                {"name": name, "probability": round(probability, 6)}
                for name, probability in zip(prediction.names, prediction.probabilities, strict=True)
            ],
        }
        for path, prediction in results
    ]
    return json.dumps(records, indent=2, ensure_ascii=False) + "\n"


def _csv_rows(results: Results) -> Iterator[tuple[str, int, str, str]]:
    """Yield a row for each image and rank."""
    for path, prediction in results:
        for rank, (name, probability) in enumerate(zip(prediction.names, prediction.probabilities, strict=True), 1):
            yield path_cell(printable(path)), rank, name, f"{probability:.6f}"
