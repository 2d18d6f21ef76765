"""``volo recipes``: the training runs that come with the package."""

import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import yaml
from rich import box
from rich.table import Table

from volo.cli.parser import VerbParser, parse
from volo.cli.terminal import Console
from volo.names import nearest


def run(arguments: Sequence[str]) -> int:
    """Print a row for each recipe, or one recipe's file."""
    parser = VerbParser(prog="volo recipes", description="List the recipes of volo train, or print one.")
    parser.add_argument("name", nargs="?", help="the recipe whose file to print")
    name = parse(parser, arguments)["name"]
    if name:
        sys.stdout.write(recipe_path(name).read_text(encoding="utf-8"))
        return 0
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for heading in ("name", "what", "score", "source", "epochs"):
        table.add_column(heading, justify="right" if heading == "epochs" else "left", no_wrap=heading == "name")
    for name in recipes():
        text = recipe_path(name).read_text(encoding="utf-8")
        facts = header(text)
        table.add_row(name, facts["what"], facts["score"], facts["source"], str(yaml.safe_load(text)["epochs"]))
    Console().print(table)
    return 0


def recipes() -> list[str]:
    """The names of the recipes in the package."""
    return sorted(file.name.removesuffix(".yaml") for file in _folder().iterdir() if file.name.endswith(".yaml"))


def recipe_path(name: str) -> Path:
    """The file of a named recipe, or of a path.

    Raises:
        ValueError: there is neither; the message gives the nearest name.
    """
    if name in recipes():
        return _folder() / f"{name}.yaml"
    if Path(name).is_file():
        return Path(name)
    raise ValueError(f"no recipe and no file is named {name!r}{nearest(name, recipes())}")


def header(text: str) -> dict[str, str]:
    """What the first lines of a recipe say: ``what``, ``command``, ``hardware``, ``time``, ``score``, ``source``."""
    first, *rest = (line.removeprefix("#").strip() for line in text.splitlines()[:6])
    return {
        "what": first.rstrip("."),
        **{key.lower(): value.strip() for key, _, value in (line.partition(":") for line in rest)},
    }


def _folder() -> Path:
    return Path(str(files("volo") / "recipes"))
