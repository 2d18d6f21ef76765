"""``volo data check``: read a data set once and say what is in it and what is wrong with it."""

import json
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from volo.cli.parser import VerbParser, add_data_options, data_source, parse
from volo.cli.terminal import Console
from volo.data import default_workers, open_parts
from volo.files import check_folder, making, replacing

if TYPE_CHECKING:
    from volo.data.check import Report

#: Rows of the table of classes and lines of findings on the terminal; the report in JSON has all.
_MOST = 40


def run(arguments: Sequence[str]) -> int:
    """Check a data set: print the report, and write it and the contact sheets where asked."""
    parser = VerbParser(
        prog="volo data check", description="volo data check PATH: read a data set once and report what is in it."
    )
    parser.add_argument("path", help="folder, table or name of a data set, as for volo train")
    parser.add_argument("--output", type=str | None, help="folder for check.json and a contact sheet of every class")
    parser.add_argument("--workers", type=int | None, help="processes that read; default: one for each core but one")
    parser.add_argument("--distance", type=int, default=4, help="bits of 64 in which near duplicates may differ, 0-16")
    parser.add_argument("--strict", action="store_true", help="findings are an error")
    add_data_options(parser)
    command = arguments[0] if arguments else "--help"
    if command not in ("check", "-h", "--help"):
        raise ValueError(f"unknown command {command!r} of volo data; there is: volo data check PATH")
    given = parse(parser, arguments[1:] if command == "check" else ["--help"])

    if given["workers"] is not None and given["workers"] < 0:
        raise ValueError(f"--workers must be at least 0, not {given['workers']}")

    from volo.data.check import check

    folder = Path(given["output"]) if given["output"] else None
    if folder is not None:
        check_folder(folder)  # before the work, not after it
    console = Console()
    parts = {part: opener() for part, opener in open_parts(given["path"], source=data_source(given)).items()}
    with Progress(
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("reading", total=sum(len(images.labels) for images in parts.values()))
        report = check(
            parts,
            workers=default_workers() if given["workers"] is None else given["workers"],
            distance=given["distance"],
            on_image=lambda count: progress.advance(task, count),
        )
    findings = report.findings()
    _print(console, report, findings)
    if folder is not None:
        sheets = _write(report, folder)
        console.print(f"check.json and {sheets} contact sheets are in {folder}", soft_wrap=True)
    if findings and given["strict"]:
        raise ValueError(f"{len(findings)} findings (--strict)")
    return 0


def _print(console: Console, report: "Report", findings: Sequence[str]) -> None:
    parts = list(next(iter(report.counts.values())))
    table = Table(title=f"{len(report.images):,} images of {len(report.counts):,} classes")
    table.add_column("class", overflow="fold")
    for part in parts:
        table.add_column(part, justify="right")
    for label, row in list(report.counts.items())[:_MOST]:
        table.add_row(label, *(f"{row[part]:,}" for part in parts))
    if len(report.counts) > _MOST:
        table.add_row(f"and {len(report.counts) - _MOST} more", *("…" for _ in parts))
    table.add_section()
    table.add_row("all", *(f"{sum(row[part] for row in report.counts.values()):,}" for part in parts))
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
        f"{len(report.near)} groups; across parts: {sum(group.across for group in groups)}; "
        f"with different labels: {sum(group.conflict for group in groups)}",
        soft_wrap=True,
    )
    for line in findings[:_MOST]:
        console.print(f"- {line}", soft_wrap=True)
    if len(findings) > _MOST:
        console.print(f"- and {len(findings) - _MOST} more; --output DIR writes them all")


def _write(report: "Report", folder: Path) -> int:
    """Write the report and the contact sheets; how many there are."""
    sheets = folder / "contact_sheets"
    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n"
    with making(sheets), ExitStack() as stack:  # the files get their names when all of them are written

        def path(whole: Path) -> Path:
            return stack.enter_context(replacing(whole))

        path(folder / "check.json").write_text(text, encoding="utf-8")
        for number, (label, sheet) in enumerate(report.contact_sheets().items()):
            # Numbered, since different names may look the same without what file systems do not take.
            name = f"{number:04d}-{re.sub(r'[^A-Za-z0-9.-]+', '_', label)[:60]}.png"
            sheet.save(path(sheets / name), format="PNG")
    return len(report.counts)
