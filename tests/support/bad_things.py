"""What can be bad about input, output and machine: each function makes one such thing in the current folder.

What shall happen to the machine does so when the function that is returned is called, just before the command is, and
is undone when the ``ExitStack`` closes.
"""

import json
import os
import resource
import shutil
import signal
import struct
import sys
import zipfile
import zlib
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest
import torch
from PIL import Image, features
from safetensors.torch import load_file, save_file
from scenes import NAMES, make_scenes
from segments import save_untrained

from volo.cli import main
from volo.models import create_model, save_model

CLASSES = ("cat", "dog")
TRAIN = (
    "--model.name=volo_micro_32 --model.dims=[16,32] --model.depths=[1,1,1,1] --model.heads=[2,2] --accelerator=cpu "
    "--batch_size=2 --data.workers=0 --optim.warmup_epochs=0 --epochs=1"
)
SEGMENT = (
    f"train scenes --output=run --task=segmentation {TRAIN} --segmentation.decoder_channels=16 "
    "--segmentation.crop=[32,48]"
)
ENDINGS = ["jpg", "png", "webp", "tif", "gif", "bmp", *(["avif"] if features.check("avif") else [])]

#: The id of a user who owns nothing, and may read only what everybody may.
NOBODY = 65534


def make_world(root):
    """A folder with what is good: images, a model, and what is named in many cases."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 3), ("val", 2)):
        for channel, name in enumerate(CLASSES):
            (root / "good" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (24, 20, 3), dtype=np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(root / "good" / part / name / f"{number}.png")
    model = create_model("volo_micro_32", num_classes=2, dims=(16, 32), depths=(1, 1, 1, 1), heads=(2, 2))
    preprocessing = {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
    (root / "model").mkdir()
    save_model(root / "model", model.config, model.state_dict(), class_names=CLASSES, preprocessing=preprocessing)
    (root / "empty").mkdir()
    (root / "file").write_text("text")


# Images


def picture(ending, path="picture"):
    """The bytes of a picture of some kind."""
    whole = Path(f"{path}.{ending}")
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole)
    content = whole.read_bytes()
    whole.unlink()
    return content


def beside(content, name):
    """One more image, a bad one, among those of each part."""

    def make(stack):
        for part in ("train", "val"):
            Path("good", part, "cat", name).write_bytes(content() if callable(content) else content)

    return make


def truncated(ending):
    return beside(lambda: picture(ending)[: len(picture(ending)) // 2], f"bad.{ending}")


def corrupt(ending):
    """Its first bytes are right, and all others are not."""
    return beside(lambda: picture(ending)[:12] + bytes(range(256)) * 8, f"bad.{ending}")


def of_pixels(width, height):
    """A PNG that claims to be so large by its header, and holds next to nothing."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def one_pixel(stack):
    for part in ("train", "val"):
        Image.new("RGB", (1, 1)).save(f"good/{part}/cat/one.png")


def zip_archive():
    with zipfile.ZipFile("archive", "w") as archive:
        archive.writestr("a", "b")
    content = Path("archive").read_bytes()
    Path("archive").unlink()
    return content


def nothing_readable(stack):
    for path in Path("good").rglob("*.png"):
        path.write_text("no picture")


def vanishing(when):
    """One image of each part goes after it was listed and before it is read: when this function is called."""

    def make(stack):
        elsewhere = Path.cwd().parent / "elsewhere.png"
        shutil.copy("good/val/cat/0.png", elsewhere)
        for part in ("train", "val"):
            Path("good", part, "cat/gone.png").symlink_to(elsewhere)
        return lambda: at(stack, when, elsewhere.unlink)

    return make


# Names


def class_named(name):
    def make(stack):
        for part in (b"train", b"val"):
            shutil.copytree(b"good/" + part + b"/cat", b"good/" + part + b"/" + name)

    return make


def undecodable_file(stack):
    for part in (b"train", b"val"):
        Path(os.fsdecode(b"good/" + part + b"/cat/\xff\n.png")).write_text("no picture")


def odd_but_good_names(stack):
    for name in (b"\xff\xfe", b"\n\x1b[31m", "日本語 🦊".encode(), b"[bold]x[red]", b"x" * 250):
        shutil.copy(b"good/val/cat/0.png", b"good/val/cat/" + name + b".png")


# Tables and folders


def table(text, name="photos.csv", encoding="utf-8"):
    """A table of images; ``{rows}`` stands for one that names each training image and its class."""

    def make(stack):
        rows = "".join(f"{path},{path.parent.name}\n" for path in sorted(Path("good/train").rglob("*.png")))
        Path(name).write_bytes(text.replace("{rows}", rows).encode(encoding))

    return make


def scenes(damage=None, **options):
    """Images with masks in ``scenes``, and something wrong with them: ``damage`` gets the folder."""

    def make(stack):
        make_scenes(Path("scenes"), **options)
        if damage is not None:
            damage(Path("scenes"))

    return make


def masks_of(value, part="train"):
    """Every mask of a part holds this value alone, or is a picture of this color."""

    def damage(root):
        for path in (root / part / "masks").iterdir():
            Image.new("L" if isinstance(value, int) else "RGB", (72, 48), value).save(path)

    return scenes(damage)


def segmenter(names=NAMES, damage=None):
    """A segmentation model in ``segmenter``, beside the scenes."""
    return all_of(scenes(damage), lambda stack: save_untrained(Path("segmenter"), names=names) and None)


def text_file(name, text):
    def make(stack):
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return make


def without(*names):
    """Without these files or folders."""

    def make(stack):
        for name in names:
            shutil.rmtree(name) if Path(name).is_dir() else Path(name).unlink()

    return make


def copied(source, *destinations):
    def make(stack):
        for destination in destinations:
            shutil.copytree(source, destination, dirs_exist_ok=True)

    return make


def run_begun(**settings):
    """A run folder in which nothing is but a configuration, and the checkpoint is damaged."""

    def make(stack):
        from volo.training.config import TrainConfig

        Path("run/checkpoints").mkdir(parents=True)
        tiny = {"data": {"path": "good", "workers": 0}, "model": {"name": "volo_micro_32"}, "batch_size": 2}
        config = json.loads(TrainConfig.from_dict(tiny).to_json())
        Path("run/train.json").write_text(json.dumps({**config, **settings}))
        Path("run/checkpoints/last.ckpt").write_bytes(b"PK\x03\x04 half of it")

    return make


# Models


def described(**changes):
    """The model's description, changed; None leaves an entry out."""

    def make(stack):
        path = Path("model/config.json")
        description = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in description.items() if value is not None}))

    return make


def exported_elsewhere(stack):
    """An ONNX file by a later volo."""
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1])
    other = onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["images"], ["scores"])], "g", [value], [other])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.helper.set_model_props(model, {"volo": json.dumps({"format_version": 99, "volo_version": "9.0"})})
    Path("other.onnx").write_bytes(model.SerializeToString())


def not_installed(name):
    """As if the package were not there."""

    def make(stack):
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setitem(sys.modules, name, None)

    return make


def not_a_number(stack):
    path = Path("model/model.safetensors")
    weights = load_file(path)
    weights["norm.weight"][0] = torch.nan
    save_file(weights, path)


def half(path):
    def make(stack):
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[: len(content) // 2])

    return make


# The machine


def at(stack, name, act, count=0):
    """Do something just before a function is called for the ``count``-th time, counted from 0."""
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    place, _, attribute = name.rpartition(".")
    owner = resolve_name(place)
    original, calls = getattr(owner, attribute), iter(range(10**9))

    def wrapped(*arguments, **options):
        if next(calls) == count:
            act()
        return original(*arguments, **options)

    patch.setattr(owner, attribute, wrapped)


def ctrl_c(name, count=0):
    return lambda stack: lambda: at(stack, name, partial(signal.raise_signal, signal.SIGINT), count)


def all_of(*makers):
    def make(stack):
        starts = [start for start in (maker(stack) for maker in makers) if start]
        return lambda: [start() for start in starts]

    return make


def machine(prepare):
    """A maker of what happens to the machine alone."""
    return lambda stack: lambda: prepare(stack)


def locked(*names, mode=0o000):
    """These may not be read, or written into, by a user who is not root: from here on this process is none."""

    def prepare(stack):
        stack.callback(Path.cwd().chmod, 0o700)
        for path in (Path(), *Path().rglob("*")):
            path.chmod(0o777)
        for name in names:
            stack.callback(Path(name).chmod, 0o700)
            Path(name).chmod(mode)
        if os.getuid() == 0:
            os.setresuid(NOBODY, NOBODY, 0)  # root is kept in reserve
            stack.callback(os.setresuid, 0, 0, 0)

    return machine(prepare)


def full_after(size):
    """No file may grow beyond so many bytes: what a full disk does to it."""

    def prepare(stack):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_FSIZE, limits)

    return machine(prepare)


def stream(name, opened):
    """A standard stream is another one."""

    def prepare(stack):
        value = opened()
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(sys, name, value)
        stack.callback(lambda: _close(getattr(sys, name)))

    return machine(prepare)


def _close(value):
    try:
        if value is not None:
            value.close()
    except OSError as error:
        raise AssertionError(f"Python would complain of it when it ends: {error}") from None


def pipe_without_reader():
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def variables(**values):
    def prepare(stack):
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in values.items():
            patch.setenv(name, value)

    return machine(prepare)


def ascii_terminal(stack):
    """A terminal of English letters alone, 20 columns wide."""

    def start():
        before = sys.stdout.encoding, sys.stdout.errors
        sys.stdout.reconfigure(encoding="ascii", errors="strict")
        stack.callback(sys.stdout.reconfigure, encoding=before[0], errors=before[1])
        variables(COLUMNS="20")(stack)()

    return start


def interrupted_together():
    """``volo`` in a process of its own: all that it started is told to stop with it, as by Ctrl-C in a terminal.

    Arguments: the functions at whose call, by commas, the number of the call in its process, and the command.
    """
    places, count, *command = sys.argv[1:]
    with ExitStack() as stack:
        for place in places.split(","):
            at(stack, place, partial(os.killpg, 0, signal.SIGINT), int(count))
        sys.exit(main(command))
