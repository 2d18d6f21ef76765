"""Every kind of file that volo reads and that may come from a stranger: a valid one, and how it is read."""

import csv
import faulthandler
import io
import json
import os
import resource
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import onnx
import openvino
import torch
from mutations import (
    damaged_bytes,
    damaged_csv,
    damaged_header,
    damaged_json,
    damaged_png,
    damaged_yaml,
    damaged_zip,
)
from peers import write_keras
from PIL import Image
from safetensors.torch import save_file

from volo import Predictor, Segmenter, create_model
from volo.data import (
    FileImages,
    ImageError,
    MaskClasses,
    MaskError,
    open_data,
    open_token_labels,
    read_classes,
    read_image,
    read_mask,
)
from volo.data.token_labels.author_files import read_label_file
from volo.data.token_labels.match import check_store
from volo.data.token_labels.store import TokenLabelStore
from volo.models import load_model
from volo.models.weights.read import read_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden" / "cfc38e8"
#: Seconds after which a file counts as one that never ends; valid ones take milliseconds.
SECONDS = 30
#: Memory that reading may take beyond what the process has at the beginning, in bytes.
MEMORY = 2 << 30
#: Errors that the loaders document; those of images and masks are among them.
DOCUMENTED = (ValueError, OSError)
PICTURE = Image.new("RGB", (40, 36), (200, 30, 30))
COLORS = ((128, 64, 128), (70, 130, 180), (107, 142, 35))
CLASSES = MaskClasses.named(("road", "sky", "tree"), COLORS)


@dataclass(frozen=True)
class Door:
    """A kind of file.

    Attributes:
        file: path in the folder that :func:`make_files` makes.
        damage: from a ``Random`` and the content of a valid file to that of a damaged one.
        read: reads the file as the package does, and uses all that is in it.
    """

    file: str
    damage: Callable[[Random, bytes], bytes]
    read: Callable[[Path], object]


def make_files(folder):
    """Make a valid file for every door: those of an earlier version, and what it did not write; always the same."""
    shutil.copytree(GOLDEN, folder, ignore=shutil.ignore_patterns("make.py"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _make_pictures(folder)
        _make_weights(folder)
        _make_tables(folder)
        _make_exported(folder)


def _make_pictures(folder):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (37, 41, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned
    picture.save(folder / "x.jpg", progressive=True, exif=exif)
    picture.save(folder / "x.webp", lossless=True)
    picture.save(folder / "x.tif", compression="tiff_lzw")
    picture.convert("P").save(folder / "x.gif", save_all=True, append_images=[picture.convert("P")])
    for ending in ("png", "bmp"):
        picture.save(folder / f"x.{ending}")
    mask = Image.fromarray(rng.integers(0, 3, (24, 20), dtype=np.uint8))
    mask.save(folder / "mask.png")
    Image.fromarray(np.asarray(mask).astype(np.uint16)).save(folder / "deep.tif")
    mask.putpalette([channel for color in COLORS for channel in color])
    mask.save(folder / "palette.png")


def _make_weights(folder):
    tiny = create_model("volo_micro_32", num_classes=3, dims=(8, 16), heads=(1, 2), stem_width=8)
    write_keras(folder / "keras.h5", tiny.state_dict(), heads=(1, 2), whole=True)
    content = {"state_dict": tiny.state_dict(), "epoch": 3, "args": {"lr": 0.1}}
    torch.save(content, folder / "new.pth")
    torch.save(content, folder / "old.pth", _use_new_zipfile_serialization=False)
    torch.save(torch.rand(2, 5, 4, 4).half(), folder / "map.pt")
    (folder / "timm").mkdir()
    save_file(create_model("volo_micro_32", num_classes=3).state_dict(), folder / "timm/model.safetensors")
    settings = {"input_size": [3, 32, 32], "crop_pct": 1.0, "interpolation": "bicubic", "label_names": ["a", "b", "c"]}
    settings |= {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    timm = {"architecture": "volo_d1_224", "num_classes": 3, "pretrained_cfg": settings, "model_type": "timm_wrapper"}
    (folder / "timm/config.json").write_text(json.dumps({**timm, "id2label": {"0": "a", "1": "b", "2": "c"}}))


def _make_tables(folder):
    files = [path.relative_to(folder) for path in sorted((folder / "images").rglob("*.png"))]
    images = [(path, path.parent.name, path.parent.parent.name) for path in files]
    _write_rows(folder / "table.csv", ("image", "label", "split"), images)
    for run, answer in (("run", "right"), ("resumed", "wrong")):
        answers = [(path, path.parent.name, "red", ("right", answer)[number % 2]) for number, path in enumerate(files)]
        _write_rows(folder / run / "predictions.csv", ("path", "true", "predicted", "answer"), answers)
    (folder / "classes.txt").write_text("road 128 64 128\nsky #4682b4\n7: tree 107 142 35\nignore\n")
    (folder / "real.json").write_text(json.dumps([[number % 5] for number in range(4)]))
    keys = {name: torch.arange(4) for name in ("train", "val", "contents", "labels")}
    save_file(keys, folder / "run/images.safetensors", {"class_names": '["blue", "green", "red"]'})
    (folder / "recipe.yaml").write_text(
        "epochs: 3\nbatch_size: 8\nmodel: {name: volo_micro_32, dims: [16, 32], drop_path_rate: 0.1}\n"
        "augment: {erasing: 0.2}\noptim: {lr: 0.001, betas: [0.9, 0.99]}\nloggers: [tensorboard]\nseed: 1\n"
    )


def _write_rows(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _make_exported(folder):
    """Put networks of one or two operators into exported files: opening those of a VOLO takes a tenth of a second."""
    pooled = [("GlobalAveragePool", "images", "maps"), ("Flatten", "maps", "logits")]
    described = _make_onnx(folder / "run.onnx", pooled, ["batch", 3], {})
    colors = {"class_names": CLASSES.names, "class_colours": COLORS}
    _make_onnx(folder / "segmenter.onnx", [("Relu", "images", "logits")], ["batch", 3, 32, 32], colors)
    converted = openvino.convert_model(folder / "run.onnx")
    converted.set_rt_info(described, "volo")
    openvino.save_model(converted, folder / "run.xml", compress_to_fp16=False)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network, (torch.zeros(2, 3, 32, 32),), dynamic_shapes=shapes)
    torch.export.save(program, folder / "run.pt2", extra_files={"volo": described})


def _make_onnx(path, operators, output, changes):
    """Replace the network in an ONNX file. Returns its description, with ``changes``."""
    (described,) = (entry.value for entry in onnx.load(path).metadata_props if entry.key == "volo")
    described = json.dumps({**json.loads(described), "dynamic": "batch", **changes})
    given = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["batch", 3, 32, 32])
    result = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, output)
    nodes = [onnx.helper.make_node(name, [source], [target]) for name, source, target in operators]
    graph = onnx.helper.make_graph(nodes, "model", [given], [result])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.helper.set_model_props(model, {"volo": described})
    onnx.save(model, path)
    return described


def read_picture(path):
    read_image(path)
    read_image(path, 1, shrink=lambda size: 4)
    read_image(path, 4)


def read_values(path):
    read_mask(path, CLASSES)


def read_palette(path):
    read_mask(path, CLASSES, palette=True)


def classify(path):
    """Classify a picture with a model: what loads must also run."""
    Predictor(path, device="cpu")(PICTURE)


def classify_beside(path):
    classify(path.parent)


def segment(path):
    Segmenter(path, device="cpu")(PICTURE)


def segment_beside(path):
    segment(path.parent)


def inspect_and_classify(path):
    from volo.cli.management.weights import run

    with redirect_stdout(io.StringIO()):
        run(["inspect", str(path)])
    classify(path.parent)


def read_store(path):
    images = open_data(str(path.parent / "images"))[0]
    data = str(path.parent / "images")
    store = TokenLabelStore(path)
    check_store(store, images, data)
    labels = open_token_labels(str(path), images, data)
    for index in range(len(images.labels)):
        labels.read(index)


def read_classes_file(path):
    classes = read_classes(path)
    _ = classes.values, classes.colors, classes.lookup, classes.codes


def read_config(path):
    from volo.training.config import TrainConfig

    config = TrainConfig.load(path)
    config.located(path.parent).differences(json.loads(path.read_text()))
    config.to_yaml()


def read_recipe(path):
    from volo.cli.training.train import run

    with redirect_stdout(io.StringIO()):
        run(["images", "--recipe", str(path), "--print-config"])


def compare(path):
    from volo.training.reports.compare import compare_runs, table_rows

    comparison = compare_runs([path.parents[1] / "run", path.parents[1] / "resumed"])
    table_rows(comparison)
    comparison.to_json()


def read_real(path):
    from volo.evaluation.imagenet import RealLabels

    names = [Path(f"ILSVRC2012_val_{number:08d}.JPEG") for number in (1, 2, 4)]
    RealLabels(path, FileImages(names, [0, 1, 2], tuple(map(str, range(1000)))))


def read_resumed(path):
    from volo.training.callbacks.checkpoints import read_run_checkpoint

    read_run_checkpoint(path)


def read_run_images(path):
    from volo.training.run_images import RunImages

    images = RunImages.load(path.parent)
    images.difference(images)


def damaged_metadata(rng, content):
    """Damage the description in an ONNX file."""
    model = onnx.load_from_string(content)
    for entry in model.metadata_props:
        if entry.key == "volo":
            entry.value = damaged_json(rng, entry.value.encode()).decode("utf-8", "replace")
    return model.SerializeToString()


def damaged_xml(rng, content):
    """Damage an OpenVINO file as bytes, or the description in it."""
    if rng.random() < 0.3:
        return damaged_bytes(rng, content)
    before, value, after = content.partition(b'<volo value="')
    description, quote, end = after.partition(b'"')
    text = description.replace(b"&quot;", b'"').replace(b"&lt;", b"<").replace(b"&gt;", b">").replace(b"&amp;", b"&")
    changed = damaged_json(rng, text)
    changed = changed.replace(b"&", b"&amp;").replace(b"<", b"&lt;").replace(b'"', b"&quot;")
    return before + value + changed + quote + end


tensors = partial(damaged_header, place=0, width=8)
archive = partial(damaged_zip, names=("data.pkl",))
#: Name → door.
DOORS = {
    **{
        f"image-{ending}": Door(f"x.{ending}", damaged_png if ending == "png" else damaged_bytes, read_picture)
        for ending in ("jpg", "png", "webp", "tif", "gif", "bmp")
    },
    "mask-values": Door("mask.png", damaged_png, read_values),
    "mask-palette": Door("palette.png", damaged_png, read_palette),
    "mask-deep": Door("deep.tif", damaged_bytes, read_values),
    "safetensors": Door("run/model.safetensors", tensors, inspect_and_classify),
    "pth": Door("new.pth", archive, read_checkpoint),
    "pth-old": Door("old.pth", damaged_bytes, read_checkpoint),
    "ckpt": Door("stopped/checkpoints/last.ckpt", archive, read_resumed),
    "h5": Door("keras.h5", damaged_bytes, read_checkpoint),
    "model-folder": Door("run/config.json", damaged_json, classify_beside),
    "model-folder-segmentation": Door("segmenter/config.json", damaged_json, segment_beside),
    "model-folder-timm": Door("timm/config.json", damaged_json, lambda path: load_model(path.parent)),
    "classes-file": Door("classes.txt", damaged_bytes, read_classes_file),
    "table": Door("table.csv", damaged_csv, lambda path: open_data(str(path))),
    "token-labels": Door("labels.volo", partial(damaged_header, place=12, width=4, align=4096), read_store),
    "token-labels-file": Door("map.pt", archive, lambda path: read_label_file(path, 5)),
    "onnx": Door("run.onnx", damaged_bytes, classify),
    "onnx-description": Door("run.onnx", damaged_metadata, classify),
    "onnx-description-segmentation": Door("segmenter.onnx", damaged_metadata, segment),
    "openvino": Door("run.xml", damaged_xml, classify),
    "pt2": Door(
        "run.pt2", partial(damaged_zip, names=(".json", "data.pkl", "sample_inputs.pt", "extra/volo")), classify
    ),
    "train-json": Door("run/train.json", damaged_json, read_config),
    "run-images": Door("run/images.safetensors", tensors, read_run_images),
    "recipe": Door("recipe.yaml", damaged_yaml, read_recipe),
    "compare-train-json": Door("run/train.json", damaged_json, compare),
    "compare-results": Door("run/results.json", damaged_json, compare),
    "compare-metrics": Door("run/metrics.csv", damaged_csv, compare),
    "compare-predictions": Door("run/predictions.csv", damaged_csv, compare),
    "compare-config": Door("run/config.json", damaged_json, compare),
    "real-labels": Door("real.json", damaged_json, read_real),
}


class Endless(BaseException):
    """Reading takes longer than :data:`SECONDS`. No ``except Exception`` may hide it."""


def damaged(name, seed, number, content):
    """The content of a damaged file: door, seed and number always give the same."""
    return DOORS[name].damage(Random(f"{name} {seed} {number}"), content)


def read_damaged(name, seed, numbers, folder):
    """Read damaged files, and write what went wrong into ``report.json``; for a process of its own.

    Args:
        name: of the door.
        seed: of the damage.
        numbers: of the files.
        folder: of :func:`make_files`.
    """
    torch.set_num_threads(1)
    door, progress = DOORS[name], folder / "progress.txt"
    progress.write_text("valid")
    os.dup2(os.open(folder / "errors.txt", os.O_WRONLY | os.O_CREAT), 2)
    faulthandler.enable()
    file = folder / door.file
    content = file.read_bytes()
    door.read(file)  # a valid file is read
    if sys.platform == "linux":
        pages, *_ = Path("/proc/self/statm").read_text().split()
        most = int(pages) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.signal(signal.SIGALRM, _end)
    ends, wrong = Counter(), []
    for number in numbers:
        progress.write_text(str(number))
        file.unlink()  # mapped by what was read before
        file.write_bytes(damaged(name, seed, number, content))
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            door.read(file)
            ends["read"] += 1
        except DOCUMENTED as error:
            ends[type(error).__name__] += 1
            ours = type(error) in (ValueError, ImageError, MaskError) or isinstance(error, OSError)
            if not ours or "weights_only" in str(error):
                wrong.append((number, f"the message is {type(error).__name__}: {str(error)[:500]}"))
        except BaseException as error:
            ends[type(error).__name__] += 1
            places = [f"{Path(at.filename).name}:{at.lineno}" for at in traceback.extract_tb(error.__traceback__)[-4:]]
            wrong.append((number, f"{type(error).__name__}: {str(error)[:200]} ({' → '.join(places)})"))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    (folder / "report.json").write_text(json.dumps({"ends": ends, "wrong": wrong}))


def _end(number, frame):
    raise Endless
