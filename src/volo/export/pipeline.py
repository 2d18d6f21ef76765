"""Export of a trained model to a file for another runtime, and the comparison of that file with PyTorch."""

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
from volo.files import TEMPORARY_PREFIX, atomic_write, created_folder, named_errors
from volo.inference.image_inputs import preprocessing_of
from volo.messages import printable
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
from volo.models.weights.read import not_finite
from volo.outputs import check_outputs
from volo.runtime.export_info import ExportInfo
from volo.runtime.runtimes import open_runtime
from volo.version import __version__

#: The most images for the calibration of int8.
CALIBRATED = 300
#: precision → dtype of the graph; the others are float32. int8 quantizes a float32 graph, and OpenVINO converts weights
#: to float16 itself.
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Export:
    """An exported file.

    Attributes:
        path: the file.
        info: its description.
        report: the result of the comparison with PyTorch.
        report_path: the file that holds the report as JSON.
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
    overwrite: bool = False,
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

    A file that fails the comparison is kept; ``report.problems`` has the reasons.

    Args:
        source: a trained model: a source of :func:`volo.load_model` or :func:`volo.load_segmenter`.
        to: onnx, openvino, torch-export or aotinductor.
        output: the file to write; OpenVINO's weights are written next to it.
        overwrite: replace files of an earlier export. Anything that is no export of this format is never replaced.
        size: (height, width) of the images in pixels; None takes the model's size.
        dynamic: dimensions that may vary: none (one image of one size), batch, size or both. Varying sides of a
            segmentation model must be multiples of 32 pixels.
        precision: fp32; fp16; bf16 (torch-export and aotinductor); int8 (onnx and openvino).
        include_preprocessing: True: the file takes (B, H, W, channels) uint8, 0–255, and normalizes. False: it takes
            (B, channels, H, W) float32, normalized.
        include_resize: True: the file takes photos (B, H, W, channels) uint8 of any size, and resizes, crops and
            normalizes them (classification only). False: images must be resized and cropped before.
        include_softmax: the file returns probabilities instead of logits.
        include_tokens: the file also returns the logits of every patch token.
        images: files, folders and patterns for the comparison; None takes the photos in the package, or for int8 some
            of the calibration images.
        calibration: files, folders and patterns for the calibration of int8. If ``images`` is None, some of them are
            used for the comparison only.
        threads: number of CPU threads of the runtime in the comparison.
        on_step: called with a line before each step.

    Raises:
        ValueError: The model or an option is not valid, or the options do not go together.
        RuntimeError: A compiler or checker failed.
        ModuleNotFoundError: A package that the format needs is not installed.
    """
    options = ExportOptions(
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
    options.check_output(output)
    report_path = output.with_name(f"{output.name}.report.json")
    _check_outputs(output, report_path, overwrite=overwrite, inputs=[source, *(images or ()), *(calibration or ())])
    options.check_installed()
    if (precision == "int8") != (calibration is not None):
        raise ValueError(
            "int8 is calibrated on images: give some with calibration (--calibration FOLDER)"
            if precision == "int8"
            else f"calibration images are for int8 only, not for {precision}"
        )
    model, info = _load(source, options)
    preprocessing = info.preprocessing
    calibrated = real_images(calibration, preprocessing, most=CALIBRATED) if calibration is not None else None
    if images is None and calibrated is not None:
        calibrated, compared = _split_calibration(calibrated)
    else:
        compared = real_images(images, preprocessing)
    with created_folder(output.parent):
        on_step("tracing and writing")
        _write(model, options, info, calibrated, output, on_step)
    on_step("comparing with PyTorch")
    runtime = open_runtime(output, threads=threads, trust=True)
    if include_resize:
        report = verify_photos(model, runtime, info, real_photos(images, preprocessing))
    else:
        pixels = [compared, *([_other_size(compared, _multiple(model))] if options.sizes else [])]
        report = verify(model, runtime, info, pixels)
    with atomic_write(report_path) as temporary:
        temporary.write_text(json.dumps(report.to_dict() | {"file": asdict(info)}, indent=2) + "\n")
    return Export(output, info, report, report_path)


def _load(source: str | Path, options: ExportOptions) -> tuple[VOLO | SegmentationModel, ExportInfo]:
    """Return the model in evaluation mode, and the description of the file to write."""
    task = task_of(source)
    trained = load_segmenter(source) if task == SEGMENTATION else load_model(source)
    if not trained.model.num_classes:
        raise ValueError(f"the model in {source} has no heads, so an exported file would have no outputs")
    if task == SEGMENTATION and options.include_tokens:
        raise ValueError("a segmentation model has logits of every pixel, not of tokens: omit --include-tokens")
    if task == SEGMENTATION and options.include_resize:
        raise ValueError("photos cannot be resized inside the file of a segmentation model: omit --include-resize")
    if options.precision == "fp16":
        weights = trained.model.state_dict().items()
        if problem := not_finite({name: value.half() for name, value in weights if value.is_floating_point()}):
            raise ValueError(f"in fp16 the model in {source} has {problem}; export it as fp32")
    architecture = _architecture(trained.model)
    preprocessing = preprocessing_of(trained.preprocessing, architecture.in_chans, source)
    if options.size is not None:
        preprocessing = replace(preprocessing, size=options.size)
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
        dynamic=options.dynamic,
        precision=options.precision,
        include_preprocessing=options.include_preprocessing,
        include_resize=options.include_resize,
        include_softmax=options.include_softmax,
        include_tokens=options.include_tokens,
        **_segmentation_fields(trained),
    )


def _segmentation_fields(trained: TrainedModel | TrainedSegmenter) -> dict[str, Any]:
    """Return the fields of the description that only segmentation models have."""
    if not isinstance(trained, TrainedSegmenter):
        return {}
    return {name: getattr(trained, name) for name in ("class_colors", "ignore_index", "short_side")}


def _architecture(model: VOLO | SegmentationModel) -> VOLOConfig:
    return model.config if isinstance(model, VOLO) else model.config.backbone


def _multiple(model: VOLO | SegmentationModel) -> int:
    """Return the number of pixels that varying sides of images must be multiples of."""
    return 1 if isinstance(model, VOLO) else STRIDES[-1]


def trace(model: VOLO | SegmentationModel, options: ExportOptions, info: ExportInfo) -> torch.export.ExportedProgram:
    """Trace the program that every format is written from.

    Args:
        model: the model in evaluation mode.
        options: the options of the export.
        info: the description of the file.
    """
    preprocessing = info.preprocessing
    graph = Graph(
        model,
        None if options.sizes else preprocessing.size,
        preprocessing=preprocessing if options.include_preprocessing else None,
        resize=options.include_resize,
        softmax=options.include_softmax,
        tokens=options.include_tokens,
        dtype=_DTYPES.get(options.precision, torch.float32) if options.to != "openvino" else torch.float32,
    )
    height, width = preprocessing.size
    multiple = _multiple(model)
    if options.sizes:  # height and width must differ, or the tracer assumes that they are always equal
        step = 2 * _architecture(model).patch_size if multiple == 1 else multiple
        height, width = -(-height // step) * step + step, -(-height // step) * step + 3 * step
    if options.include_resize:
        height, width = height + 16, height + 48
    images = example(graph, preprocessing.channels, (height, width), batch=2 if options.batches else 1)
    sizes = options.sizes or options.include_resize
    return capture(graph, images, batches=options.batches, sizes=sizes, multiple=multiple)


def _write(
    model: VOLO | SegmentationModel,
    options: ExportOptions,
    info: ExportInfo,
    calibrated: Tensor | None,
    output: Path,
    on_step: Callable[[str], None],
) -> None:
    program, description = trace(model, options, info), info.to_json()
    if options.to in ("torch-export", "aotinductor"):
        from volo.export.torch_export import write_aotinductor, write_torch_export

        write = write_torch_export if options.to == "torch-export" else write_aotinductor
        with atomic_write(output) as temporary:
            write(program, temporary, description)
        return
    from volo.export.onnx import write_onnx

    # The temporary folder is next to the output, so that the finished file can be moved by renaming it.
    with named_errors(output), TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=output.parent) as folder:
        plain, done = Path(folder, "plain.onnx"), Path(folder, output.name)
        write_onnx(program, plain, description)
        if options.precision == "int8" and calibrated is not None:
            from volo.export.quantize import quantize_onnx, quantize_openvino

            write_int8 = quantize_onnx if options.to == "onnx" else quantize_openvino
            write_int8(plain, done, info, calibrated, on_step)
        elif options.to == "onnx":
            plain.rename(done)
        else:
            from volo.export.openvino import read_as_openvino, write_openvino

            write_openvino(read_as_openvino(plain), done, description, half=options.precision == "fp16")
        if options.to == "openvino":
            done.with_suffix(".bin").replace(output.with_suffix(".bin"))
        done.replace(output)


def _check_outputs(output: Path, report: Path, *, overwrite: bool, inputs: Sequence[str | Path]) -> None:
    """Check that none of the files of an export destroys another one.

    Raises:
        ValueError: See :func:`volo.outputs.check_outputs`; or ``*.bin`` beside the output is not OpenVINO's.
    """
    files = [output, report]
    if output.suffix == ".xml":
        weights = output.with_suffix(".bin")
        files.append(weights)
        if weights.exists() and not output.exists():
            # The name is usual for weights of PyTorch, too. OpenVINO's stand beside the graph that they belong to.
            raise ValueError(
                f"{printable(weights)} exists and does not belong to an OpenVINO model, whose weights would get this "
                "name; name another --output"
            )
    check_outputs(files, overwrite=overwrite, inputs=inputs)


def _split_calibration(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Split images into those for the calibration and those, at most half of them, for the comparison."""
    if len(pixels) < 2:
        raise ValueError("one calibration image is too few: the comparison needs other images than the calibration")
    compared = min(len(pixels) // 2, 100)
    return pixels[compared:], pixels[:compared]


def _other_size(pixels: Tensor, multiple: int) -> Tensor:
    """Return up to four of the images at another, rectangular size."""
    height, width = pixels.shape[2:]
    sides = [-(-side // multiple) * multiple for side in (height * 5 // 4, height + width // 2)]
    resized = F.interpolate(pixels[:4].float(), sides, mode="bilinear")
    return resized.round().clamp(0, 255).byte()
