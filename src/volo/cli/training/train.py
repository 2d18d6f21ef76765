"""``volo train``: train a model on your images, or resume a run."""

import re
import sys
from argparse import SUPPRESS
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile

from volo.cli.training.recipes import read_recipe, recipe_path
from volo.cli.ui.help import dashed
from volo.cli.ui.hints import TRAIN
from volo.cli.ui.parser import VerbParser, parse
from volo.cli.ui.terminal import Console, say, say_error
from volo.limits import short_repr
from volo.messages import quoted
from volo.training.config import RUN_CONFIG_FILE, TrainConfig

#: Short option → the setting that it stands for.
SHORT_FORMS = {
    "model": "model.name",
    "pretrained": "model.pretrained",
    "lr": "optim.lr",
    "workers": "data.workers",
    "classes": "data.classes",
}
#: Short flag → the setting that it makes true.
FLAGS = {"download": "data.download", "palette": "data.palette", "strict": "data.strict"}
#: Options that are not settings of the run.
_NOT_SETTINGS = ("data_path", "recipe", "resume", "dry_run", "profile", "print_config", "image_size")
_DATA_HELP = (
    "folder with a folder for each class, or with folders train and val of that form; folder of images and masks; "
    "table (CSV, TSV) of paths and labels; or name of a data set: fashion-mini, which comes with the package, or one "
    "of torchvision's"
)


def run(arguments: Sequence[str]) -> int:
    """Train, resume a run, or report what a training would need."""
    if {"-h", "--help"} & set(arguments):
        say(short_parser().format_help().rstrip())
        return 0
    if {"--help-all", "--help_all"} & set(arguments):
        say(full_parser().format_help().rstrip())
        return 0
    arguments = _expanded(arguments)
    options = parse(full_parser(), arguments)
    if options["dry_run"] and (options["resume"] or options["profile"]):
        raise ValueError("--dry-run keeps nothing, so it does not go with --resume or --profile")
    if options["resume"]:
        return _resume(options, arguments)
    config = TrainConfig.from_dict(_settings(options, options["task"]))
    if options["print_config"]:
        sys.stdout.write(config.to_yaml())
        return 0
    console = Console()
    if options["dry_run"]:
        from volo.training.dry_run import dry_run

        dry_run(config, console=console)
        return 0
    if not config.data.path:
        raise ValueError("name a folder of images, or fashion-mini: volo train DATA; volo train --help has more")
    from volo.training.run import train

    return _report(train(config, profile=options["profile"], console=console), console)


def short_parser() -> VerbParser:
    """Return a parser of the frequent options, which is only there to print their help."""
    parser = VerbParser(
        prog="volo train",
        usage="DATA [options]\n--resume RUN",
        description="Train a model on your images, or resume a run that was stopped.",
        epilog="volo train --help-all shows every setting, such as --optim.weight-decay and --augment.erasing. Every "
        "setting may also stand in a recipe.",
    )
    add = parser.add_argument
    add("data", metavar="DATA", nargs="?", help=_DATA_HELP)
    add("--model", metavar="NAME", default="volo_d0_224", help="model size, as volo models lists them")
    add("--pretrained", metavar="WEIGHTS", help="initial weights: name in volo weights list, file or model folder")
    add("--recipe", metavar="NAME", help="settings to start from: name in volo recipes, or YAML file")
    add("--output", metavar="DIR", help="folder of the run (default: runs/DATA-MODEL)")
    add("--image-size", metavar="N", help="side of the images in pixels; segmentation: of the crops, also HEIGHTxWIDTH")
    add("--epochs", metavar="N", default=TrainConfig.epochs, help="passes over the training images")
    add("--batch-size", metavar="N", help="images in a batch on each device (default: 64, less for few images)")
    add("--lr", metavar="X", default=1e-3, help="highest learning rate")
    add(
        "--precision",
        metavar="fp32|bf16|fp16",
        default="fp32",
        help="bf16 and fp16 are mixed precision: faster on most devices",
    )
    add("--workers", metavar="N", help="processes that load images (default: one less than the cores, at most 8)")
    add("--seed", metavar="N", default="0", help="seed of every random draw")
    add("--task", metavar="TASK", default="classification", help="classification, or segmentation for images and masks")
    add("--classes", metavar="LIST", help="segmentation: file of class names, or names such as sky,road")
    add("--palette", action="store_true", help="segmentation: read the classes of masks from their colors")
    add("--download", action="store_true", help="let torchvision download a data set that is missing")
    add("--strict", action="store_true", help="stop at an image that cannot be read, instead of leaving it out")
    _add_actions(parser)
    return parser


def full_parser() -> VerbParser:
    """Return the parser of all options and settings."""
    parser = VerbParser(
        prog="volo train",
        usage="DATA [options]\n--resume RUN",
        description="Train a model on your images, or resume a run that was stopped. volo train --help shows the short "
        "forms of frequent settings.",
        hints=TRAIN,
        synonyms=SHORT_FORMS,
    )
    parser.add_argument("data_path", metavar="DATA", nargs="?", help=_DATA_HELP)
    parser.add_argument("--recipe", action=ActionConfigFile, help="name in the list of volo recipes, or YAML file")
    parser.add_argument(
        "--image-size", type=str | None, help="sets model.img_size, or segmentation.crop for --task segmentation"
    )
    _add_actions(parser)
    parser.add_class_arguments(TrainConfig, fail_untyped=True)
    for action in parser._actions:
        if action.dest in _sections():
            action.help = SUPPRESS  # jsonargparse's option for a file with one section; a recipe serves for that
    return parser


def _add_actions(parser: VerbParser) -> None:
    """Add the options that tell what to do with the settings."""
    add = parser.add_argument
    add("--resume", metavar="RUN", help="resume the run in this folder; other options must agree with it")
    add("--dry-run", action="store_true", help="run three batches, estimate memory and time, keep nothing")
    add("--profile", action="store_true", help="write into the run folder where the time goes")
    add("--print-config", action="store_true", help="print all settings as a recipe, and do nothing else")
    add("--help-all", action="store_true", help="show every setting")


def _sections() -> list[str]:
    """Return the names of the sections of the configuration, such as ``segmentation`` and ``segmentation.augment``."""
    return [name for name, _ in _nested_sections(TrainConfig, "")]


def _nested_sections(config: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for field in fields(config):
        if is_dataclass(field.default_factory):
            yield f"{prefix}{field.name}", field.default_factory
            yield from _nested_sections(field.default_factory, f"{prefix}{field.name}.")


def _settings(options: dict[str, Any], task: str) -> dict[str, Any]:
    """Return the settings of the run among the options, with the data and the size of images in their places."""
    settings = {key: value for key, value in options.items() if key not in _NOT_SETTINGS}
    settings.pop("help_all", None)
    if options.get("data_path"):
        settings.setdefault("data", {})["path"] = options["data_path"]
    if options.get("image_size"):
        section, key, value = _image_size(options["image_size"], task)
        settings.setdefault(section, {})[key] = value
    return settings


def _image_size(text: str, task: str) -> tuple[str, str, int | list[int]]:
    """Return the section, name and value of the setting that ``--image-size`` stands for."""
    sides = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if sides is None:
        raise ValueError(f"--image-size must be a side, such as 224, or height x width, such as 256x512; not {text!r}")
    height, width = int(sides[1]), int(sides[2] or sides[1])
    if task == "segmentation":
        return "segmentation", "crop", [height, width]
    if height != width:
        raise ValueError(f"--image-size {text}: classifiers are trained on square images: give one side")
    return "model", "img_size", height


def _resume(options: dict[str, Any], arguments: Sequence[str]) -> int:
    from volo.training.run import resume

    console, config = Console(), Path(options["resume"]) / RUN_CONFIG_FILE
    explicit = parse(full_parser(), arguments, defaults=False)
    task = TrainConfig.load(config).task if explicit.get("image_size") and config.is_file() else "classification"
    settings = _settings(explicit, task)
    return _report(resume(options["resume"], settings=settings, profile=options["profile"], console=console), console)


def _report(result: Any, console: Console) -> int:
    """Print how the run ended. Returns the exit code."""
    if result.stopped_by is not None:
        if result.first_process:
            resume = f"resume with: volo train --resume {quoted(result.folder)}"
            advice = "SLURM has queued it again" if result.requeued else resume
            say_error(f"stopped by {result.stopped_by.name} and saved; {advice}")
        return 128 + result.stopped_by
    if result.evaluation is not None:
        console.print(
            f"best epoch: {result.evaluation.headline} on {len(result.evaluation.indices):,} validation images; "
            f"model, curves and confusion matrix are in {result.folder}",
            soft_wrap=True,
        )
    return 0


def _expanded(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the settings in the place of short flags, and the recipe's file for its name.

    The recipe comes first, so that options beside it override it.
    """
    rest, recipe = [], []
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        key = dashed(name.removeprefix("--")) if name.startswith("--") else ""
        if key == "recipe":
            if not equals:
                value = next(remaining, "")
            recipe = ["--recipe", _recipe(value)] if value else [argument]
        elif key in _sections() and key not in SHORT_FORMS:
            example = {"data": "DATA is an argument without an option"}.get(key, f"its settings are --{key}.NAME")
            raise ValueError(f"unknown option {name}: {example}")
        elif key in FLAGS:
            rest.append(f"--{FLAGS[key]}={value if equals else 'true'}")
        else:
            rest.append(argument)
    return [*recipe, *rest]


def _recipe(name: str) -> str:
    """Return the file of a recipe that holds settings: errors of the parser would not tell which file is wrong.

    Raises:
        ValueError: See :func:`read_recipe`; or a section is no section, or names another file or class. jsonargparse
            would read such a file, and import such a class before it refuses it.
    """
    path = recipe_path(name)
    sections = _sections()
    for key, value in _nested_settings(read_recipe(path), ""):
        if key in sections and not isinstance(value, dict):
            raise ValueError(f"{path}: {key} must be settings by name, not {short_repr(value)}")
        if key == "recipe" or key.rpartition(".")[2] in ("class_path", "init_args", "dict_kwargs"):
            raise ValueError(f"{path}: unknown setting {short_repr(key)}; volo train --help-all shows all settings")
    return str(path)


def _nested_settings(values: dict[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted names and the values of settings, with those of the sections in them."""
    for name, value in values.items():
        yield f"{prefix}{name}", value
        if isinstance(value, dict):
            yield from _nested_settings(value, f"{prefix}{name}.")
