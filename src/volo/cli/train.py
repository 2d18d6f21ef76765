"""``volo train``: train a model on a folder of images."""

import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from jsonargparse import ActionConfigFile
from rich.console import Console

from volo.cli.parser import VerbParser, parse
from volo.names import nearest
from volo.training.config import TrainConfig

INTERRUPTED = 130


def run(arguments: Sequence[str]) -> int:
    """Train, or go on with a run."""
    parser = VerbParser(prog="volo train", description="Train a model on a folder of images.")
    parser.add_argument(
        "folder",
        nargs="?",
        help="folder of class folders, or of train and val folders with these; table (CSV, TSV) of paths and labels; "
        "or the name of a data set: fashion-mini, the embedded one, or one of torchvision's",
    )
    parser.add_argument("--recipe", action=ActionConfigFile, help=f"one of {', '.join(recipes())}, or a YAML file")
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder; takes no other option")
    parser.add_class_arguments(TrainConfig, fail_untyped=True)
    given = parse(parser, _with_recipe_path(arguments))
    folder, resumed = given.pop("folder"), given.pop("resume")
    given.pop("recipe")

    from volo.training.run import resume, train

    console = Console()
    if resumed:
        if len(arguments) > (1 if any(a.startswith("--resume=") for a in arguments) else 2):
            raise ValueError("--resume takes no other option: a run goes on as it was begun")
        result = resume(resumed, console=console)
    else:
        if folder:
            given["data"]["path"] = folder
        if not given["data"]["path"]:
            raise ValueError("name a folder of images, or fashion-mini; volo train --help tells more")
        result = train(TrainConfig.from_dict(given), console=console)
    if result.interrupted:
        print(f"stopped; go on with: volo train --resume {result.folder}", file=sys.stderr)
        return INTERRUPTED
    if result.evaluation is not None:
        console.print(
            f"best epoch: top-1 {result.evaluation.top1:.2%} on {len(result.evaluation.labels):,} validation images; "
            f"model, curves and confusion matrix are in {result.folder}",
            highlight=False,
            soft_wrap=True,
        )
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
        return Path(str(_folder() / f"{name}.yaml"))
    if Path(name).is_file():
        return Path(name)
    raise ValueError(f"no recipe and no file is named {name!r}{nearest(name, recipes())}")


def _folder() -> Path:
    return Path(str(files("volo") / "recipes"))


def _with_recipe_path(arguments: Sequence[str]) -> list[str]:
    """The arguments with the recipe's name replaced by its file, and put first: options beside it override it."""
    rest, chosen = [], []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--recipe":
            chosen = ["--recipe", str(recipe_path(next(remaining, "")))]
        elif argument.startswith("--recipe="):
            chosen = ["--recipe", str(recipe_path(argument.partition("=")[2]))]
        elif argument == "--download":
            rest.append("--data.download=true")
        else:
            rest.append(argument)
    return [*chosen, *rest]
