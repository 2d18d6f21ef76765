"""From a trained model to a file for another runtime, and the check of that file."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from volo.export.capture import capture
from volo.export.formats import ExportOptions
from volo.export.graph import Graph, example
from volo.export.sample_images import real_images, real_photos
from volo.export.verify import ExportReport, verify, verify_photos
from volo.files import atomic_write, check_writable_file, created_folder
from volo.inference.image_inputs import check_finite, preprocessing_of
from volo.models import (
    VOLO,
    SegmentationModel,
    TrainedModel,
    TrainedSegmenter,
    VOLOConfig,
    load_model,
    load_segmenter,
    task_of,
)
from volo.models.pyramid import STRIDES
from volo.models.weights.model_folder import SEGMENTATION
from volo.runtime.export_info import ExportInfo
from volo.runtime.runtimes import open_runtime
from volo.version import __version__

#: Images that quantization is calibrated on, at most.
CALIBRATED = 300


@dataclass(frozen=True)
class Export:
    """An exported file.

    Attributes:
        path: of the file.
        info: what it says of itself.
        report: of the check.
        report_path: where the report is, as JSON.
    """

    path: Path
    info: ExportInfo
    report: ExportReport
    report_path: Path


def export_model(
    source: str | Path,
    *,
    to: str,
    output: str | Path,
    size: tuple[int, int] | None = None,
    dynamic: str = "batch",
    precision: str = "fp32",
    include_preprocessing: bool = False,
    include_resize: bool = False,
    include_softmax: bool = False,
    include_tokens: bool = False,
    images: Sequence[str] | None = None,
    calibration: Sequence[str] | None = None,
    threads: int | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> Export:
    """Write a trained model for another runtime, and compare the file with PyTorch on real images.

    A file that fails the comparison stays where it is: look at ``report.problems``.

    Args:
        source: a trained model, as :func:`volo.load_model` or :func:`volo.load_segmenter` takes it.
        to: onnx, openvino, torch-export or aotinductor.
        output: the file; OpenVINO's weights come beside it.
        size: (height, width) of the images in pixels; None takes the model's.
        dynamic: what may vary: none (one image of one size), batch, size or both. A segmentation model's varying
            sides are multiples of 32 pixels.
        precision: fp32, fp16, or int8 (onnx and openvino).
        include_preprocessing: the file takes (B, H, W, channels) uint8, 0–255, and normalizes; else (B, channels, H,
            W) float32, normalized.
        include_resize: the file takes photos (B, H, W, channels) uint8 of any size, and resizes, crops and normalizes;
            of models of classification. Else images are resized and cropped outside.
        include_softmax: the file gives probabilities.
        include_tokens: the file gives the logits of every patch token, too.
        images: files, folders and patterns to compare on; None takes the photos of the package.
        calibration: the same, of the images that int8 is fitted to; the comparison is on others among them, where
            ``images`` is None.
        threads: of the runtime in the comparison.
        on_step: told what is done next.

    Raises:
        ValueError: there is no such model or format, or they do not go together. RuntimeError: a compiler failed.
    """
    asked = ExportOptions(
        to=to,
        size=size,
        dynamic=dynamic,
        precision=precision,
        include_preprocessing=include_preprocessing or include_resize,
        include_resize=include_resize,
        include_softmax=include_softmax,
        include_tokens=include_tokens,
        threads=threads,
    )
    output = Path(output)
    asked.check_output(output)
    check_writable_file(output)
    asked.check_installed()
    if (precision == "int8") != (calibration is not None):
        raise ValueError(
            "int8 is fitted to images: name some with calibration (--calibration FOLDER)"
            if precision == "int8"
            else f"calibration images are for int8, not for {precision}"
        )
    model, info = _load(source, asked)
    preprocessing = info.preprocessing
    fitted = real_images(calibration, preprocessing, most=CALIBRATED) if calibration is not None else None
    if images is None and fitted is not None:
        fitted, shown = _parted(fitted)
    else:
        shown = real_images(images, preprocessing)
    with created_folder(output.parent):
        on_step("tracing and writing")
        _write(model, asked, info, fitted, output, on_step)
    on_step("comparing with PyTorch")
    runtime = open_runtime(output, threads=threads)
    if include_resize:
        report = verify_photos(model, runtime, info, real_photos(images, preprocessing))
    else:
        pixels = [shown, *([_other_size(shown, _multiple(model))] if asked.sizes else [])]
        report = verify(model, runtime, info, pixels)
    report_path = output.with_name(f"{output.name}.report.json")
    with atomic_write(report_path) as temporary:
        temporary.write_text(json.dumps(report.to_dict() | {"file": asdict(info)}, indent=2) + "\n")
    return Export(output, info, report, report_path)


def _load(source: str | Path, asked: ExportOptions) -> tuple[VOLO | SegmentationModel, ExportInfo]:
    """The model in evaluation mode, and the description of what becomes of it."""
    task = task_of(source)
    trained = load_segmenter(source) if task == SEGMENTATION else load_model(source)
    if not trained.model.num_classes:
        raise ValueError(f"the model in {source} has no heads: there is nothing for an exported file to say")
    if task == SEGMENTATION and asked.include_tokens:
        raise ValueError("a segmentation model has no logits of tokens, it has those of every pixel")
    if task == SEGMENTATION and asked.include_resize:
        raise ValueError("a segmentation model answers for the pixels it is given: leave out --include-resize")
    for weight in trained.model.state_dict().values():
        check_finite(weight, trained.model, source)
    architecture = _architecture(trained.model)
    preprocessing = preprocessing_of(trained.preprocessing, architecture.in_chans, source)
    if asked.size is not None:
        preprocessing = replace(preprocessing, size=asked.size)
    smallest = 2 * architecture.patch_size
    if min(preprocessing.size) < smallest:
        height, width = preprocessing.size
        raise ValueError(f"size must be at least {smallest}x{smallest} pixels for this model, not {height}x{width}")
    return trained.model, ExportInfo(
        volo_version=__version__,
        source=str(source),
        task=task,
        class_names=trained.class_names,
        preprocessing=preprocessing,
        dynamic=asked.dynamic,
        precision=asked.precision,
        include_preprocessing=asked.include_preprocessing,
        include_resize=asked.include_resize,
        include_softmax=asked.include_softmax,
        include_tokens=asked.include_tokens,
        **_masks(trained),
    )


def _masks(trained: TrainedModel | TrainedSegmenter) -> dict[str, Any]:
    """What is said of a segmentation model alone."""
    if not isinstance(trained, TrainedSegmenter):
        return {}
    return {name: getattr(trained, name) for name in ("class_colors", "ignore_index", "short_side")}


def _architecture(model: VOLO | SegmentationModel) -> VOLOConfig:
    return model.config if isinstance(model, VOLO) else model.config.backbone


def _multiple(model: VOLO | SegmentationModel) -> int:
    """Of how many pixels the sides of images must be multiples, where they may vary."""
    return 1 if isinstance(model, VOLO) else STRIDES[-1]


def trace(model: VOLO | SegmentationModel, asked: ExportOptions, info: ExportInfo) -> torch.export.ExportedProgram:
    """The program that every format is written from."""
    preprocessing = info.preprocessing
    graph = Graph(
        model,
        None if asked.sizes else preprocessing.size,
        preprocessing=preprocessing if asked.include_preprocessing else None,
        resize=asked.include_resize,
        softmax=asked.include_softmax,
        tokens=asked.include_tokens,
        half=asked.precision == "fp16" and asked.to != "openvino",  # OpenVINO keeps the weights in half by itself
    )
    height, width = preprocessing.size
    multiple = _multiple(model)
    if asked.sizes:  # two different sides: the tracer takes equal ones to be equal always
        step = 2 * _architecture(model).patch_size if multiple == 1 else multiple
        height, width = -(-height // step) * step + step, -(-height // step) * step + 3 * step
    if asked.include_resize:
        height, width = height + 16, height + 48
    images = example(graph, preprocessing.channels, (height, width), batch=2 if asked.batches else 1)
    return capture(graph, images, batches=asked.batches, sizes=asked.sizes or asked.include_resize, multiple=multiple)


def _write(
    model: VOLO | SegmentationModel,
    asked: ExportOptions,
    info: ExportInfo,
    fitted: Tensor | None,
    output: Path,
    on_step: Callable[[str], None],
) -> None:
    program, description = trace(model, asked, info), info.to_json()
    if asked.to in ("torch-export", "aotinductor"):
        from volo.export.torch_export import write_aotinductor, write_torch_export

        write = write_torch_export if asked.to == "torch-export" else write_aotinductor
        with atomic_write(output) as temporary:
            write(program, temporary, description)
        return
    from volo.export.onnx import write_onnx

    # Beside the output, for what is finished to be renamed.
    with TemporaryDirectory(prefix=".export.", dir=output.parent) as folder:
        plain, done = Path(folder, "plain.onnx"), Path(folder, output.name)
        write_onnx(program, plain, description)
        if asked.precision == "int8" and fitted is not None:
            from volo.export.quantize import quantize_onnx, quantize_openvino

            write_int8 = quantize_onnx if asked.to == "onnx" else quantize_openvino
            write_int8(plain, done, info, fitted, on_step)
        elif asked.to == "onnx":
            plain.rename(done)
        else:
            from volo.export.openvino import read_as_openvino, write_openvino

            write_openvino(read_as_openvino(plain), done, description, half=asked.precision == "fp16")
        if asked.to == "openvino":
            done.with_suffix(".bin").replace(output.with_suffix(".bin"))
        done.replace(output)


def _parted(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Images to fit to, and others, at most half of them, to compare on."""
    if len(pixels) < 2:
        raise ValueError("one calibration image is too few: int8 is fitted to some images and compared on others")
    compared = min(len(pixels) // 2, 100)
    return pixels[compared:], pixels[:compared]


def _other_size(pixels: Tensor, multiple: int) -> Tensor:
    """A few of the images at another size, a rectangle."""
    height, width = pixels.shape[2:]
    sides = [-(-side // multiple) * multiple for side in (height * 5 // 4, height + width // 2)]
    resized = F.interpolate(pixels[:4].float(), sides, mode="bilinear")
    return resized.round().clamp(0, 255).byte()
