"""``volo recipes``: the training runs that come with the package."""

import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import yaml
from rich.table import Table

from volo.cli.ui.parser import VerbParser, parse
from volo.cli.ui.terminal import Console
from volo.messages import nearest


def run(arguments: Sequence[str]) -> int:
    """Print what each recipe is, or one recipe's file."""
    name = parse(parser(), arguments)["name"]
    if name:
        sys.stdout.write(recipe_path(name).read_text(encoding="utf-8"))
        return 0
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name in recipes():
        text = recipe_path(name).read_text(encoding="utf-8")
        facts = header(text)
        table.add_row(name, facts["what"])
        table.add_row("", f"{yaml.safe_load(text)['epochs']} epochs; {facts['score']}; source: {facts['source']}")
        table.add_row()
    Console().print(table)
    print("volo recipes NAME prints one; volo train DATA --recipe NAME --dry-run says what it takes")
    return 0


def parser() -> VerbParser:
    """Return the parser of ``volo recipes``."""
    parser = VerbParser(
        prog="volo recipes", usage="[NAME]", description="List the recipes of volo train, or print one."
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="the recipe to print")
    return parser


def recipes() -> list[str]:
    """Return the names of the recipes in the package."""
    return sorted(file.name.removesuffix(".yaml") for file in _folder().iterdir() if file.name.endswith(".yaml"))


def recipe_path(name: str) -> Path:
    """Return the file of a recipe, by its name or path.

    Raises:
        ValueError: There is neither; the message gives the nearest name.
    """
    if name in recipes():
        return _folder() / f"{name}.yaml"
    if Path(name).is_file():
        return Path(name)
    raise ValueError(f"no recipe and no file is named {name!r}{nearest(name, recipes())}")


def header(text: str) -> dict[str, str]:
    """Parse the header of a recipe: ``what``, ``command``, ``hardware``, ``time``, ``score`` and ``source``."""
    first, *rest = (line.removeprefix("#").strip() for line in text.splitlines()[:6])
    return {
        "what": first.rstrip("."),
        **{key.lower(): value.strip() for key, _, value in (line.partition(":") for line in rest)},
    }


def _folder() -> Path:
    return Path(str(files("volo") / "recipes"))
