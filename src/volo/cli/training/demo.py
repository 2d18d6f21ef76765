"""``volo demo``: the main job on what the package carries, from nothing to pictures."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from volo.cli.inference import eval as eval_verb
from volo.cli.inference import predict
from volo.cli.training import compare, train
from volo.cli.ui.parser import VerbParser, parse
from volo.data import open_validation_data
from volo.data.embedded import PHOTOS, photo_folder
from volo.files import check_writable_folder
from volo.inference import Predictor

DATA = "fashion-mini"
#: The weights that name the photos; the second recipe begins from them.
DEMO_WEIGHTS = "volo_tiny_32.cifar10"
#: Folder of a run → its recipe.
RUNS = {"from-scratch": "fashion-mini", "fine-tuned": "fashion-mini-transfer"}


def run(arguments: Sequence[str]) -> int:
    """Name photos by the weights of the package, train with and without them, judge, predict, and draw it all."""
    parser = VerbParser(
        prog="volo demo",
        description="Name photos by the model in the package; train on the embedded data, from nothing and from that "
        "model; compare, judge, predict, and draw pictures of it all.",
    )
    parser.add_argument("--output", default="runs/demo", help="folder for everything")
    parser.add_argument("--epochs", type=int | None, help="fewer are faster and worse; default: the recipes'")
    given = parse(parser, arguments)
    folder = Path(given["output"])
    check_writable_folder(folder)
    runs = {name: folder / name for name in RUNS}

    name_photos(folder)
    shorter = [] if given["epochs"] is None else [f"--epochs={given['epochs']}", "--optim.warmup_epochs=0"]
    for name, recipe in RUNS.items():
        code = train.run(["--recipe", recipe, f"--output={runs[name]}", *shorter])
        if code:
            return code
    compare.run([*map(str, runs.values()), f"--output={folder / 'curves.png'}"])
    tuned = runs["fine-tuned"]
    eval_verb.run([str(tuned), DATA])
    samples = _write_samples(folder / "samples")
    predict.run([str(tuned), str(samples)])
    print(f"photos named:      {folder / 'photos.png'}")
    print(f"both trainings:    {folder / 'curves.png'}")
    print(f"the tuned model:   {tuned / 'model.safetensors'}, at a glance {tuned / 'summary.png'}")
    print(f"use it:            volo predict {tuned} {samples}")
    print(f"or the package's:  volo predict {folder / 'photos'} --model {DEMO_WEIGHTS}")
    return 0


def name_photos(folder: Path) -> None:
    """Let the weights of the package name the photos that lie beside them, in a table and a picture."""
    photos = folder / "photos"
    shutil.copytree(photo_folder(), photos, dirs_exist_ok=True)
    predict.run([str(photos), f"--model={DEMO_WEIGHTS}"])

    from volo.evaluation.plots import draw_answers

    draw_answers(
        Predictor(DEMO_WEIGHTS), [photos / name for name in PHOTOS], list(PHOTOS.values()), folder / "photos.png"
    )


def _write_samples(folder: Path) -> Path:
    """Ten validation images as files, one of each class, named after it."""
    images = open_validation_data(DATA)
    folder.mkdir(exist_ok=True)
    for label, name in enumerate(images.class_names):
        first = list(images.labels).index(label)
        images.read(first).save(folder / f"{name.replace('/', '-').replace(' ', '_').lower()}.png")
    return folder
