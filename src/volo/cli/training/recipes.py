"""``volo recipes``: the training runs that come with the package."""

import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from volo.cli.ui.parser import VerbParser, parse
from volo.cli.ui.terminal import Console, say
from volo.messages import nearest

#: Largest recipe, in bytes: those in the package have less than 2 KiB.
_LARGEST_RECIPE = 256 * 1024
#: Deepest nesting of sections and lists in a recipe.
_DEEPEST = 10


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
    say("volo recipes NAME prints one; volo train DATA --recipe NAME --dry-run says what it takes")
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


def read_recipe(path: Path) -> dict[Any, Any]:
    """Read the settings of a recipe: plain YAML without aliases, which could stand for any amount of data, and tags.

    Raises:
        ValueError: The file is too large, is not such YAML, or holds something else than settings by name.
    """
    if path.stat().st_size > _LARGEST_RECIPE:
        raise ValueError(f"{path} is not a recipe: it is larger than {_LARGEST_RECIPE // 1024} KiB")
    try:
        text = path.read_text(encoding="utf-8")
        problem = _not_plain(text)
        values = None if problem else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path} is not a recipe, since it is not YAML: {' '.join(str(error).split())}") from error
    if problem:
        raise ValueError(f"{path} is not a recipe: {problem}")
    if not isinstance(values, dict):
        raise ValueError(f"{path} is not a recipe: it must hold settings by name, as volo recipes NAME prints them")
    return values


def _not_plain(text: str) -> str | None:
    """Return the error message if YAML is more than plain settings, or None. Raises yaml.YAMLError."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        tag = getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent) or tag is not None:
            found = f"alias *{event.anchor}" if isinstance(event, yaml.AliasEvent) else f"tag {tag}"
            return f"the {found} is not allowed; write the value itself"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:  # PyYAML takes the square of the depth in time
            return f"its settings are nested more than {_DEEPEST} deep"
    return None


def header(text: str) -> dict[str, str]:
    """Parse the header of a recipe: ``what``, ``command``, ``hardware``, ``time``, ``score`` and ``source``."""
    first, *rest = (line.removeprefix("#").strip() for line in text.splitlines()[:6])
    return {
        "what": first.rstrip("."),
        **{key.lower(): value.strip() for key, _, value in (line.partition(":") for line in rest)},
    }


def _folder() -> Path:
    return Path(str(files("volo") / "recipes"))
