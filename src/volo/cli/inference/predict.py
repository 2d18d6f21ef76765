"""``volo predict``: name what is on images, or on each of their pixels, with a trained model."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from volo.cli.ui.model_options import (
    OPTIONS,
    add_segmentation_options,
    model_task,
    open_model_option,
    refuse,
    segmenter,
)
from volo.cli.ui.parser import VerbParser, add_runtime_options, parse, runtime_of
from volo.cli.ui.progress import image_progress
from volo.cli.ui.reader import ImageReader
from volo.cli.ui.terminal import Console
from volo.data import (
    MAX_PIXELS,
    find_images,
    listed_images,
    mode_of,
)
from volo.files import atomic_write, check_writable_file, created_folder
from volo.inference import Prediction, Predictor, Segmentation, Segmenter
from volo.inference.mask_files import MaskFolder
from volo.messages import elide, printable

#: Classes that a line of the terminal names of an image.
_MOST_NAMED = 4


def run(arguments: Sequence[str]) -> int:
    """Print a table, or write JSON, CSV or a folder of masks."""
    parser = VerbParser(
        prog="volo predict",
        description="Name what is on images with a trained model; one of segmentation names what every pixel is.",
    )
    parser.usage = "volo predict MODEL IMAGE... [options]\n       volo predict IMAGE... --model MODEL [options]"
    parser.add_argument(
        "model_and_images",
        nargs="+",
        help="first the model, unless --model names it: run folder, file of weights or of `volo export`, "
        "hf-hub:org/name, or name of weights, such as volo_tiny_32.cifar10, which comes with the package; then images: "
        "files, folders (all images below them) and patterns such as 'a/*.jpg'; - reads names of files, one a line or "
        "with NUL between them, from standard input",
    )
    parser.add_argument("--model", type=str | None, help="the model; what stands without an option is all images then")
    parser.add_argument("--top_k", type=int, default=3, help="classification: names for each image")
    parser.add_argument(
        "--output",
        type=str | None,
        help="file to write, *.json or *.csv, in place of the table; segmentation: folder for masks (PNG with a "
        "palette), overlays, legend.png and shares.csv",
    )
    parser.add_argument("--overwrite", action="store_true", help="segmentation: replace masks of an earlier call")
    add_segmentation_options(parser)
    parser.add_argument(
        "--batch_size", type=int | None, help="images at a time, default 32; segmentation: windows, default 4"
    )
    parser.add_argument(
        "--device", type=str | None, help="where to compute; default: an accelerator where there is one"
    )
    parser.add_argument(
        "--max_pixels", type=int, default=MAX_PIXELS, help="images of more, by their headers, are not decoded"
    )
    parser.add_argument("--strict", action="store_true", help="an image that cannot be read is an error")
    add_runtime_options(parser)
    given, said = parse(parser, arguments), parse(parser, arguments, defaults=False)
    words: list[str] = given.pop("model_and_images")
    given["model"], *given["images"] = words if given["model"] is None else [given["model"], *words]
    if not given["images"]:
        model = given["model"]
        raise ValueError(f"name images too: volo predict {model} IMAGE…, or volo predict {model} --model MODEL")
    if min(given["top_k"], given["batch_size"] or 1, given["max_pixels"]) < 1:
        raise ValueError("--top_k, --batch_size and --max_pixels must be at least 1")
    given["model"] = open_model_option(given)
    task = model_task(given["model"])
    refuse(said, ("top_k",) if task == "segmentation" else (*OPTIONS, "overwrite"), task)
    return _segment(given) if task == "segmentation" else _classify(given)


def _segment(given: dict[str, Any]) -> int:
    if given["output"] and Path(given["output"]).suffix in (".json", ".csv"):
        raise ValueError(f"--output of a segmentation model is a folder, not {given['output']!r}")
    paths = _paths(given)
    model = segmenter(given)
    mode_of(model.preprocessing.channels)
    reader = ImageReader(paths, model.preprocessing, max_pixels=given["max_pixels"], strict=given["strict"])
    _write_masks(given, model, reader)
    return reader.report()


def _write_masks(given: dict[str, Any], model: Segmenter, reader: ImageReader) -> None:
    """Write masks, overlays, a legend and the shares of classes into a folder, or print the shares."""
    folder = Path(given["output"]) if given["output"] else None
    console, table = Console(), Table()
    table.add_column("image", overflow="fold")
    table.add_column("share of pixels")
    files = None
    if folder is not None:
        files = MaskFolder(folder, reader.paths, model.class_names, model.class_colors, overwrite=given["overwrite"])
    done = 0
    with (
        created_folder(folder) if folder else nullcontext(),
        files or nullcontext(),
        image_progress(console) as progress,
    ):
        task = progress.add_task("segmenting", total=len(reader.paths))
        for image in reader:
            segmentation, path = model(image), reader.good[-1]
            if files is None:
                table.add_row(printable(path), _in_words(segmentation))
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
        console.print(f"{done:,} masks, overlays, legend.png and shares.csv are in {printable(folder)}", soft_wrap=True)


def _in_words(segmentation: Segmentation) -> str:
    """The largest classes of an image."""
    shares = np.array(segmentation.shares)
    order = [index for index in np.argsort(-shares, kind="stable") if shares[index]]
    named = [f"{elide(segmentation.class_names[index], 20)} {shares[index]:.1%}" for index in order[:_MOST_NAMED]]
    return ", ".join(named) + (f" and {len(order) - _MOST_NAMED} more" if len(order) > _MOST_NAMED else "")


def _classify(given: dict[str, Any]) -> int:
    output = Path(given["output"]) if given["output"] else None
    if output is not None:
        if output.suffix not in (".json", ".csv"):
            raise ValueError(f"--output must end in .json or .csv, not {output.name!r}")
        check_writable_file(output)  # before the work, not after it

    paths = _paths(given)
    predictor = Predictor(given["model"], device=given["device"], **runtime_of(given))
    mode_of(predictor.preprocessing.channels)
    count = given["batch_size"] or 32
    reader = ImageReader(
        paths, predictor.preprocessing, max_pixels=given["max_pixels"], strict=given["strict"], count=count
    )
    predictions = predictor.predict(reader, top_k=given["top_k"], batch_size=count)
    results = [(reader.good[number], prediction) for number, prediction in enumerate(predictions)]
    if not results:
        raise ValueError(f"not one of the {len(paths)} images could be read")
    if output is None:
        Console().print(_table(results))
    else:
        with created_folder(output.parent), atomic_write(output) as temporary:
            temporary.write_text(_json(results) if output.suffix == ".json" else _csv(results), encoding="utf-8")
        print(f"{len(results)} predictions are in {output}")
    return reader.report()


def _paths(given: dict[str, Any]) -> list[Path]:
    return listed_images(sys.stdin) if given["images"] == ["-"] else find_images(given["images"])


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


def _csv(results: Results) -> str:
    """One row for each image and rank."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["image", "rank", "name", "probability"])
    for path, prediction in results:
        for rank, (name, probability) in enumerate(zip(prediction.names, prediction.probabilities, strict=True), 1):
            writer.writerow([printable(path), rank, name, f"{probability:.6f}"])
    return text.getvalue()
