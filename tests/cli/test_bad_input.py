# ruff: noqa: E501  # a line for each case
"""Whatever people feed the commands: one line that says what came, what is allowed and what to do, and nothing else."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import pytest
from bad_things import (
    ENDINGS,
    SEGMENT,
    TRAIN,
    all_of,
    ascii_terminal,
    at,
    beside,
    class_named,
    copied,
    corrupt,
    ctrl_c,
    described,
    exported_elsewhere,
    full_after,
    half,
    locked,
    machine,
    make_world,
    masks_of,
    not_a_number,
    not_installed,
    nothing_readable,
    odd_but_good_names,
    of_pixels,
    one_pixel,
    pipe_without_reader,
    run_begun,
    scenes,
    segmenter,
    stream,
    table,
    text_file,
    truncated,
    undecodable_file,
    vanishing,
    variables,
    without,
    zip_archive,
)
from PIL import Image

from volo.cli import main

#: What begins lines that are no complaint: the work went on.
REMARKS = ("warning: ", "note: ")
TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")


def nothing(stack):
    """Nothing is bad but the command itself."""


@dataclass(frozen=True)
class Case:
    """A bad thing, and what comes of it.

    Attributes:
        name: what is bad.
        command: words after ``volo``, in a folder made by ``make_world``.
        says: what the line of error holds; where the work goes on, what the warnings and the output hold.
        make: makes the bad thing.
        code: the exit code.
        leaves: patterns of new files; each stands for at least one, and there are no others.
        slow: run on demand.
    """

    name: str
    command: str
    says: tuple[str, ...]
    make: Callable[[ExitStack], None] = nothing
    code: int = 2
    leaves: tuple[str, ...] = ()
    slow: bool = False


def no_space():
    raise OSError(28, "No space left on device")


def case(name, command, *says, **more):
    return Case(name, command, says, **more)


#: What a run leaves that has ended; and one that has not got as far as its first checkpoint.
DONE = ("run", "run/*")
BEGUN = ("run", "run/train.json", "run/.lock", "run/checkpoints")
LABELED = ("labels",)
LABEL = "label good --teacher=model --top_k=2 --out=labels"
CHECK = "data check good --workers=0"
MASKED = "data check scenes --workers=0"

IMAGES = [
    *(
        case(
            f"a truncated .{ending} among others",
            "predict model good/val",
            f"warning: cannot read image good/val/cat/bad.{ending}: ",
            "; left out",
            "warning: 1 of 5 images could not be read",
            make=truncated(ending),
            code=0,
        )
        for ending in ENDINGS
    ),
    *(
        case(
            f"a corrupt .{ending}, strict",
            "predict model good/val --strict",
            f"cannot read image good/val/cat/bad.{ending}: ",
            make=corrupt(ending),
        )
        for ending in ENDINGS
    ),
    *(
        case(name, f"{command} {good}", *says, "cat/bad.jpg: ", make=truncated("jpg"), code=0, leaves=leaves)
        for name, command, good, says, leaves in (
            ("a truncated image: eval", "eval model", "good", ["; left out", "4 images of 2 classes, 1 unreadable"], ()),
            ("a truncated image: check", "data check", "good --workers=0", ["unreadable: 2"], ()),
            ("a truncated image: label", LABEL, "", ["; left out", "6 images labeled, 1 cannot be read"], LABELED),
            ("a truncated image: train", "train", f"good --output=run {TRAIN}", ["; left out", "2 unreadable images"], DONE),
        )
    ),
    case("a truncated image, strict: eval", "eval model good --strict", "1 images cannot be read (--strict)", make=truncated("jpg")),
    case("a truncated image, strict: check", f"{CHECK} --strict", "findings (--strict)", make=truncated("jpg")),
    case("a truncated image, strict: label", f"{LABEL} --strict", "1 images cannot be read (--strict)", make=truncated("jpg"), leaves=LABELED),
    case("a truncated image, strict: train", f"train good --output=run --strict {TRAIN}", "cat/bad.jpg: ", "(strict)", make=truncated("jpg"), leaves=BEGUN),
    case("an image of 400 megapixels", "predict model good", "(400000000 pixels) exceeds limit of 178956970 pixels; --max-pixels raises it", make=beside(of_pixels(20000, 20000), "bad.png"), code=0),
    case("an image of 400 megapixels, strict", "eval model good --strict", "images cannot be read (--strict)", make=beside(of_pixels(20000, 20000), "bad.png")),
    case("an image of 400 megapixels, allowed", "predict model good/val/cat/bad.png --max-pixels=500000000", "cannot read image", "truncated", make=beside(of_pixels(20000, 20000), "bad.png")),
    case("all images over the limit", "predict model good/val --max-pixels=100", "not one of the 4 images could be read"),
    case("an image of one pixel: predict", "predict model good/val", "one.png", make=one_pixel, code=0),
    case("an image of one pixel: train", f"train good --output=run {TRAIN}", "best epoch", make=one_pixel, code=0, leaves=DONE),
    case("an image of one pixel: label", LABEL, "7 images labeled", make=one_pixel, code=0, leaves=LABELED),
    case("an image of one pixel: check", CHECK, "1 to 20", make=one_pixel, code=0),
    case("a zip named .jpg", "predict model good/val/cat/bad.jpg", "cat/bad.jpg: not an image that Pillow can read", make=beside(zip_archive, "bad.jpg")),
    case("a zip named .jpg among others", "eval model good", "cat/bad.jpg: not an image that Pillow can read; left out", make=beside(zip_archive, "bad.jpg"), code=0),
    case("an empty file named .png", "predict model good/val", "cat/bad.png: the file is empty; left out", make=beside(b"", "bad.png"), code=0),
    case("a web page named .webp", "predict model good/val", "cat/bad.webp: not an image", make=beside(b"<!doctype html>", "bad.webp"), code=0),
    case("not one image can be read: predict", "predict model good/val --output=out.csv", "not one of the 4 images could be read", make=nothing_readable),
    case("not one image can be read: eval", "eval model good --output=out", "none of the 4 images can be read; the first: cannot read image", make=nothing_readable),
    case("not one image can be read: train", f"train good --output=run {TRAIN}", "not one of the training images can be read", make=nothing_readable, leaves=BEGUN),
    case("not one image can be read: label", LABEL, "not one of the 6 images could be read", make=nothing_readable, leaves=LABELED),
    case("an image without permission", "predict model good/val", "cat/0.png: Permission denied; left out", make=locked("good/val/cat/0.png"), code=0),
    case("an image without permission, alone", "predict model good/val/cat/0.png", "cat/0.png: Permission denied", make=locked("good/val/cat/0.png")),
    case("a folder of images without permission: predict", "predict model good/val", "good/val/cat: Permission denied; change its permissions", make=locked("good/val/cat")),
    case("a folder of images without permission: train", f"train good --output=run {TRAIN}", "good/train/dog: Permission denied; change its permissions", make=locked("good/train/dog")),
    case("a model without permission", "eval model good", "model.safetensors", "Permission denied", make=locked("model/model.safetensors")),
    case("a model's description without permission", "eval model good", "config.json", "Permission denied", make=locked("model/config.json")),
    case("a table without permission", "eval model photos.csv", "photos.csv: Permission denied", make=all_of(table("path,label\n{rows}"), locked("photos.csv"))),
    case("a pipe named .png", "predict model good/val", "cat/bad.png: it is no regular file; left out", make=lambda stack: os.mkfifo("good/val/cat/bad.png"), code=0),
    case("a folder that leads to the one above", "data check good/val --workers=0", " 4 images of 2", make=lambda stack: Path("good/val/cat/up").symlink_to(".."), code=0),
    case("a link that leads to itself", "predict model good/val", "cat/loop.png: Too many levels of symbolic links; left out", make=lambda stack: Path("good/val/cat/loop.png").symlink_to("loop.png"), code=0),
    case("an image that vanishes: predict", "predict model good/val", "cat/gone.png: No such file or directory; left out", make=vanishing("torch.nn.Module.eval"), code=0),
    case("an image that vanishes: eval", "eval model good", "cat/gone.png: No such file or directory; left out", make=vanishing("volo.evaluation.classification.evaluate"), code=0),
    case("an image that vanishes: check", CHECK, "cat/gone.png: No such file or directory", make=vanishing("volo.data.checks.images.check_images"), code=0),
    case("an image that vanishes: label", LABEL, "cat/gone.png: No such file or directory; left out", make=vanishing("torch.nn.Module.eval"), code=0, leaves=LABELED),
]  # fmt: skip

NAMES = [
    case("an unreadable file whose name is no UTF-8", "eval model good", r"cat/\xff\n.png: not an image", make=undecodable_file, code=0),
    case("an unreadable file whose name is no UTF-8: check", f"{CHECK} --output=out", r"cat/\xff\n.png: not an image", make=undecodable_file, code=0, leaves=("out", "out/check.json", "out/contact_sheets*")),
    case("odd names of good files", "predict model good/val", r"\xff\xfe.png", r"\n\x1b[31m.png", "日本語", "[bold]x[red].png", make=all_of(odd_but_good_names, variables(COLUMNS="300")), code=0),
    case("odd names of good files in a CSV", "predict model good/val --output=out.csv", "9 predictions", make=odd_but_good_names, code=0, leaves=("out.csv",)),
    case("odd names of good files, judged", "eval model good --output=out", "out", make=odd_but_good_names, code=0, leaves=("out", "out/*")),
    case("a class whose name is no UTF-8", f"train good --output=run {TRAIN}", r"c\xff cannot be the name of a class", "rename it", make=class_named(b"c\xff")),
    case("a class with a line break in its name", CHECK, r"c\nt cannot be the name of a class", "rename it", make=class_named(b"c\nt")),
    case("a class with markup in its name", CHECK, "[red]x", make=class_named(b"[red]x"), code=0),
    case("too long a name of an image", f"predict model {'x' * 300}.png", "File name too long"),
    case("too long a name of data", f"eval model {'x' * 300}", "File name too long; choose a shorter name"),
    case("too long a name of a model", f"eval {'x' * 300} good", "File name too long"),
    case("too long a name of what to write", f"predict model good/val --output={'x' * 300}.json", "File name too long; choose a shorter name"),
    case("too long a name of a run", f"train good --output={'x' * 300} {TRAIN}", "File name too long; choose a shorter name"),
    case("the longest name that can be written", f"predict model good/val --output={'x' * 250}.json", "4 predictions", code=0, leaves=("xxx*.json",)),
    case("no name for an image", "predict model ''", "'' is neither a file"),
    case("no name for data", "eval model ''", "no folder, table or data set is named ''"),
]  # fmt: skip

DATA = [
    case("nothing is there", f"train nowhere --output=run {TRAIN}", "no folder, table or data set is named 'nowhere'; there are: fashion-mini, cifar10"),
    case("a misspelled data set", "train cifar11", "no folder, table or data set is named 'cifar11'; did you mean 'cifar10'?"),
    case("a data set that is not downloaded: train", "train cifar10 --data.root=empty", "cifar10 is not, or not whole, in empty; let torchvision fetch it by --download"),
    case("a data set that is not downloaded: eval", "eval model mnist --root=empty", "let torchvision fetch it by --download"),
    case("a file that is no table", "train file", "file is a file, but no table (.csv, .tsv, .tab); give a folder"),
    case("a folder without class folders", "train empty", "empty has no class folders; expected empty/<class>/<image>"),
    case("a folder without images", "predict model empty", "empty has no images in it"),
    case("an image that is not there", "predict model nowhere.png", "nowhere.png is neither a file, a folder nor a pattern that matches"),
    case("a class without images", f"train good {TRAIN}", "no images in", "good/val/dog", "put images there (.jpg, .png, .webp …) or remove the folder", make=without("good/val/dog/0.png", "good/val/dog/1.png")),
    case("a class missing from validation: train", f"train good {TRAIN}", "the val part of good lacks the classes dog", "add images", make=without("good/val/dog")),
    case("a class missing from validation: eval", "eval model good", "warning: 1 of the model's 2 classes have no images and so no score: dog", make=without("good/val/dog"), code=0),
    case("a class of validation alone", f"train good {TRAIN}", "the val part of good has the classes dog, which the training part lacks", make=without("good/train/dog")),
    case("one class only: train", f"train good {TRAIN}", "good has one class only, 'cat'; a classifier needs two", make=without("good/train/dog", "good/val/dog")),
    case("one class only: check", f"{CHECK} --strict", "findings (--strict)", make=without("good/train/dog", "good/val/dog")),
    case("one image of a class", f"train good/val {TRAIN}", "class 'dog' has one image: too few to split", make=without("good/val/dog/1.png")),
    case("more classes than the model: eval", "eval model good", "the model does not know the classes emu (1 of the data's 3); it knows 2: cat, dog; rename", make=class_named(b"emu")),
    case("more classes than the model: label", LABEL, "does not know 1 of the 3 classes of the data: emu", make=class_named(b"emu")),
    case("a table without the column of paths", "train photos.csv", "has no column named image or path, its first line has: a, label; name the right one with --image_column", make=table("a,label\n{rows}")),
    case("a table without the column of labels", "train photos.csv", "has no column named label or class", make=table("path,names\n{rows}")),
    case("a table without the column asked for", "train photos.csv --data.label-column=name", "has no column 'name'; did you mean 'names'?", make=table("path,names\n{rows}")),
    case("a table with unknown labels", "eval model photos.csv", "does not know the classes emu", make=table("path,label\n{rows}good/val/dog/0.png,emu\n")),
    case("a table without rows", "data check photos.csv", "photos.csv has no rows below its first line, which names the columns", make=table("path,label\n")),
    case("an empty table", "eval model photos.csv", "its first line has: nothing", make=table("")),
    case("a table that names an image twice", "train photos.csv", "photos.csv names good/train/cat/0.png twice, on lines 2 and 8; remove one", make=table("path,label\n{rows}good/train/cat/0.png,dog\n")),
    case("a table with an empty cell", "train photos.csv", "line 8 of photos.csv has no label; fill it in or remove the line", make=table("path,label\n{rows}good/val/cat/0.png,\n")),
    case("a table with a comma too many", "train photos.csv", "line 8 of photos.csv has 3 cells, its first line 2", make=table("path,label\n{rows}good/val/cat/0.png,cat,dog\n")),
    case("a table for an unknown part", "train photos.csv", "line 2 of photos.csv is for an unknown part 'trian'; did you mean 'train'?", make=table("path,label,split\ngood/val/cat/0.png,cat,trian\n")),
    case("a table of files that are not there", "eval model photos.csv", "none of the 1 files in photos.csv exist, the first is x.png; paths must be relative", make=table("path,label\nx.png,cat\n")),
    case("a table with one file that is not there", "eval model photos.csv", "cannot read image x.png: No such file or directory; left out", make=table("path,label\n{rows}x.png,cat\n"), code=0),
    case("a table in UTF-16", "train photos.csv", "photos.csv is not UTF-8 (byte 0xff at 0); save it as UTF-8", make=table("path,label\n{rows}", encoding="utf-16")),
    case("a part that is not there", "eval model good --split=tset", "good has no part 'tset'; there are: train, val"),
    case("findings, strict", f"{CHECK} --strict", "findings (--strict)", make=copied("good/train/cat", "good/val/dog")),
    case("standard input is closed", "predict model -", "standard input is closed; '-' reads names of files from there", make=stream("stdin", lambda: None)),
    case("standard input names nothing", "predict model -", "standard input names no files", make=stream("stdin", Path("/dev/null").open)),
]  # fmt: skip

PLACES = [
    case("a run folder with other things in it", f"train good --output=model {TRAIN}", "model exists and is not empty; choose another --output"),
    case("a run folder with a run in it", f"train good --output=run {TRAIN}", "run holds a run already; go on with it by --resume run, or choose another --output", make=run_begun()),
    case("a run folder that is a file", f"train good --output=file {TRAIN}", "file is a file; name a folder"),
    case("a run folder below a file", f"train good --output=file/run {TRAIN}", "file is a file; name a folder"),
    case("a run folder among the classes", f"train good/val --output=good/val/run {TRAIN}", "good/val/run would lie among the class folders in good/val; choose another --output"),
    case("an output that is a folder", "predict model good --output=out.json", "cannot write out.json: it is a folder; name a file", make=copied("empty", "out.json")),
    case("an output below a file: predict", "predict model good --output=file/out.json", "file is a file; name a folder"),
    case("an output below a file: eval", "eval model good --output=file/out", "file is a file; name a folder"),
    case("an output that is a file: check", f"{CHECK} --output=file", "file is a file; name a folder"),
    case("an output of another kind", "predict model good --output=out.txt", "--output must end in .json or .csv, not 'out.txt'"),
    case("an output folder that is not there yet", "predict model good --output=a/b/out.json", "10 predictions", code=0, leaves=("a", "a/b", "a/b/out.json")),
    *(
        case(f"a place without permission: {command.split()[0]}", command, *says, make=locked("empty", mode=0o555))
        for command, *says in (
            ("predict model good --output=empty/out.csv", "cannot write into empty: empty is not writable; name another"),
            ("eval model good --output=empty/out", "cannot write into empty/out: empty is not writable; name another"),
            ("data check good --output=empty", "cannot write into empty: empty is not writable; name another"),
            (f"train good --output=empty/run {TRAIN}", "cannot write into empty/run: empty is not writable; name another"),
            ("label good --teacher=model --out=empty/labels", "cannot write into empty: empty is not writable; name another"),
            ("weights convert model empty/new --to=volo", "cannot write into empty: empty is not writable; name another"),
        )
    ),
    case("weights are converted onto a file", "weights convert model file --to=volo", "file exists; choose another name"),
    case("labels in the place of a folder", "label good --teacher=model --out=empty", "empty"),
    case("labels in the place of another file", "label good --teacher=model --out=file", "file"),
]  # fmt: skip

MACHINE = [
    case("a full disk: predictions", "predict model good --output=out.json", "out.json: File too large; make room, or name another place", make=full_after(100), code=1),
    case("a full disk: scores and pictures", "eval model good --output=out", "File too large; make room, or name another place", make=full_after(10_000), code=1),
    case("a full disk: contact sheets", f"{CHECK} --output=out", "File too large; make room, or name another place", make=full_after(2_000), code=1),
    case("a full disk: token labels", LABEL, "no room for labels: it takes", make=full_after(100)),
    case("a full disk: weights for this package", "weights convert model new --to=volo", "new/model.safetensors: File too large; make room, or name another place", make=full_after(100_000), code=1),
    case("a full disk: weights for the authors' code", "weights convert model new.pth.tar --to=official", "new.pth.tar: File too large; make room, or name another place", make=full_after(100_000), code=1),
    case("a full disk: the configuration of a run", f"train good --output=run {TRAIN}", "run/train.json: File too large; make room", make=full_after(100), code=1, leaves=("run", "run/.lock", "run/checkpoints")),
    case("a full disk: figures of a run", f"train good --output=run {TRAIN}", "cannot write to run", "File too large", "go on with: volo train --resume run", make=full_after(3_000), code=1, leaves=(*BEGUN, "run/metrics.csv")),
    case("a full disk: the checkpoint of a run", f"train good --output=run {TRAIN}", "run/checkpoints/", "File too large; none was saved before it; when it can be written, go on with: volo train --resume", make=full_after(200_000), code=1, leaves=(*BEGUN, "run/metrics.csv", "run/curves.png")),
    case("a full disk: the weights of a run", f"train good --output=run {TRAIN}", "cannot write to run: No space left on device; when there is space, go on with: volo train --resume run", make=machine(lambda stack: at(stack, "volo.models.weights.model_folder.save_file", no_space)), code=1, leaves=(*BEGUN, "run/metrics.csv", "run/curves.png", "run/checkpoints/*")),
    case("a full disk: standard output", "predict model good", "No space left on device", make=stream("stdout", partial(Path("/dev/full").open, "w")), code=1),
    case("a reader that has gone: predict", "predict model good", make=stream("stdout", pipe_without_reader), code=141),
    case("a reader that has gone: eval", "eval model good", make=stream("stdout", pipe_without_reader), code=141),
    case("a reader that has gone: check", CHECK, make=stream("stdout", pipe_without_reader), code=141),
    case("a reader that has gone: recipes", "recipes", make=stream("stdout", pipe_without_reader), code=141),
    case("a reader that has gone: a recipe", "recipes volo-d1-224", make=stream("stdout", pipe_without_reader), code=141),
    case("a reader that has gone: help", "--help", make=stream("stdout", pipe_without_reader), code=141),
    case("a reader that has gone: help of a verb", "predict --help", make=stream("stdout", pipe_without_reader), code=141),
    case("a reader that has gone: train", f"train good --output=run {TRAIN}", make=stream("stdout", pipe_without_reader), code=141, leaves=BEGUN),
    case("an image size of broken tokens", f"train good --output=run {TRAIN} --model.img_size=31", "best epoch", code=0, leaves=DONE),
    case("a reader that has gone: label", LABEL, make=stream("stdout", pipe_without_reader), code=141, leaves=LABELED),
    case("standard output is closed", "predict model good --output=out.csv", make=stream("stdout", lambda: None), code=0, leaves=("out.csv",)),
    case("standard output is closed: a recipe", "recipes volo-d1-224", make=stream("stdout", lambda: None), code=0),
    case("a terminal of English letters: predict", "predict model good/val", "cat", make=all_of(odd_but_good_names, ascii_terminal), code=0),
    case("a terminal of English letters: check", CHECK, r"\u65e5", make=all_of(class_named("日本語".encode()), ascii_terminal), code=0),
    case("a terminal of English letters: train", f"train good --output=run {TRAIN}", "best epoch", make=all_of(class_named("日本語".encode()), ascii_terminal), code=0, leaves=DONE),
    case("a terminal of English letters: eval", "eval model good", "does not know the classes", make=all_of(class_named("日本語".encode()), ascii_terminal)),
    case("a terminal of English letters: weights", "weights list", "volo", make=ascii_terminal, code=0),
    case("a terminal of English letters: recipes", "recipes", "fashion", make=ascii_terminal, code=0),
    *(
        case(f"Ctrl-C: {name}", command, "interrupted", make=ctrl_c(moment, count), code=130, leaves=leaves)
        for name, command, moment, count, leaves in (
            ("listing, predict", "predict model good", "os.walk", 0, ()),
            ("listing, train", f"train good --output=run {TRAIN}", "os.walk", 1, ()),
            ("loading the model", "eval model good", "volo.models.weights.load.identify", 0, ()),
            ("decoding, predict", "predict model good --output=out.csv", "PIL.Image.open", 3, ()),
            ("decoding, eval", "eval model good --output=out", "PIL.Image.open", 3, ()),
            ("decoding, check", f"{CHECK} --output=out", "PIL.Image.open", 3, ()),
            ("decoding, label", LABEL, "PIL.Image.open", 3, LABELED),
            ("computing, label", f"{LABEL} --batch_size=2", "volo.labeling.label.Labeler.__call__", 1, LABELED),
            ("writing predictions", "predict model good --output=out.csv", "pathlib.Path.write_text", 0, ()),
            ("writing scores", "eval model good --output=out", "pathlib.Path.write_text", 0, ()),
            ("drawing pictures", "eval model good --output=out", "matplotlib.figure.Figure.savefig", 1, ()),
            ("writing contact sheets", f"{CHECK} --output=out", "PIL.Image.Image.save", 1, ()),
            ("writing weights", "weights convert model new --to=volo", "volo.models.weights.model_folder.save_file", 0, ()),
            ("making the model, train", f"train good --output=run {TRAIN}", "volo.training.classification.create_model", 0, ()),
            ("starting to load, train", f"train good --output=run {TRAIN}", "torch.utils.data.DataLoader.__iter__", 0, BEGUN),
            ("judging, train", f"train good --output=run {TRAIN}", "volo.training.classification.evaluate", 0, (*BEGUN, "run/[mc]*")),
        )
    ),
    *(
        case(f"Ctrl-C: {name}, train", f"train good --output=run {TRAIN}", "stopped by SIGINT and saved; go on with: volo train --resume run", make=ctrl_c(moment, count), code=130, leaves=DONE)
        for name, moment, count in (
            ("decoding", "PIL.Image.open", 2),
            ("a training step", "volo.tasks.classification.ClassificationTask.training_step", 1),
            ("validation", "volo.tasks.classification.ClassificationTask.validation_step", 0),
            ("writing figures", "volo.training.callbacks.record.draw_curves", 0),
            ("writing a checkpoint", "torch.save", 0),
        )
    ),
]  # fmt: skip

MODELS = [
    case("no model is there", "eval nowhere good", "nowhere cannot be read: No such file or directory"),
    case("a folder that is no model", "predict empty good", "empty is no trained model: empty/config.json does not exist; give a run folder"),
    case("a file that is no model", "predict file good", "file is no file of weights"),
    case("a model without its description", "eval model good", "model is no trained model: model/config.json does not exist", make=without("model/config.json")),
    case("a model without its weights", "eval model good", "model is no trained model: model/model.safetensors does not exist", make=without("model/model.safetensors")),
    case("a model cut off", "eval model good", "model.safetensors is no safetensors file", make=half("model/model.safetensors")),
    case("a description cut off", "eval model good", "model/config.json is no description of a volo model", make=half("model/config.json")),
    case("a description of a newer version", "eval model good", "config.json has format version 99; this volo reads version 1; upgrade volo", make=described(format_version=99)),
    case("a description with a name too few", "predict model good", "class_names must be 2 names, one for each output", make=described(class_names=["cat"])),
    case("a description without class names", "predict model good", "class_names", make=described(class_names=None)),
    case("a description of unknown preprocessing", "predict model good", "the preprocessing described in model is not known to this volo", make=described(preprocessing={"sise": 3})),
    case("a weight that is no number: predict", "predict model good --output=out.csv", "weights of model", "norm.weight", "not finite", make=not_a_number),
    case("a weight that is no number: eval", "eval model good", "norm.weight", "not finite", make=not_a_number),
    case("a weight that is no number: label", LABEL, "logits that are not finite in float16: its weights are damaged", make=not_a_number, leaves=LABELED),
    case("misspelled published weights", "eval volo_d1_225 good", "volo_d1_225 is no file or folder, and no weights are published as 'volo_d1_225'; did you mean 'volo_d1_224"),
    case("other classes than the model's", "eval model good", "does not know the classes emu", make=all_of(class_named(b"emu"), without("good/train/cat"))),
    *(
        case(f"a device that is not here: {command.split()[0]}", f"{command} --device={device}", f"there is no device '{device}' on this machine; there are: cpu")
        for command, device in (("predict model good", "abacus"), ("eval model good", "meta"), (LABEL, "cuda:99"))
    ),
    case("a device that is not here: train", f"train good --output=run {TRAIN} --accelerator=abacus", "abacus"),
    case("a run that is none", "train --resume empty", "empty holds no run: empty/train.json does not exist"),
    case("a run whose checkpoint is damaged", "train --resume run", "run/checkpoints/last.ckpt cannot be gone on with, since it is damaged", make=run_begun(), leaves=("run/.lock",)),
    case("a run whose configuration is damaged", "train --resume run", "run/train.json is no training configuration", make=all_of(run_begun(), half("run/train.json"))),
    case("a run of a newer version", "train --resume run", "run/train.json is no training configuration: unknown setting 'epoch'; did you mean 'epochs'", make=run_begun(epoch=3)),
    case("a run whose configuration is another thing", "train --resume run", "must be settings by name, not []", make=run_begun(optim=[])),
]  # fmt: skip

EXPORT = [
    case("an export of what is no model", "export file --to=onnx", "file is no file of weights"),
    case("an export of weights that are no numbers", "export model --to=torch-export", "weights of model", "norm.weight", "not finite", make=not_a_number),
    case("an export to an unknown format", "export model --to=onx", "there is no format 'onx'; did you mean 'onnx'?"),
    case("an export without a format", "export model", "arguments are required: to"),
    case("an export of a size that is none", "export model --to=onnx --size=big", "--size must be a side, such as 224, or height x width, such as 256x384; not 'big'"),
    case("an export of too small a size", "export model --to=onnx --size=7", "size must be at least 8x8 pixels for this model, not 7x7"),
    case("an export of a varying size that the runtime refuses", "export model --to=aotinductor --dynamic=both", "AOTInductor compiles for one size of images here; take --dynamic none or batch"),
    case("an export that resizes photos to a varying size", "export model --to=onnx --include-resize --dynamic=both", "resizing inside brings photos of any size to one; take --dynamic none or batch"),
    case("an export that resizes in int8", "export model --to=onnx --include-resize --precision=int8 --calibration good", "int8 is fitted to images that are resized already; leave out --include-resize"),
    case("an export in a precision that the format lacks", "export model --to=torch-export --precision=int8", "torch-export has no int8 here; onnx and openvino have"),
    case("int8 without images", "export model --to=onnx --precision=int8", "int8 is fitted to images: name some with calibration (--calibration FOLDER)"),
    case("calibration images for float", "export model --to=onnx --calibration good", "calibration images are for int8, not for fp32"),
    case("a calibration folder without images", "export model --to=onnx --precision=int8 --calibration empty", "empty has no images in it"),
    case("a calibration folder of one image", "export model --to=onnx --precision=int8 --calibration good/val/cat/0.png", "one calibration image is too few"),
    case("images to compare on that cannot be read", "export model --to=onnx --images good", "not one of the images can be read: good", make=nothing_readable),
    case("an export to a file of another ending", "export model --to=onnx --output=model.pt2", "a file of onnx must end in .onnx, not 'model.pt2'"),
    case("an export into a file", "export model --to=onnx --output=file/a.onnx", "file is a file; name a folder"),
    case("an export without what writes it", "export model --to=openvino", "this needs openvino; install it with: pip install 'volo[export]'", make=not_installed("openvino")),
    case("an exported file without what runs it", "predict other.onnx good", "this needs onnxruntime; install it with: pip install 'volo[export]'", make=all_of(exported_elsewhere, not_installed("onnxruntime"))),
    case("an exported file that is not there", "predict gone.onnx good", "there is no file gone.onnx"),
    case("an exported file of another version", "predict other.onnx good", "other.onnx is of format version 99, by volo 9.0; this volo reads version 1: export it again", make=exported_elsewhere),
    case("an exported file that is none", "eval bad.onnx good", "bad.onnx cannot be loaded by onnxruntime", make=text_file("bad.onnx", "no model")),
    case("an exported file on an accelerator", "predict other.onnx good --device=cuda", "other.onnx is an exported file, which runs on the CPU, not on cuda", make=exported_elsewhere),
    case("an unknown runtime", "predict model good --runtime=tensorrt", "there is no runtime 'tensorrt'; did you mean"),
    case("a runtime that is not for checkpoints", "eval model good --runtime=onnxruntime", "onnxruntime runs exported files: write one with `volo export model --to"),
    case("a runtime that is not for this file", "predict other.onnx good --runtime=aotinductor", "other.onnx runs in onnxruntime or openvino, not in aotinductor", make=exported_elsewhere),
    case("no threads", "predict model good --threads=0", "threads must be at least 1, not 0"),
]  # fmt: skip

WORDS = [
    case("the number of devices", f"train good --output=run {TRAIN} --devices=-1", "devices"),
    case("a teacher's weights that are not there", "label good --out=labels --teacher=resnet18 --weights=nowhere", "there is no file nowhere; --weights is a file of weights for resnet18"),
    case("a misspelled verb", "trian good", "unknown command 'trian'; did you mean 'train'?"),
    case("no data to train on", "train", "name a folder"),
    case("no data to judge on", "eval model", "required"),
    case("no images, or no model", "predict model", "name images too: volo predict model IMAGE…, or volo predict model --model MODEL"),
    case("a demonstration into a file", "demo --output=file", "cannot write into file: file is a file; name a folder"),
    case("one thing too many", f"train good good {TRAIN}", "unrecognized arguments: good"),
    case("a misspelled option: train", "train good --epoch=3", "unknown option --epoch; did you mean '--epochs'?"),
    case("a misspelled option: predict", "predict model good --topk=3", "unknown option --topk; did you mean '--top_k'?"),
    case("a misspelled option: eval", "eval model good --outptu=a", "did you mean '--output'?"),
    case("a misspelled option: label", f"{LABEL} --batchsize=3", "did you mean '--batch_size'?"),
    case("a misspelled option: models", "models --all", "unknown option --all"),
    case("a misspelled dash", "train good --dry_run", "did you mean '--dry-run'?"),
    case("a misspelled setting", "train good --model.drop_path=0.3", "did you mean '--model.drop_path_rate'?"),
    case("a misspelled section", "train good --recipe=volo-d1-224 --modle.name=volo_d2", "did you mean '--model.name'?"),
    case("a section without settings", "train good --optim=3", "optim"),
    case("a misspelled model", f"train good {TRAIN} --model.name=volo_d9", "unknown model 'volo_d9'; did you mean"),
    case("a misspelled precision", "train good --precision=16-mxied", "unknown precision '16-mxied'; did you mean '16-mixed'?"),
    case("a misspelled logger", "train good --loggers=[wanbd]", "unknown logger 'wanbd' in loggers; did you mean 'wandb'?"),
    case("a misspelled way of balancing", "train good --loss.class_balance=invers", "loss.class_balance"),
    case("a misspelled interval", "train good --optim.interval=week", "optim.interval"),
    case("misspelled weights of the package", "predict good --model=volo_tiny_32.cifar", "no weights are published as 'volo_tiny_32.cifar'; did you mean 'volo_tiny_32.cifar10'?"),
    case("a misspelled recipe: train", "train good --recipe=fashion_mini", "did you mean 'fashion-mini'?"),
    case("a misspelled recipe: recipes", "recipes volo-d1-225", "did you mean 'volo-d1-224'?"),
    case("a misspelled command of data", "data chekc good", "unknown command 'chekc' of volo data; there is: volo data check PATH"),
    case("a misspelled action of weights", "weights inspcet model", "there is no such action; did you mean 'inspect'?"),
    case("a misspelled system", "weights convert model new --to=tinn", "unknown system 'tinn'; did you mean 'timm'?"),
    case("a misspelled teacher", "label good --out=labels --teacher=xq", "no classifier of timm is named 'xq'", "more"),
    case("a recipe with a misspelled setting", "train good --recipe=a.yaml", "unknown setting 'modle.name'; did you mean 'model.name'?", make=text_file("a.yaml", "modle:\n  name: x\n")),
    case("a recipe with a misspelled setting in a section", "train good --recipe=a.yaml", "'model.drop_path'; did you mean 'model.drop_path_rate'?", make=text_file("a.yaml", "model:\n  drop_path: 0.1\n")),
    case("a recipe that is no YAML", "train good --recipe=a.yaml", "a.yaml is no recipe, since it is no YAML", make=text_file("a.yaml", "a: [1,")),
    case("a recipe that is no text", "train good --recipe=a.yaml", "a.yaml is no recipe, since it is no YAML", make=text_file("a.yaml", b"\xff\xfe")),
    case("a recipe that is a list", "train good --recipe=a.yaml", "a.yaml is no recipe: it must hold settings by name", make=text_file("a.yaml", "- 1\n")),
    case("an empty recipe", "train good --recipe=a.yaml", "a.yaml is no recipe: it must hold settings by name", make=text_file("a.yaml", "")),
    case("a recipe with a section that is none", "train good --recipe=a.yaml", "a.yaml: optim must be settings by name, not 3", make=text_file("a.yaml", "optim: 3\n")),
    case("a recipe with a word for a number", "train good --recipe=a.yaml", "epochs", "many", make=text_file("a.yaml", "epochs: many\n")),
    case("nothing to benchmark", "bench", "name what is to be measured: --models volo_d1_224"),
    case("measured in an unknown runtime", "bench --models volo_micro_32 --runtimes pytorch,onxruntime", "unknown runtime 'onxruntime'; did you mean 'onnxruntime'?"),
    case("an unknown model to benchmark", "bench --models volo_d9_224", "volo_d9_224"),
    case("an unknown model of timm's", "bench --models volo_micro_32 --against timm:volo_d9_224", "timm has no model 'volo_d9_224'; did you mean"),
    case("no folder of a model to benchmark", "bench --models empty", "empty is no trained model"),
    case("a benchmark of what is no exported file", "bench --models file.onnx", "there is no file file.onnx"),
    case("a batch of none", "bench --models volo_micro_32 --batch 1,0", "--batch must be whole numbers from 1 on, such as 1,8, not '0'"),
    case("threads in words", "bench --models volo_micro_32 --threads two", "--threads must be whole numbers from 1 on", "not 'two'"),
    case("no rounds", "bench --models volo_micro_32 --rounds 0", "--rounds, --seconds and --size must be positive"),
    case("a benchmark of another kind", "bench --models volo_micro_32 --output a.csv", "--output must end in .json or .png, not 'a.csv'"),
    case("accuracy by speed without a picture", "bench --pareto", "--pareto draws a picture; name it: --output pareto.png"),
    case("accuracy by speed of an unpublished model", "bench --pareto --models volo_micro_32 --output a.png", "the published accuracy of 'volo_micro_32' is not known"),
    case("accuracy by speed at another size", "bench --pareto --size 100 --output a.png", "--pareto has no --size"),
    case("accuracy by speed twice", "bench --pareto --batch 1,8 --output a.png", "--pareto draws one --batch"),
    case("no runs to compare", "compare", "required: runs"),
    case("one run to compare", "compare model", "name at least two different runs"),
    case("runs to compare that are none", "compare empty nowhere", "empty is no run: it has no train.json; give folders that volo train"),
    case("runs to compare that are not there", "compare nowhere empty", "nowhere is no run: it does not exist"),
    case("files to compare", "compare file empty", "file is no run"),
    case("a comparison of another kind", "compare empty nowhere --output=a.jpg", "--output must end in .png, not 'a.jpg'"),
    case("a comparison below a file", "compare empty nowhere --output=file/a.png", "file is a file; name a folder"),
    case("a recipe that is a folder", "train good --recipe=good", "no recipe and no file is named 'good'"),
    case("a recipe whose data are not there", "train --recipe=volo-d1-224", "is named 'imagenet'"),
    case("a word for a number", "train good --epochs=many", "epochs"),
    *(
        case(f"out of range: {option}", command, says)
        for command, option, says in (
            ("train good --epochs=0", "epochs", "epochs must be at least 1, not 0"),
            ("train good --optim.lr=-1", "rate", "optim.lr must be positive"),
            ("train good --data.val_fraction=2", "fraction", "data.val_fraction must lie between 0 and 1, not 2.0"),
            ("train good --seed=-1", "seed", "seed must be at least 0, not -1"),
            ("train good --data.channels=2", "channels", "data.channels must be 1 (gray), 3 (color) or 4"),
            (f"train good {TRAIN} --batch_size=64", "batch", "6 training images do not fill one batch of 64"),
            (f"train good {TRAIN} --model.img_size=7", "size", "img_size must be at least 8 pixels a side, not (7, 7)"),
            (f"train good {TRAIN} --data.background=blurple", "color", "background must be a color such as white"),
            ("predict model good --top_k=0", "names", "--top_k, --batch_size and --max_pixels must be at least 1"),
            ("predict model good --max-pixels=0", "pixels", "must be at least 1"),
            ("eval model good --batch_size=0", "batch of eval", "--batch_size must be at least 1, not 0"),
            ("eval model good --workers=-1", "workers", "--workers must be at least 0, not -1"),
            (f"{CHECK} --distance=99", "distance", "must be 0–16"),
            (f"{CHECK} --workers=-1", "workers of check", "--workers must be at least 0, not -1"),
            (f"{LABEL} --count=0 --show=a.png", "count", "at least 1"),
            (f"{LABEL} --top_k=0", "classes kept", "top_k must be at least 1, not 0"),
        )
    ),
    *(
        case(f"options that contradict each other: {options}", f"train good {options}", says)
        for options, says in (
            ("--loss.dense_weight=0", "MixToken needs the token loss"),
            ("--model.freeze=true --optim.layer_decay=0.7", "leave out optim.layer_decay"),
            ("--model.freeze=true --model.drop_path_rate=0.1", "leave out model.drop_path_rate"),
            ("--model.pretrained=x --model.dims=[64,128]", "leave out model.dims"),
            ("--dry-run --profile", "--dry-run keeps nothing: it goes neither with --resume nor with --profile"),
        )
    ),
]  # fmt: skip

#: In processes of their own, by a shell in which ``volo`` is the command and ``together`` interrupts it.
PROCESSES = [
    case("too many workers", "volo eval model good --workers=9", "warning: This DataLoader will create 9 worker processes", code=0, slow=True),
    case("a reader that goes away", "volo predict model good | head -0", code=141),
    case("a reader that goes away: train", f"volo train good --output=run {TRAIN} | head -0", code=141, leaves=BEGUN, slow=True),
    case("all streams are closed", "volo predict model good --output=out.csv <&- >&- 2>&-", code=0, leaves=("out.csv",)),
    case("a full disk below standard output", "volo predict model good > /dev/full", "No space left on device", code=1, slow=True),
    case("a locale of English letters alone", "LC_ALL=C PYTHONUTF8=0 PYTHONIOENCODING=ascii volo predict model good/val", r"\u", make=odd_but_good_names, code=0),
    *(
        case(f"Ctrl-C, and workers: {name}", f"together {moment} {command} ", says, code=130, leaves=leaves, slow=name not in ("eval", "eval, and again while they end", "train, a later batch"))
        for name, moment, command, says, leaves in (
            ("eval", "PIL.Image.open 1", "eval model good --workers=2 --batch_size=1 --output=out", "interrupted", ()),
            ("eval, and again while they end", "volo.inference.predictor.Predictor.logits,torch.utils.data.dataloader._MultiProcessingDataLoaderIter._shutdown_workers 0", "eval model good --workers=2 --batch_size=1 --output=out", "interrupted", ()),
            ("check", "PIL.Image.open 1", "data check good --workers=2 --output=out", "interrupted", ()),
            ("label", "PIL.Image.open 1", f"{LABEL} --workers=2 --batch_size=1", "interrupted", LABELED),
            ("train, first batch", "PIL.Image.open 0", f"train good --output=run {TRAIN} --data.workers=2", "", ("run", "run/*")),
            ("train, a later batch", "PIL.Image.open 3", f"train good --output=run {TRAIN} --data.workers=2 --epochs=2", "", ("run", "run/*")),
            ("train, a step", "volo.tasks.classification.ClassificationTask.training_step 1", f"train good --output=run {TRAIN} --data.workers=2", "stopped by SIGINT and saved; go on with: volo train --resume run", DONE),
            ("train, validation", "volo.tasks.classification.ClassificationTask.validation_step 0", f"train good --output=run {TRAIN} --data.workers=2", "", DONE),
        )
    ),
]  # fmt: skip

PAIRS = [
    case("images with masks: no file of classes", MASKED, "nothing says what the classes of scenes are: write scenes/classes.txt, a line for each value", "the first masks hold 0, 1, 2, 3, 255", make=scenes(lambda root: (root / "classes.txt").unlink())),
    case("images with masks: a file of classes that is not there", f"{MASKED} --class-file=mine.txt", "there is no file of classes mine.txt", make=scenes()),
    case("images with masks: a file of classes of one class", MASKED, "scenes/classes.txt: 2 to 255 classes are needed, not 1: sky", make=scenes(lambda root: (root / "classes.txt").write_text("sky\n"))),
    case("images with masks: a file of classes with a bad color", MASKED, "line 2 of scenes/classes.txt: a color is #rrggbb or three numbers from 0 to 255, not '300 0 0'", make=scenes(lambda root: (root / "classes.txt").write_text("sky\nroad 300 0 0\n"))),
    case("images with masks: a value twice", MASKED, "scenes/classes.txt: two lines are for the value 1", make=scenes(lambda root: (root / "classes.txt").write_text("1: sky\n1: road\n"))),
    case("images with masks: a missing mask", MASKED, "1 image has no mask in scenes/train/masks; add it, or remove the image: scenes/train/images/2.png", make=scenes(lambda root: (root / "train/masks/2.png").unlink())),
    case("images with masks: a missing image", MASKED, "1 mask has no image in scenes/train/images; add it, or remove the mask: scenes/train/masks/2.png", make=scenes(lambda root: (root / "train/images/2.png").unlink())),
    case("images with masks: no pair at all", MASKED, "there is no pair in scenes/train/images and scenes/train/masks: no mask has the name of an image", make=scenes(lambda root: [path.rename(path.with_name(f"x{path.name}")) for path in list((root / "train/masks").iterdir())])),
    case("images with masks: no masks", MASKED, "there are no masks in scenes/train/masks", make=scenes(lambda root: [path.unlink() for path in (root / "train/masks").iterdir()])),
    case("images with masks: two images of one name", MASKED, "scenes/train/images/0.bmp and scenes/train/images/0.png have one name; keep one of them", make=scenes(lambda root: shutil.copy(root / "train/images/0.png", root / "train/images/0.bmp"))),
    case("images with masks: a mask of another size", MASKED, "mask scenes/train/masks/1.png has 9×9 pixels, its image scenes/train/images/1.png 72×48; make every mask as large as its image", make=scenes(lambda root: Image.new("L", (9, 9)).save(root / "train/masks/1.png"))),
    case("images with masks: values outside of the classes", MASKED, "masks/0.png: it holds values of no class: 7 (3,456 pixels); the classes have the values 0–3, 255: add a line", "unusable pairs: 4", make=masks_of(7), code=0),
    case("images with masks: all void", MASKED, "masks that are void, every pixel ignored: 4, of scenes/train/images/0.png", "the train part: every pixel is void; two classes are needed", make=masks_of(255), code=0),
    case("images with masks: one class only", MASKED, "the train part: every pixel is of one class, 'ball'; two classes are needed", make=masks_of(2), code=0),
    case("images with masks: findings, strict", f"{MASKED} --strict", "findings (--strict)", make=masks_of(2)),
    case("images with masks: RGB masks", MASKED, "masks/0.png: it is a color picture (RGB), not one of class indices; give every class its color in the file of classes and add --palette, or save it as gray or palette PNG", make=masks_of("red"), code=0),
    case("images with masks: RGB masks, converted", f"{MASKED} --palette", "unusable pairs: 0", make=scenes(lambda root: (root / "classes.txt").write_text((root / "classes.txt").read_text() + "ignore #000000\n"), kind="colors"), code=0),
    case("images with masks: RGB masks of unknown colors", f"{MASKED} --palette", "masks/0.png: it holds colors of no class: #ff0000 (3,456 pixels); add a line with the name of its class, or ignore, and the color", make=masks_of("red"), code=0),
    case("images with masks: no colors to convert by", f"{MASKED} --palette", "masks cannot be converted by colors: sky, ground has none; write 'sky #rrggbb' into the file of classes", make=scenes(lambda root: (root / "classes.txt").write_text("sky\nground\n"))),
    case("images with masks: a truncated mask", MASKED, "cannot read mask scenes/train/masks/0.png: ", "unusable pairs: 1", make=scenes(lambda root: (root / "train/masks/0.png").write_bytes((root / "train/masks/0.png").read_bytes()[:80])), code=0),
    case("images with masks: a JPEG for a mask", MASKED, "masks/0.jpg: it is a JPEG, which blurs values where classes meet; save masks as PNG", make=scenes(lambda root: (Image.open(root / "train/masks/0.png").convert("L").save(root / "train/masks/0.jpg"), (root / "train/masks/0.png").unlink())), code=0),
    case("a segmenter: an image without a mask", SEGMENT, "1 image has no mask in scenes/train/masks; add it, or remove the image: scenes/train/images/2.png", make=scenes(lambda root: (root / "train/masks/2.png").unlink())),
    case("a segmenter: RGB masks", SEGMENT, "it is a color picture (RGB), not one of class indices; give every class its color in the file of classes and add --palette", make=masks_of("red")),
    case("a segmenter: values outside of the classes", SEGMENT, "masks/0.png: it holds values of no class: 7 (3,456 pixels)", make=masks_of(7)),
    case("a segmenter: all void", SEGMENT, "scenes: every pixel is void; two classes are needed", make=masks_of(255)),
    case("a segmenter: one class only", SEGMENT, "scenes: every pixel is of one class, 'ball'; two classes are needed", make=masks_of(2)),
    case("a segmenter: void masks to judge by", SEGMENT, "scenes, validation: every pixel is void; two classes are needed", make=masks_of(255, "val")),
    case("a segmenter: RGB masks to judge by", SEGMENT, "scenes/val/masks/0.png: it is a color picture (RGB)", make=masks_of("red", "val")),
    case("a segmenter: an unknown decoder", f"{SEGMENT} --segmentation.decoder=upperned", "upperned", "upernet", make=scenes()),
    case("a segmenter: a crop of nothing", f"{SEGMENT} --segmentation.crop=[0,48]", "crop", "0", make=scenes()),
    case("a segmenter: folders of classes", SEGMENT.replace("scenes", "good"), "good"),
    case("a segmenter that classifies: images with masks", f"train scenes --output=run {TRAIN}", "scenes holds images and masks, not folders of classes; these are for --task segmentation", make=scenes()),
    case("judged on masks: a classifier", "eval model scenes", "scenes holds images and masks, not folders of classes", make=scenes()),
    case("judged on masks: classes that the model does not know", "eval segmenter scenes", "ball, box", make=segmenter(("sky", "ground"))),
    case("judged on masks: an image without a mask", "eval segmenter scenes", "1 image has no mask in scenes/val/masks", make=segmenter(damage=lambda root: (root / "val/masks/1.png").unlink())),
    case("judged on masks: RGB masks", "eval segmenter scenes", "it is a color picture (RGB), not one of class indices; give every class its color in the file of classes and add --palette", "1 unreadable", make=segmenter(damage=lambda root: Image.open(root / "val/masks/0.png").convert("RGB").save(root / "val/masks/0.png")), code=0),
    case("judged on masks: all void", "eval segmenter scenes", "none of the 3 images can be judged: every pixel of their masks is ignored", make=all_of(segmenter(), masks_of(255, "val"))),
    case("segmented: a window of nothing", "predict segmenter scenes/val/images --window=0", "window", "0", make=segmenter()),
    case("segmented: a stride beyond the window", "predict segmenter scenes/val/images --window=32 --stride=40", "stride", "40", make=segmenter()),
    case("segmented: scales of nothing", "predict segmenter scenes/val/images --scales=[0]", "scales", "0", make=segmenter()),
    case("segmented: a file that is no image", "predict segmenter file --strict", "cannot read image file", make=segmenter()),
]  # fmt: skip

CASES = [*IMAGES, *NAMES, *DATA, *PAIRS, *PLACES, *MACHINE, *MODELS, *EXPORT, *WORDS, *PROCESSES]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    import volo.training.run  # noqa: F401  # before a case takes the right to read from this process

    root = tmp_path_factory.mktemp("world")
    make_world(root)
    return root


@pytest.fixture
def here(world, tmp_path, monkeypatch):
    """The folder of one case, current."""
    shutil.copytree(world, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def contents(folder):
    """What lies in a folder: path → what it holds."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        found[name] = path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
    return found


def in_a_shell(command):
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


def test_names_tell_the_cases_apart():
    assert len({case.name for case in CASES}) == len(CASES) > 60


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.slow else []) for case in CASES]
)
def test_one_clear_line_and_nothing_half_written(case, here, capfd):
    with ExitStack() as stack:
        start = case.make(stack)
        before = contents(here)
        if start is not None:
            start()
        code = in_a_shell(case.command) if case in PROCESSES else main(shlex.split(case.command))
    out, err = capfd.readouterr()
    assert code == case.code, out + err
    assert "Traceback" not in out + err
    assert_one_clear_line(case, out, err)
    after = contents(here)
    assert {name: after.get(name) for name in before} == before
    new = after.keys() - before.keys()
    assert not [name for name in new if TEMPORARY.fullmatch(Path(name).name)]
    assert not [name for name in new if not any(fnmatch(name, pattern) for pattern in case.leaves)]
    assert all(any(fnmatch(name, pattern) for name in new) for pattern in case.leaves)


def assert_one_clear_line(case, out, err):
    complaints = [line for line in err.splitlines() if not line.startswith(REMARKS)]
    if case.code in (0, 141):  # the work went on, or nobody is there to be told
        assert not complaints
        told = out + err
    else:
        assert len(complaints) == 1, err
        told = complaints[0]
        assert told.startswith(("interrupted", "stopped") if case.code == 130 else ("volo ", "error")), err
    for words in case.says:
        assert words in told
