"""``volo data check``: report what is in a data set and what is wrong with it."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from volo.cli.ui.parser import VerbParser, add_data_options, add_overwrite_option, data_source, parse
from volo.cli.ui.progress import image_progress
from volo.cli.ui.terminal import Console
from volo.data import default_workers, holds_masks, open_splits
from volo.data.splits import UNSPLIT
from volo.files import atomic_write, created_folder
from volo.outputs import check_output_folder, own_folder

if TYPE_CHECKING:
    from volo.data.checks.images import ImageReport
    from volo.data.checks.pairs import PairReport

#: Names in the output folder.
_REPORT_FILE, _SHEETS = "check.json", "contact_sheets"

#: Rows of the table of classes and lines of findings on the terminal; the report in JSON has all.
_MOST_LINES = 40


def run(arguments: Sequence[str]) -> int:
    """Check a data set: print the report, and write it and the contact sheets if an output folder is options."""
    action = arguments[0] if arguments else "--help"
    if action not in ("check", "-h", "--help"):
        raise ValueError(f"unknown action {action!r} of volo data; the only one is: volo data check DATA")
    options = parse(parser(), arguments[1:] if action == "check" else ["--help"])
    if options["workers"] is not None and options["workers"] < 0:
        raise ValueError(f"--workers must be at least 0, not {options['workers']}")

    folder = Path(options["output"]) if options["output"] else None
    if folder is not None:
        sheets = sorted(path.relative_to(folder) for path in (folder / _SHEETS).glob("*"))
        names = [_REPORT_FILE, *map(str, sheets)]
        check_output_folder(folder, names, overwrite=options["overwrite"], inputs=[options["data"]])
    console = Console()
    report = _checked_pairs(options, console) if holds_masks(options["data"]) else _checked_images(options, console)
    findings = report.findings()
    for line in findings[:_MOST_LINES]:
        console.print(f"- {line}", soft_wrap=True)
    if len(findings) > _MOST_LINES:
        console.print(f"- and {len(findings) - _MOST_LINES} more; --output DIR writes them all")
    if folder is not None:
        count = _write(report, folder)
        console.print(f"{_REPORT_FILE} and {count} contact sheets are in {folder}", soft_wrap=True)
    if findings and options["strict"]:
        raise ValueError(f"{len(findings)} findings (--strict)")
    return 0


def parser() -> VerbParser:
    """Return the parser of ``volo data check``."""
    parser = VerbParser(
        prog="volo data check",
        usage="DATA [options]",
        description="Read a data set once, and report what is in it and what is wrong with it.",
    )
    parser.add_argument(
        "data", metavar="DATA", help="folder of images, or of images and masks; table; or name of a data set"
    )
    parser.add_argument(
        "--output", type=str | None, help="folder for check.json and a contact sheet of every class, or split"
    )
    add_overwrite_option(parser)
    parser.add_argument("--workers", type=int | None, help="processes that read (default: one less than the cores)")
    parser.add_argument("--distance", type=int, default=4, help="most bits of 64 in which near duplicates differ, 0-16")
    parser.add_argument("--strict", action="store_true", help="make findings an error")
    add_data_options(parser)
    return parser


def _checked_images(options: dict[str, Any], console: Console) -> "ImageReport":
    from volo.data.checks.images import check_images

    opened = open_splits(options["data"], source=data_source(options))
    splits = {split: opener() for split, opener in opened.items()}
    with _progress(console, sum(len(images.labels) for images in splits.values())) as advance:
        report = check_images(splits, workers=_workers(options), distance=options["distance"], on_image=advance)
    _print(console, report)
    return report


def _checked_pairs(options: dict[str, Any], console: Console) -> "PairReport":
    from volo.data.checks.pairs import check_pairs

    opened = open_splits(options["data"], task="segmentation", source=data_source(options))
    splits = {split: opener() for split, opener in opened.items()}
    with _progress(console, sum(len(images) for images in splits.values())) as advance:
        report = check_pairs(splits, workers=_workers(options), on_image=advance)
    _print_pairs(console, report)
    return report


def _workers(options: dict[str, Any]) -> int:
    return default_workers() if options["workers"] is None else options["workers"]


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar. Gives a function that takes the number of images read since its last call."""
    with image_progress(console) as progress:
        task = progress.add_task("reading", total=total)
        yield lambda count: progress.advance(task, count)


def _print(console: Console, report: "ImageReport") -> None:
    splits = list(next(iter(report.counts.values())))
    table = Table(title=f"{len(report.images):,} images of {len(report.counts):,} classes")
    table.add_column("class", overflow="fold")
    for split in splits:
        table.add_column(split, justify="right")
    for label, row in list(report.counts.items())[:_MOST_LINES]:
        table.add_row(label, *(f"{row[split]:,}" for split in splits))
    if len(report.counts) > _MOST_LINES:
        table.add_row(f"and {len(report.counts) - _MOST_LINES} more", *("…" for _ in splits))
    table.add_section()
    table.add_row("all", *(f"{sum(row[split] for row in report.counts.values()):,}" for split in splits))
    console.print(table)
    known = report.to_dict()
    for name, (least, median, most) in known["sizes"].items():
        console.print(f"{name + ':':<8} {least:,.0f} to {most:,.0f}, median {median:,.0f}", soft_wrap=True)
    console.print(
        f"kinds:   {', '.join(f'{kind} {count:,}' for kind, count in known['kinds'].items())}", soft_wrap=True
    )
    console.print(f"largest class by smallest: {report.imbalance:.2f}")
    groups = (*report.exact, *report.near)
    console.print(
        f"unreadable: {len(report.unreadable)}; exact duplicates: {len(report.exact)} groups; near duplicates: "
        f"{len(report.near)} groups; across splits: {sum(group.across for group in groups)}; "
        f"with different labels: {sum(group.conflict for group in groups)}",
        soft_wrap=True,
    )


def _print_pairs(console: Console, report: "PairReport") -> None:
    known = report.to_dict()
    table = Table(title=f"{len(report.pairs):,} images with masks of {len(report.classes.names):,} classes")
    table.add_column("class", overflow="fold")
    for split, count in known["pairs"].items():
        table.add_column(f"{split}: images\nof {count:,}", justify="right")
        table.add_column("share of\npixels", justify="right")
    totals = {split: max(1, int(pixels.sum())) for split, pixels in report.pixels.items()}
    for index, name in enumerate(report.classes.names[:_MOST_LINES]):
        cells = (
            (f"{report.images_with[split][index]:,}", f"{report.pixels[split][index] / total:.2%}")
            for split, total in totals.items()
        )
        table.add_row(name, *chain(*cells))
    if len(report.classes.names) > _MOST_LINES:
        table.add_row(f"and {len(report.classes.names) - _MOST_LINES} more", *("…" for _ in range(2 * len(totals))))
    console.print(table)
    for name, (least, median, most) in known["sizes"].items():
        console.print(f"{name + ':':<8} {least:,.0f} to {most:,.0f}, median {median:,.0f}", soft_wrap=True)
    ignored = ", ".join(
        f"{share:.2%}" if split == UNSPLIT else f"{split} {share:.2%}" for split, share in known["ignored"].items()
    )
    console.print(f"ignored: {ignored} of pixels; unusable pairs: {len(known['unusable'])}", soft_wrap=True)


def _write(report: "ImageReport | PairReport", folder: Path) -> int:
    """Write the report and the contact sheets. Returns the number of contact sheets."""
    sheets = folder / _SHEETS
    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n"
    # The files get their names when all of them are written.
    with own_folder(folder, "data check"), created_folder(sheets), ExitStack() as stack:

        def path(whole: Path) -> Path:
            return stack.enter_context(atomic_write(whole))

        path(folder / _REPORT_FILE).write_text(text, encoding="utf-8")
        drawn = report.contact_sheets()
        for number, (label, sheet) in enumerate(drawn.items()):
            # Numbered, since different names may look the same without what file systems do not take.
            name = f"{number:04d}-{re.sub(r'[^A-Za-z0-9.-]+', '_', label)[:60]}.png"
            sheet.save(path(sheets / name), format="PNG")
    return len(drawn)
