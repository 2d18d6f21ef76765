"""``volo compare``: compare training runs."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.table import Table

from volo.cli.ui.parser import VerbParser, add_overwrite_option, parse
from volo.cli.ui.terminal import Console, note
from volo.files import atomic_write, created_folder
from volo.messages import elide
from volo.outputs import check_outputs


def run(arguments: Sequence[str]) -> int:
    """Print a table, and write a picture and JSON if an output is options."""
    options = parse(parser(), arguments)

    from volo.training.reports.compare import compare_runs, table_rows
    from volo.training.reports.compare_plot import draw_comparison

    output = Path(options["output"]) if options["output"] else None
    if output is not None:
        if output.suffix != ".png":
            raise ValueError(f"--output must end in .png, not {output.name!r}")
        check_outputs([output, output.with_suffix(".json")], overwrite=options["overwrite"])
    comparison = compare_runs(options["runs"])
    console = Console()
    names = [elide(run.name) for run in comparison.runs]
    console.print(_table(["", *names], table_rows(comparison)))
    for remark in comparison.notes:
        note(remark)
    if output is not None:
        text = output.with_suffix(".json")
        with created_folder(output.parent), ExitStack() as stack:  # both or none
            picture, values = (stack.enter_context(atomic_write(path)) for path in (output, text))
            draw_comparison(comparison, picture)
            values.write_text(comparison.to_json(), encoding="utf-8")
        console.print(f"picture and figures are in {output} and {text}", soft_wrap=True)
    return 0


def parser() -> VerbParser:
    """Return the parser of ``volo compare``."""
    parser = VerbParser(
        prog="volo compare",
        usage="RUN RUN... [options]",
        description="Compare training runs: settings that differ, scores, and whether the differences are significant.",
    )
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="run folders of volo train; the first is the baseline of the others"
    )
    parser.add_argument(
        "--output", type=str | None, help="picture, *.png; the table and the curves as *.json beside it"
    )
    add_overwrite_option(parser)
    return parser


def _table(header: Sequence[str], rows: Sequence[tuple[str, list[str]]]) -> Table:
    table = Table(row_styles=("", "dim"))
    for name in header:
        table.add_column(name, overflow="fold")
    for name, values in rows:
        table.add_row(name, *values)
    return table
