"""``volo export``: write a trained model for another runtime, and check the file."""

import re
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from volo.cli.ui.parser import VerbParser, add_overwrite_option, parse
from volo.cli.ui.terminal import Console

_PRECISION_HELP = "fp32; fp16; bf16 (torch-export, aotinductor); int8 (onnx, openvino)"


def run(arguments: Sequence[str]) -> int:
    """Write the file, and print its comparison with PyTorch."""
    options = parse(parser(), arguments)

    from volo.export.formats import FORMATS, ExportOptions
    from volo.export.pipeline import export_model

    size = _size(options.pop("size"))
    source, output = options.pop("model"), options.pop("output")
    ExportOptions(**{name: options[name] for name in ("to", "dynamic", "precision", "include_resize", "threads")})
    if output is None:
        output = f"{Path(source.rstrip('/')).stem or 'model'}{FORMATS[options['to']].ending}"
    console = Console()
    result = export_model(
        source, output=output, size=size, on_step=lambda step: console.print(step, soft_wrap=True), **options
    )
    console.print(_table(result.report.to_dict(), result.info.include_softmax))
    console.print(f"{result.path}; the comparison is in {result.report_path}", soft_wrap=True)
    if result.report.problems:
        raise RuntimeError(f"{result.path} does not agree with PyTorch: {'; '.join(result.report.problems)}")
    return 0


def parser() -> VerbParser:
    """Return the parser of ``volo export``."""
    parser = VerbParser(
        prog="volo export",
        usage="MODEL --to FORMAT [options]",
        description="Write a trained model for another runtime, and compare the file with PyTorch.",
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="model folder, file of weights, hf-hub:org/name, or name of published weights")
    add("--to", metavar="FORMAT", type=str, required=True, help="onnx, openvino, torch-export or aotinductor")
    add("--output", type=str | None, help="file to write (default: named after the model, in the current folder)")
    add_overwrite_option(parser)
    add("--size", metavar="N|HxW", type=str | None, help="pixels of the input, 384 or 256x384 (default: the model's)")
    add("--dynamic", metavar="WHAT", type=str, default="batch", help="none, batch, size or both may vary in the input")
    add("--precision", type=str, default="fp32", help=_PRECISION_HELP)
    add("--include-preprocessing", action="store_true", help="input: uint8 NHWC, 0-255, normalized inside the file")
    add("--include-resize", action="store_true", help="input: photos of any size, resized and cropped inside, too")
    add("--include-softmax", action="store_true", help="output: probabilities in place of logits")
    add("--include-tokens", action="store_true", help="output: the logits of every patch token, too")
    add("--images", type=str, nargs="+", help="compare on these images (default: the photos of the package)")
    add("--calibration", type=str, nargs="+", help="int8: fit the quantization to these images")
    add("--threads", type=int | None, help="CPU threads of the runtime in the comparison")
    return parser


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
