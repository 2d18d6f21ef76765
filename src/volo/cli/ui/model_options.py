"""The options of ``volo eval`` and ``volo predict`` that depend on the task of the model."""

from typing import Any

from jsonargparse import ArgumentParser

from volo.cli.ui.parser import runtime_of
from volo.inference import Segmenter
from volo.models import task_of
from volo.runtime.forward import ExportedModel, open_exported

#: Options of both verbs that are for segmentation models alone.
OPTIONS = ("window", "stride", "scales", "flip")


def add_segmentation_options(parser: ArgumentParser) -> None:
    """How a segmentation model looks at images."""
    parser.add_argument(
        "--window",
        type=int | list[int] | None,
        help="segmentation: side, or [height,width], of the windows that slide over an image, pixels; default: the "
        "crops it was trained on",
    )
    parser.add_argument(
        "--stride",
        type=int | list[int] | None,
        help="segmentation: from a window to the next, likewise; default: two thirds of the window",
    )
    parser.add_argument(
        "--scales",
        type=list[float],
        default=[1.0],
        help="segmentation: factors by which to enlarge and shrink an image, such as [0.75,1,1.25]; averaged",
    )
    parser.add_argument("--flip", action="store_true", help="segmentation: look at images mirrored as well; averaged")


def refuse(given: dict[str, Any], options: tuple[str, ...], task: str) -> None:
    """See that no option was given that says nothing to a model of this task.

    Raises:
        ValueError: one was.
    """
    wrong = [f"--{name}" for name in options if name in given]
    if wrong:
        others = "classification" if task == "segmentation" else "segmentation"
        raise ValueError(f"{', '.join(wrong)}: for {others} models; this model is one of {task}: leave it out")


def open_model_option(given: dict[str, Any]) -> str | ExportedModel:
    """The model that these options name: opened if it is an exported file, which alone can say what its task is."""
    model: str = given["model"]
    return open_exported(model, device=given["device"], **runtime_of(given)) or model


def model_task(model: str | ExportedModel) -> str:
    """Classification or segmentation."""
    return model.info.task if isinstance(model, ExportedModel) else task_of(model)


def segmenter(given: dict[str, Any]) -> Segmenter:
    """The model with its windows and views, as these options say."""
    return Segmenter(
        given["model"],
        device=given["device"],
        window=_sides("window", given["window"]),
        stride=_sides("stride", given["stride"]),
        scales=given["scales"],
        flip=given["flip"],
        batch_size=given["batch_size"] or 4,
        **runtime_of(given),
    )


def _sides(option: str, value: int | list[int] | None) -> int | tuple[int, int] | None:
    if not isinstance(value, list):
        return value
    if len(value) != 2:
        raise ValueError(f"--{option} must be a side or [height,width], not {value}")
    return value[0], value[1]
