"""``volo demo``: the main job on the embedded data, from nothing to a picture."""

from collections.abc import Sequence
from pathlib import Path

from volo.cli import eval as eval_verb
from volo.cli import predict, train
from volo.cli.parser import VerbParser, parse
from volo.data import open_validation_data

DATA = "fashion-mini"


def run(arguments: Sequence[str]) -> int:
    """Train by the recipe ``fashion-mini``, judge, predict some files, and say where the picture is."""
    parser = VerbParser(
        prog="volo demo", description="Train on the embedded data, judge, predict, and draw a picture of it all."
    )
    parser.add_argument("--output", default="runs/demo", help="run folder")
    parser.add_argument("--epochs", type=int | None, help="fewer are faster and worse; default: the recipe's")
    given = parse(parser, arguments)
    folder = Path(given["output"])

    shorter = [] if given["epochs"] is None else [f"--epochs={given['epochs']}", "--optim.warmup_epochs=0"]
    code = train.run(["--recipe", DATA, f"--output={folder}", *shorter])
    if code:
        return code
    eval_verb.run([str(folder), DATA])
    samples = _write_samples(folder / "samples")
    predict.run([str(folder), str(samples)])
    print(f"the picture:   {folder / 'summary.png'}")
    print(f"the model:     {folder / 'model.safetensors'} with {folder / 'config.json'}")
    print(f"everything:    {folder}")
    print(f"use it:        volo predict {folder} {samples}")
    return 0


def _write_samples(folder: Path) -> Path:
    """Ten validation images as files, one of each class, named after it."""
    images = open_validation_data(DATA)
    folder.mkdir(exist_ok=True)
    for label, name in enumerate(images.class_names):
        first = list(images.labels).index(label)
        images.read(first).save(folder / f"{name.replace('/', '-').replace(' ', '_').lower()}.png")
    return folder
