"""Setups for ``tests/cli/bad_input``: each makes one bad thing in the current folder, or on the machine.

A table names a setup by its function's name, and gives its arguments. A setup that changes the machine or this process
returns a function: the test calls that function just before the command, and the ``ExitStack`` undoes its effect.
"""

import json
import os
import resource
import shlex
import shutil
import signal
import struct
import subprocess
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
#: Settings of the smallest run, as words of a command.
TINY = (
    "--model.name=volo_micro_32 --model.dims=[16,32] --model.depths=[1,1,1,1] --model.heads=[2,2] --accelerator=cpu "
    "--batch-size=2 --data.workers=0 --optim.warmup-epochs=0 --epochs=1"
)
#: The same for segmentation.
SEGMENT = f"--task=segmentation {TINY} --segmentation.decoder-channels=16 --segmentation.crop=[32,48]"
ENDINGS = ["jpg", "png", "webp", "tif", "gif", "bmp", *(["avif"] if features.check("avif") else [])]

#: The id of a user who owns nothing, and may read only what everybody may.
NOBODY = 65534

#: Name → setup.
SETUPS = {}


def setup(function):
    SETUPS[function.__name__] = function
    return function


def prepare(stack, setups):
    """Run setups in order. Returns the functions to call just before the command.

    Args:
        stack: undoes the changes of the machine when it closes.
        setups: name → the argument, a list of arguments, or a mapping of keyword arguments; None for none.
    """
    starts = []
    for name, given in setups.items():
        arguments = given if isinstance(given, list) else [] if given is None or isinstance(given, dict) else [given]
        start = SETUPS[name](stack, *arguments, **(given if isinstance(given, dict) else {}))
        starts += [start] if start else []
    return starts


def make_world(root):
    """A folder of good things: images, a model, and a few files and folders that many cases name."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        for channel, name in enumerate(CLASSES):
            (root / "good" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (24, 20, 3), dtype=np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(root / "good" / split / name / f"{number}.png")
    model = create_model("volo_micro_32", num_classes=2, dims=(16, 32), depths=(1, 1, 1, 1), heads=(2, 2))
    preprocessing = {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
    (root / "model").mkdir()
    save_model(root / "model", model.config, model.state_dict(), class_names=CLASSES, preprocessing=preprocessing)
    (root / "empty").mkdir()
    (root / "file").write_text("text")


# Images. Each of these setups adds a bad image to the class "cat" of both splits.


def add_image(name, content):
    for split in ("train", "val"):
        Path("good", split, "cat", name).write_bytes(content)


def encoded(ending):
    """The bytes of an image file of this type."""
    path = Path(f"picture.{ending}")
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.unlink()
    return content


@setup
def truncated(stack, ending):
    content = encoded(ending)
    add_image(f"bad.{ending}", content[: len(content) // 2])


@setup
def corrupt(stack, ending):
    """Its first bytes are right, all others are wrong."""
    add_image(f"bad.{ending}", encoded(ending)[:12] + bytes(range(256)) * 8)


@setup
def huge_png(stack, width, height):
    """Its header claims this size; it holds hardly any pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    add_image("bad.png", content)


@setup
def long_png(stack, width, height):
    """An image of few bytes that is much longer than high."""
    Image.new("RGB", (width, height)).save("good/val/cat/bad.png")


@setup
def long_pair(stack, width, height):
    """An image of a segmentation data set, and its mask, that are much longer than high."""
    Image.new("RGB", (width, height)).save("scenes/val/images/bad.png")
    Image.new("L", (width, height)).save("scenes/val/masks/bad.png")


@setup
def claims_more(stack, width, height):
    """A JPEG whose header claims this size, and whose data end at once."""
    content = bytearray(encoded("jpg"))
    struct.pack_into(">HH", content, content.index(b"\xff\xc0") + 5, height, width)
    add_image("bad.jpg", bytes(content))


@setup
def flawed(stack, split="val"):
    """Two images of 12 bits in 16, a JPEG without its end marker, and a PNG with a large color profile."""
    folder = Path("good", split, "cat")
    for number in (1, 2):
        deep = np.linspace(0, 4000 + number, 24 * 20).astype(np.uint16).reshape(24, 20)
        Image.fromarray(deep).save(folder / f"deep{number}.png")
    (folder / "ended.jpg").write_bytes(encoded("jpg")[:-2])
    Image.new("RGB", (20, 24), "red").save(folder / "profile.png", icc_profile=bytes(2_000_000))


@setup
def no_memory_once(stack, place):
    """The first call of the function ``place`` finds no memory."""

    def refuse():
        raise MemoryError

    return partial(at, stack, place, refuse)


@setup
def one_pixel(stack):
    for split in ("train", "val"):
        Image.new("RGB", (1, 1)).save(f"good/{split}/cat/one.png")


@setup
def zip_named_jpg(stack):
    with zipfile.ZipFile("archive", "w") as archive:
        archive.writestr("a", "b")
    add_image("bad.jpg", Path("archive").read_bytes())
    Path("archive").unlink()


@setup
def text_named(stack, name, text):
    add_image(name, text.encode())


@setup
def vanishing(stack, place):
    """One image of each split disappears after the listing, when the function ``place`` is called."""
    elsewhere = Path.cwd().parent / "elsewhere.png"
    shutil.copy("good/val/cat/0.png", elsewhere)
    for split in ("train", "val"):
        Path("good", split, "cat/gone.png").symlink_to(elsewhere)
    return partial(at, stack, place, elsewhere.unlink)


@setup
def nothing_readable(stack):
    for path in Path("good").rglob("*.png"):
        path.write_text("no picture")


# Names. A byte that is not UTF-8 is written as Python writes it in names of files: "\udcff" is the byte 255.


@setup
def class_named(stack, name):
    for split in (b"train", b"val"):
        shutil.copytree(b"good/" + split + b"/cat", b"good/" + split + b"/" + os.fsencode(name))


@setup
def undecodable_file(stack):
    for split in (b"train", b"val"):
        Path(os.fsdecode(b"good/" + split + b"/cat/\xff\n.png")).write_text("no picture")


@setup
def odd_but_good_names(stack):
    for name in (b"\xff\xfe", b"\n\x1b[31m", "日本語 🦊".encode(), b"[bold]x[red]", b"x" * 250):
        shutil.copy(b"good/val/cat/0.png", b"good/val/cat/" + name + b".png")


# Files and folders


@setup
def files(stack, /, **texts):
    """Path → text."""
    for path, text in texts.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(os.fsencode(text))


@setup
def appended(stack, /, **texts):
    """Path → text at the end of the file."""
    for path, text in texts.items():
        Path(path).write_text(Path(path).read_text() + text)


@setup
def without(stack, *patterns):
    """These files and folders are removed."""
    for pattern in patterns:
        paths = list(Path().glob(pattern))
        assert paths, pattern
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@setup
def copied(stack, source, *destinations):
    for destination in destinations:
        if Path(source).is_dir():
            shutil.copytree(source, destination, dirs_exist_ok=True)
        else:
            shutil.copy(source, destination)


@setup
def cut(stack, path, size=None):
    """The file ends after ``size`` bytes, or in the middle."""
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2 if size is None else size])


@setup
def pipe(stack, path):
    os.mkfifo(path)


@setup
def link(stack, path, target):
    Path(path).symlink_to(target)


@setup
def table(stack, text, encoding="utf-8"):
    """``photos.csv``; ``{rows}`` stands for the rows of the training images: path and class."""
    rows = "\n".join(f"{path},{path.parent.name}" for path in sorted(Path("good/train").rglob("*.png")))
    Path("photos.csv").write_bytes(text.replace("{rows}", rows).encode(encoding))


@setup
def started_run(stack, /, **settings):
    """A run folder that holds only a configuration, with these settings, and a damaged checkpoint."""
    from volo.training.config import TrainConfig

    Path("run/checkpoints").mkdir(parents=True)
    tiny = {"data": {"path": "good", "workers": 0}, "model": {"name": "volo_micro_32"}, "batch_size": 2}
    config = json.loads(TrainConfig.from_dict(tiny).to_json())
    Path("run/train.json").write_text(json.dumps({**config, **settings}))
    Path("run/checkpoints/last.ckpt").write_bytes(b"PK\x03\x04 half of it")


# Images with masks, in ``scenes``


@setup
def scenes(stack, kind="palette"):
    make_scenes(Path("scenes"), kind=kind)


@setup
def masks_of(stack, value, split="train"):
    """Every mask of a split has one value, or one color, in all pixels."""
    for path in Path("scenes", split, "masks").iterdir():
        Image.new("L" if isinstance(value, int) else "RGB", (72, 48), value).save(path)


@setup
def renamed_masks(stack):
    for path in list(Path("scenes/train/masks").iterdir()):
        path.rename(path.with_name(f"x{path.name}"))


@setup
def small_mask(stack, path, size):
    Image.new("L", (size, size)).save(path)


@setup
def jpeg_mask(stack):
    path = Path("scenes/train/masks/0.png")
    Image.open(path).convert("L").save(path.with_suffix(".jpg"))
    path.unlink()


@setup
def color_mask(stack, path):
    Image.open(path).convert("RGB").save(path)


# Models


@setup
def segmenter(stack, *names, short_side=None):
    """A segmentation model in ``segmenter``."""
    save_untrained(Path("segmenter"), names=names or NAMES, short_side=short_side)


@setup
def described(stack, /, **changes):
    """The model's ``config.json`` with changes; None leaves an entry out."""
    path = Path("model/config.json")
    description = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in description.items() if value is not None}))


@setup
def nested_recipe(stack, depth):
    """``a.yaml``: a list in a list in a list …"""
    Path("a.yaml").write_text(f"epochs: {'[' * depth}")


@setup
def not_a_number(stack):
    """A weight of the model is NaN."""
    path = Path("model/model.safetensors")
    weights = load_file(path)
    weights["norm.weight"][0] = torch.nan
    save_file(weights, path)


@setup
def newer_onnx(stack):
    """``other.onnx``, exported by a later version of this package."""
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1])
    other = onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["images"], ["scores"])], "g", [value], [other])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.helper.set_model_props(model, {"volo": json.dumps({"format_version": 99, "volo_version": "9.0"})})
    Path("other.onnx").write_bytes(model.SerializeToString())


# The machine


def at(stack, place, act, count=0):
    """Call ``act`` just before the function ``place`` is called for the ``count``-th time, counted from 0."""
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    owner, _, attribute = place.rpartition(".")
    owner = resolve_name(owner)
    original, calls = getattr(owner, attribute), iter(range(10**9))

    def wrapped(*arguments, **options):
        if next(calls) == count:
            act()
        return original(*arguments, **options)

    patch.setattr(owner, attribute, wrapped)


@setup
def ctrl_c(stack, place, count=0):
    """Ctrl-C is pressed when the function ``place`` is called for the ``count``-th time, counted from 0."""
    return partial(at, stack, place, partial(signal.raise_signal, signal.SIGINT), count)


@setup
def no_space(stack, place):
    """The disk is full when the function ``place`` is called."""

    def fail():
        raise OSError(28, "No space left on device")

    return partial(at, stack, place, fail)


@setup
def full_after(stack, size):
    """No file may grow beyond ``size`` bytes: the effect of a full disk."""

    def start():
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_FSIZE, limits)

    return start


@setup
def locked(stack, path, mode=0o000):
    """A user who is not root may neither read the path nor write into it; this process becomes such a user."""

    def start():
        stack.callback(Path.cwd().chmod, 0o700)
        for other in (Path(), *Path().rglob("*")):
            other.chmod(0o777)
        stack.callback(Path(path).chmod, 0o700)
        Path(path).chmod(mode)
        if os.getuid() == 0:
            os.setresuid(NOBODY, NOBODY, 0)  # root is kept in reserve
            stack.callback(os.setresuid, 0, 0, 0)

    return start


@setup
def read_only(stack, path):
    return locked(stack, path, mode=0o555)


@setup
def not_installed(stack, name):
    """Importing the package fails."""
    stack.enter_context(pytest.MonkeyPatch.context()).setitem(sys.modules, name, None)


@setup
def variables(stack, /, **values):
    """Environment variables."""

    def start():
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in values.items():
            patch.setenv(name, value)

    return start


# Standard streams


def stream(stack, name, opened):
    """Replace a standard stream by the return value of ``opened``."""

    def start():
        value = opened()
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(sys, name, value)
        stack.callback(lambda: _close(getattr(sys, name)))

    return start


def _close(value):
    try:
        if value is not None:
            value.close()
    except OSError as error:
        raise AssertionError(f"Python would report this error when it ends: {error}") from None


@setup
def closed(stack, name):
    """``stdin`` or ``stdout`` is closed."""
    return stream(stack, name, lambda: None)


@setup
def empty_stdin(stack):
    return stream(stack, "stdin", Path("/dev/null").open)


@setup
def full_stdout(stack):
    return stream(stack, "stdout", partial(Path("/dev/full").open, "w"))


@setup
def no_reader(stack):
    """Standard output is a pipe that nobody reads."""

    def opened():
        reader, writer = os.pipe()
        os.close(reader)
        return os.fdopen(writer, "w")

    return stream(stack, "stdout", opened)


@setup
def ascii_terminal(stack):
    """A terminal that shows only ASCII, 20 columns wide."""

    def start():
        before = sys.stdout.encoding, sys.stdout.errors
        sys.stdout.reconfigure(encoding="ascii", errors="strict")
        stack.callback(sys.stdout.reconfigure, encoding=before[0], errors=before[1])
        variables(stack, COLUMNS="20")()

    return start


# Processes of their own


def run_in_a_shell(command):
    """Run a line of commands. Returns the exit code of the first that fails."""
    python = shlex.quote(sys.executable)
    functions = [
        f'volo() {{ {python} -m volo "$@"; }}',
        f'together() {{ exec {python} -c "import bad_things; bad_things.interrupted_together()" "$@"; }}',
    ]
    path = os.pathsep.join(sys.path)  # with that of the helpers of the tests
    line = "; ".join(["set -o pipefail", *functions, command])
    return subprocess.run(
        ["bash", "-c", line], env={**os.environ, "PYTHONPATH": path}, start_new_session=True, timeout=120
    ).returncode


def interrupted_together():
    """Run ``volo`` in this process, and interrupt it and all its child processes, as Ctrl-C in a terminal does.

    Arguments: the functions at whose call, separated by spaces; the number of the call; the command.
    """
    places, count, *command = sys.argv[1:]
    with ExitStack() as stack:
        for place in places.split():
            at(stack, place, partial(os.killpg, 0, signal.SIGINT), int(count))
        sys.exit(main(command))
