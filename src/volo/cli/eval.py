"""``volo eval``: judge a trained model on labelled images."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from volo.cli.parser import VerbParser, add_data_options, data_source, parse
from volo.data import ImageSet, open_validation_data, with_channels
from volo.files import replacing
from volo.inference import Predictor


def run(arguments: Sequence[str]) -> int:
    """Print the scores, and write them and the confusion matrix where asked."""
    parser = VerbParser(prog="volo eval", description="Judge a trained model on labelled images.")
    parser.add_argument("model", help="run folder, or a folder with model.safetensors and config.json")
    parser.add_argument("folder", help="folder, table or name of a data set, as for volo train; judged is its val part")
    parser.add_argument("--split", type=str | None, help="judge this part instead: train, val or test")
    add_data_options(parser)
    parser.add_argument("--output", type=str | None, help="folder for results.json and confusion.png")
    parser.add_argument("--batch_size", type=int, default=64, help="images at a time")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode; 0 decodes in this one")
    parser.add_argument(
        "--device", type=str | None, help="where to compute; default: an accelerator where there is one"
    )
    parser.add_argument("--strict", action="store_true", help="an image that cannot be read is an error")
    given = parse(parser, arguments)

    from volo.inference.evaluate import Evaluation, evaluate
    from volo.inference.pictures import draw_confusion

    console = Console()
    predictor = Predictor(given["model"], device=given["device"])
    opened = open_validation_data(given["folder"], part=given["split"], source=data_source(given))
    images: ImageSet = with_channels(opened, predictor.preprocessing.channels, predictor.preprocessing.background)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("judging", total=len(images.labels))
        result: Evaluation = evaluate(
            predictor,
            images,
            batch_size=given["batch_size"],
            workers=given["workers"],
            on_batch=lambda count: progress.advance(task, count),
        )
    for problem in result.problems:
        console.print(f"warning: {problem}; left out", markup=False, highlight=False, soft_wrap=True)
    if result.problems and given["strict"]:
        raise ValueError(f"{len(result.problems)} images cannot be read (--strict)")
    console.print(_table(result.summary()))
    if given["output"]:
        folder = Path(given["output"])
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "results.json") as temporary:
            temporary.write_text(json.dumps(result.summary(), indent=2) + "\n", encoding="utf-8")
        draw_confusion(result, folder / "confusion.png")
        console.print(f"scores and confusion matrix are in {folder}", highlight=False, soft_wrap=True)
    return 0


def _table(summary: dict) -> Table:
    top5 = "" if summary["top5"] is None else f", top-5 {summary['top5']:.2%}"
    unreadable = f", {summary['unreadable']} unreadable" if summary["unreadable"] else ""
    scores = f"top-1 {summary['top1']:.2%}{top5}, loss {summary['loss']:.4f}"
    table = Table(title=f"{scores} on {summary['images']:,} images{unreadable}")
    table.add_column("class")
    table.add_column("named right", justify="right")
    for name, recall in summary["recall"].items():
        table.add_row(name, "no images" if recall is None else f"{recall:.1%}")
    return table
