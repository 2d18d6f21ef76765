"""``volo demo``: everything at once on the data of the package, from training to pictures."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from volo.cli.inference import eval as eval_verb
from volo.cli.inference import predict
from volo.cli.training import compare, train
from volo.cli.ui.parser import VerbParser, parse
from volo.cli.ui.terminal import say
from volo.data import open_validation_data
from volo.data.embedded import PHOTOS, photo_folder
from volo.inference import Predictor
from volo.messages import quoted
from volo.outputs import check_output_folder, is_own_folder, own_folder
from volo.training.config import RUN_CONFIG_FILE

DATA = "fashion-mini"
#: The weights that classify the photos; the second recipe starts from them.
DEMO_WEIGHTS = "volo_tiny_32.cifar10"
#: Folder of a run → its recipe.
RUNS = {"from-scratch": "fashion-mini", "fine-tuned": "fashion-mini-transfer"}


def run(arguments: Sequence[str]) -> int:
    """Classify photos with the weights of the package, train with and without them, evaluate, predict, and draw it."""
    options = parse(parser(), arguments)
    folder = Path(options["output"])
    names = ["photos.png", "curves.png", "curves.json", *(f"photos/{name}" for name in PHOTOS)]
    check_output_folder(folder, names, overwrite=is_own_folder(folder, "demo"))
    runs = {name: folder / name for name in RUNS}

    with own_folder(folder, "demo"):
        classify_photos(folder)
    shorter = [] if options["epochs"] is None else [f"--epochs={options['epochs']}"]
    for name, recipe in RUNS.items():
        # A second demonstration goes on with the runs of the first, or, if they are finished, evaluates them again.
        start = ["--resume", str(runs[name])] if (runs[name] / RUN_CONFIG_FILE).exists() else [f"--output={runs[name]}"]
        code = train.run(["--recipe", recipe, *start, *shorter])
        if code:
            return code
    compare.run([*map(str, runs.values()), f"--output={folder / 'curves.png'}", "--overwrite"])
    tuned = runs["fine-tuned"]
    eval_verb.run([str(tuned), DATA])
    samples = _write_samples(folder / "samples")
    predict.run([str(tuned), str(samples)])
    say(f"classified photos:   {folder / 'photos.png'}")
    say(f"both trainings:      {folder / 'curves.png'}")
    say(f"the tuned model:     {tuned / 'model.safetensors'}, its summary {tuned / 'summary.png'}")
    say(f"use it:              volo predict {quoted(tuned)} {quoted(samples)}")
    say(f"or the package's:    volo predict {quoted(folder / 'photos')} --model {DEMO_WEIGHTS}")
    return 0


def parser() -> VerbParser:
    """Return the parser of ``volo demo``."""
    parser = VerbParser(
        prog="volo demo",
        usage="[options]",
        description="Classify photos with the model in the package; train on the embedded data, from scratch and from "
        "that model; compare, evaluate, predict, and draw pictures of it all.",
    )
    parser.add_argument("--output", metavar="DIR", default="runs/demo", help="folder for everything")
    parser.add_argument("--epochs", type=int | None, help="fewer are faster and worse (default: those of the recipes)")
    return parser


def classify_photos(folder: Path) -> None:
    """Classify the photos of the package with its weights, and write a picture of the answers."""
    photos = folder / "photos"
    shutil.copytree(photo_folder(), photos, dirs_exist_ok=True)
    predict.run([str(photos), f"--model={DEMO_WEIGHTS}"])

    from volo.evaluation.plots import draw_answers

    answers = folder / "photos.png"
    draw_answers(Predictor(DEMO_WEIGHTS), [photos / name for name in PHOTOS], list(PHOTOS.values()), answers)


def _write_samples(folder: Path) -> Path:
    """Write one validation image of each class, named after it. Returns the folder."""
    images = open_validation_data(DATA)
    folder.mkdir(exist_ok=True)
    for label, name in enumerate(images.class_names):
        first = list(images.labels).index(label)
        images.read(first).save(folder / f"{name.replace('/', '-').replace(' ', '_').lower()}.png")
    return folder
