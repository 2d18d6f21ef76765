"""``volo export``: write a trained model for another runtime, and check the file."""

import re
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from volo.cli.ui.parser import VerbParser, parse
from volo.cli.ui.terminal import Console


def run(arguments: Sequence[str]) -> int:
    """Write the file, print the comparison with PyTorch."""
    parser = VerbParser(
        prog="volo export", description="Write a trained model for another runtime, and compare it with PyTorch."
    )
    parser.add_argument("model", help="run folder, file of weights, hf-hub:org/name, or name of published weights")
    parser.add_argument("--to", type=str, required=True, help="onnx, openvino, torch-export or aotinductor")
    parser.add_argument("--output", type=str | None, help="file to write; default: the model's name in this folder")
    parser.add_argument("--size", type=str | None, help="pixels of the input: 384, or 256x384; default: the model's")
    parser.add_argument("--dynamic", type=str, default="batch", help="what may vary: none, batch, size or both")
    parser.add_argument("--precision", type=str, default="fp32", help="fp32, fp16, or int8 (onnx and openvino)")
    parser.add_argument("--include_preprocessing", action="store_true", help="take uint8 NHWC, and normalize inside")
    parser.add_argument(
        "--include_resize",
        action="store_true",
        help="take photos of any size, uint8 NHWC, and resize, crop inside, too",
    )
    parser.add_argument("--include_softmax", action="store_true", help="give probabilities in the place of logits")
    parser.add_argument("--include_tokens", action="store_true", help="give the logits of every patch token, too")
    parser.add_argument("--images", type=str, nargs="+", help="to compare on; default: the photos here")
    parser.add_argument("--calibration", type=str, nargs="+", help="images that int8 is fitted to")
    parser.add_argument("--threads", type=int | None, help="of the runtime in the comparison")
    given = parse(parser, arguments)

    from volo.export.formats import FORMATS, ExportOptions
    from volo.export.pipeline import export_model

    size = _size(given.pop("size"))
    source, output = given.pop("model"), given.pop("output")
    ExportOptions(**{name: given[name] for name in ("to", "dynamic", "precision", "include_resize", "threads")})
    if output is None:
        output = f"{Path(source.rstrip('/')).stem or 'model'}{FORMATS[given['to']].ending}"
    console = Console()
    result = export_model(
        source, output=output, size=size, on_step=lambda step: console.print(step, soft_wrap=True), **given
    )
    console.print(_table(result.report.to_dict(), result.info.include_softmax))
    console.print(f"{result.path}; the comparison is in {result.report_path}", soft_wrap=True)
    if result.report.problems:
        raise RuntimeError(f"{result.path} does not say what PyTorch says: {'; '.join(result.report.problems)}")
    return 0


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if sides is None:
        raise ValueError(f"--size must be a side, such as 224, or height x width, such as 256x384; not {text!r}")
    return int(sides[1]), int(sides[2] or sides[1])


def _table(report: dict, probabilities: bool) -> Table:
    table = Table(title=f"{report['images']} images, {report['runtime']} beside PyTorch")
    for column in ("", "value", "allowed"):
        table.add_column(column, justify="right" if column else "left")
    bound = "" if report["bound"] is None else f"{report['bound']:.1e}"
    what = "probability" if probabilities else "logit"
    table.add_row(f"largest difference of a {what}", f"{report['difference']:.1e}", bound)
    table.add_row("same answer", f"{report['agreement']:.1%}", f"{report['least_agreement']:.0%}")
    if resizing := report["resizing"]:
        table.add_row("a pixel (0 to 255) beside Pillow's, largest", f"{resizing['largest_pixel']:.1f}", "")
        table.add_row("a pixel beside Pillow's, mean", f"{resizing['mean_pixel']:.2f}", "")
        table.add_row(f"a {what} beside that of Pillow's pixels", f"{resizing['difference']:.1e}", "")
        table.add_row(
            "same answer as of Pillow's", f"{resizing['agreement']:.1%}", f"{resizing['least_agreement']:.0%}"
        )
    for name, value in report["milliseconds"].items():
        table.add_row(f"one image, {name}", f"{value:.1f} ms", "")
    return table
