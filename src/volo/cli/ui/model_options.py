"""The options of ``volo eval`` and ``volo predict`` that depend on the task of the model."""

from typing import Any

from jsonargparse import ArgumentParser

from volo.cli.ui.parser import runtime_of
from volo.inference import Segmenter
from volo.models import task_of
from volo.runtime.forward import ExportedModel, open_exported

#: Options of both verbs that only segmentation models take.
SEGMENTATION_OPTIONS = ("window", "stride", "scales", "flip")


def add_segmentation_options(parser: ArgumentParser) -> None:
    """Add the options for how a segmentation model covers an image."""
    parser.add_argument(
        "--window",
        type=int | list[int] | None,
        help="segmentation: side, or [height,width], in pixels of the windows that slide over an image (default: the "
        "crops of the training)",
    )
    parser.add_argument(
        "--stride",
        type=int | list[int] | None,
        help="segmentation: step between windows, likewise (default: two thirds of the window)",
    )
    parser.add_argument(
        "--scales",
        type=list[float],
        default=[1.0],
        help="segmentation: average over the image resized by these factors, such as [0.75,1,1.25]",
    )
    parser.add_argument("--flip", action="store_true", help="segmentation: average over the image and its mirror image")


def refuse(explicit: dict[str, Any], names: tuple[str, ...], task: str) -> None:
    """Raise an error if an option was given that has no meaning for a model of this task.

    Args:
        explicit: the options that were given.
        names: options of the other task.
        task: of the model, classification or segmentation.

    Raises:
        ValueError: One of ``names`` was given.
    """
    wrong = [f"--{name.replace('_', '-')}" for name in names if name in explicit]
    if wrong:
        other = "classification" if task == "segmentation" else "segmentation"
        raise ValueError(f"{', '.join(wrong)}: only for {other} models, and this is a {task} model: leave it out")


def open_model_option(options: dict[str, Any]) -> str | ExportedModel:
    """Return the model that the options name; an exported file is opened, since only its content tells its task."""
    model: str = options["model"]
    return open_exported(model, device=options["device"], **runtime_of(options)) or model


def model_task(model: str | ExportedModel) -> str:
    """Return the task of a model: classification or segmentation."""
    return model.info.task if isinstance(model, ExportedModel) else task_of(model)


def make_segmenter(options: dict[str, Any]) -> Segmenter:
    """Return a segmenter with the windows and views that the options ask for."""
    return Segmenter(
        options["model"],
        device=options["device"],
        window=_sides("window", options["window"]),
        stride=_sides("stride", options["stride"]),
        scales=options["scales"],
        flip=options["flip"],
        batch_size=options["batch_size"] or 4,
        **runtime_of(options),
    )


def _sides(option: str, value: int | list[int] | None) -> int | tuple[int, int] | None:
    """Return ``[height, width]`` as a tuple, and a single side as it is."""
    if not isinstance(value, list):
        return value
    if len(value) != 2:
        raise ValueError(f"--{option} must be a side or [height,width], not {value}")
    return value[0], value[1]
