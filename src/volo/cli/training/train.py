"""``volo train``: train a model on a folder of images."""

import sys
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import yaml
from jsonargparse import ActionConfigFile

from volo.cli.training.recipes import recipe_path
from volo.cli.ui.parser import VerbParser, parse
from volo.cli.ui.terminal import Console
from volo.training.config import TrainConfig

#: Flags that stand for settings of the data.
_FLAGS = ("--download", "--strict", "--palette")
#: Options that are no settings of the run.
_OTHERS = ("folder", "recipe", "resume", "dry_run", "profile", "print_config")


def run(arguments: Sequence[str]) -> int:
    """Train, or go on with a run, or say what a training would be and take."""
    arguments = _with_recipe_path(arguments)
    options = parse(_parser(), arguments)
    if options["dry_run"] and (options["resume"] or options["profile"]):
        raise ValueError("--dry-run keeps nothing: it goes neither with --resume nor with --profile")
    if options["resume"]:
        return _resume(options, arguments)
    config = TrainConfig.from_dict(_settings(options))
    if options["print_config"]:
        sys.stdout.write(config.to_yaml())
        return 0
    console = Console()
    if options["dry_run"]:
        from volo.training.dry_run import dry_run

        dry_run(config, console=console)
        return 0
    if not config.data.path:
        raise ValueError("name a folder of images, or fashion-mini; volo train --help tells more")
    from volo.training.run import train

    return _report(train(config, profile=options["profile"], console=console), console)


def _parser() -> VerbParser:
    parser = VerbParser(prog="volo train", description="Train a model on a folder of images.")
    parser.add_argument(
        "folder",
        nargs="?",
        help="folder of class folders, or of train and val folders with these; table (CSV, TSV) of paths and labels; "
        "or the name of a data set: fashion-mini, the embedded one, or one of torchvision's",
    )
    parser.add_argument("--recipe", action=ActionConfigFile, help="one of those that volo recipes lists, or a file")
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder; other options must agree")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="do two training batches and one of validation, estimate memory and time, keep nothing",
    )
    parser.add_argument("--profile", action="store_true", help="write where the time goes into the run folder")
    parser.add_argument("--print_config", action="store_true", help="print the whole configuration as a recipe")
    parser.add_class_arguments(TrainConfig, fail_untyped=True)
    return parser


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """The settings of the run among the options, the folder as one of them."""
    settings = {key: value for key, value in options.items() if key not in _OTHERS}
    if options.get("folder"):
        settings.setdefault("data", {})["path"] = options["folder"]
    return settings


def _resume(options: dict[str, Any], arguments: Sequence[str]) -> int:
    from volo.training.run import resume

    console = Console()
    given = _settings(parse(_parser(), arguments, defaults=False))
    return _report(resume(options["resume"], settings=given, profile=options["profile"], console=console), console)


def _report(result: Any, console: Console) -> int:
    """Say how the run ended. Returns the exit code."""
    if result.stopped_by is not None:
        if result.first_process:
            go_on = (
                "SLURM has queued it again" if result.requeued else f"go on with: volo train --resume {result.folder}"
            )
            print(f"stopped by {result.stopped_by.name} and saved; {go_on}", file=sys.stderr)
        return 128 + result.stopped_by
    if result.evaluation is not None:
        console.print(
            f"best epoch: {result.evaluation.headline} on {len(result.evaluation.indices):,} validation images; "
            f"model, curves and confusion matrix are in {result.folder}",
            soft_wrap=True,
        )
    return 0


def _with_recipe_path(arguments: Sequence[str]) -> list[str]:
    """The arguments with the recipe's name replaced by its file, and put first: options beside it override it.

    Settings that every verb has as a flag may be written so here too.
    """
    rest, chosen = [], []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--recipe":
            chosen = ["--recipe", _recipe(next(remaining, ""))]
        elif argument.startswith("--recipe="):
            chosen = ["--recipe", _recipe(argument.partition("=")[2])]
        elif argument in _FLAGS:
            rest.append(f"--data.{argument[2:]}=true")
        else:
            rest.append(argument)
    return [*chosen, *rest]


def _recipe(name: str) -> str:
    """The file of a recipe, seen to hold settings: the errors of what parses it do not say which file is wrong."""
    path = recipe_path(name)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no recipe, since it is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is no recipe: it must hold settings by name, as volo recipes NAME prints them")
    sections = [field.name for field in fields(TrainConfig) if is_dataclass(field.default_factory)]
    wrong = [name for name in sections if not isinstance(values.get(name, {}), dict)]
    if wrong:
        raise ValueError(f"{path}: {wrong[0]} must be settings by name, not {values[wrong[0]]!r}")
    return str(path)
