"""Make the weights that come with the package, their card and its pictures from a finished run on CIFAR-10.

    python tools/make_shipped_model.py RUN DATA

RUN is the folder of a run of ``volo train DATA``, DATA a folder with ``train/<class>`` and ``val/<class>``. Where the
run began with the weights of another run's folder, the card tells of both. It writes
``src/volo/models/weights/shipped/<name>/`` (float16 ``model.safetensors``, ``config.json``, the card ``README.md``)
and ``docs/<name>/`` (``curves.png``, ``confusion.png``, ``reliability.png``). Every score is of the float16 file.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from volo.data import open_parts, open_validation_data
from volo.evaluation.classification import Evaluation, evaluate
from volo.evaluation.metrics import BINS, SCORE_NAMES, calibration_bins
from volo.evaluation.plots import draw_confusion, draw_reliability
from volo.inference import Predictor
from volo.models import VARIANTS, TrainedModel, load_model
from volo.models.weights.identify import identify
from volo.models.weights.model_folder import WEIGHTS_FILE
from volo.training.config import RUN_CONFIG_FILE, TrainConfig
from volo.training.reports.compare import RunRecord, read_run
from volo.training.reports.curves import draw_curves

ROOT = Path(__file__).parents[1]
LARGEST = 8_000_000  # bytes
TAG, LICENCE = "cifar10", "apache-2.0"
#: The recipes of a run from nothing, and of one that goes on from another's weights.
RECIPE, AGAIN = f"{TAG}-tiny", f"{TAG}-tiny-again"
#: Rows of the table that is the curve.
ROWS = 12
#: Settings that tell of a machine, not of a recipe.
PLACES = {"output", "data.path", "data.workers", "data.root", "accelerator", "checkpoint_minutes"}
#: Settings that name a file → what docs/shipped-model.md calls it.
FILES = {"data.token_labels": "LABELS", "model.pretrained": "FIRST"}

NOTES = """## Data

CIFAR-10 (Alex Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009): photos of 32×32 pixels of ten
kinds of things, here in a copy as JPEG files of quality 75. Of its training images the last 500 files of every class
were held out ({held_out:,}); the other {trained_on:,} were trained on. The held-out images never trained the model, but
they chose its best epoch, so its scores are a little better than they would be on images that nobody has looked at.
CIFAR-10's own 10,000 test images were not used at all.

## Recipe

{teacher}{recipe}
The weights are those of epoch {best}, rounded to 16 bits in the file; they are widened to 32 bits when they are read.

## Scores

`volo eval {name} DATA`, on the {held_out:,} held-out images, of the 16-bit file:

{scores}

By chance alone the calibration error of a perfectly calibrated model stays below {chance:.2%}.

## Training curve

{curve}

## Confusion matrix

A row for each true class, a column for each answer; images of which the model said so.

{confusion}

## Calibration

How often answers of each probability are right. `mean` is the mean probability that the model gave them.

{calibration}

## Limits, and what it must not be used for

- It always names one of its ten classes: a cup of coffee gets one of them too, at times with a high probability. A low
  probability is no sign of a strange image, and a high one no proof of a known image.
- It sees 32×32 pixels: of a larger photo the center square, made smaller. What is small in the photo, or beside its
  center, is not seen. Its training photos show one thing each, large and in the middle.
- CIFAR-10's images were gathered from the web around 2008 by English search words. Kinds of animals, vehicles, places
  and views that were rare there are named worse. Nothing was measured on other photos.
- It is for learning, for tests and demonstrations, and as a beginning for fine-tuning on small images. It must not be
  used where a wrong answer harms anybody: not in traffic, medicine, security or surveillance, not to judge or to
  identify people (none of its classes is a person), and not to decide without a human about anything that matters.

## License

The weights are under the Apache License 2.0, like the package. CIFAR-10 has no license of its own; its author asks to
cite the report named above.
"""


TEACHER = """Every token learned a label of its own, given by a teacher that was trained on the same training images and
never saw the held-out ones: `python benchmarks/evidence.py teacher --data DATA --out OUT` trains it and writes the
labels.

"""
STAGE = """`volo train DATA --recipe {recipe}`, {epochs} epochs in {time} of training{processes}. What differs from the
defaults:

```yaml
{settings}```
"""


@dataclass(frozen=True)
class Stage:
    """A run that led to the weights.

    Attributes:
        recipe: of the package, which it followed.
        config: what it was trained with.
        course: what came of it.
    """

    recipe: str
    config: TrainConfig
    course: RunRecord

    def __str__(self) -> str:
        return STAGE.format(
            recipe=self.recipe,
            epochs=len(self.course.rows),
            time=timedelta(seconds=round(self.course.seconds)),
            processes=f" by {self.config.devices} processes" if self.config.devices not in ("auto", 1) else "",
            settings="".join(f"{name}: {json.dumps(value)}\n" for name, value in unusual(self.config).items()),
        )


def stages(run: Path) -> list[Stage]:
    """The run, and before it the one whose weights it began with, and so on."""
    config, course = TrainConfig.load(run / RUN_CONFIG_FILE), read_run(run, run.name)
    if not course.best:
        raise ValueError(f"{run} has no epoch yet; let it come to its end")
    before = config.model.pretrained
    earlier = stages(Path(before)) if before and Path(before, RUN_CONFIG_FILE).is_file() else []
    return [*earlier, Stage(AGAIN if earlier else RECIPE, config, course)]


def whole_course(runs: Sequence[Stage]) -> list[dict[str, float]]:
    """The epochs of all runs, numbered through."""
    rows: list[dict[str, float]] = []
    for stage in runs:
        done = len(rows)
        rows += [{**row, "epoch": row["epoch"] + done} for row in stage.course.rows]
    return rows


def main() -> None:
    """Write everything, or say in one line why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("data", help="the folder it was trained on")
    parser.add_argument("--root", type=Path, default=ROOT, help="where src/ and docs/ are")
    options = parser.parse_args()
    try:
        make(options.run, options.data, options.root)
    except ValueError as error:
        sys.exit(str(error))


def make(run: Path, data: str, root: Path) -> None:
    """Write weights, card and pictures; nothing before all of it is known to be right."""
    runs = stages(run)
    rows, config, course = whole_course(runs), runs[-1].config, runs[-1].course
    if Path(config.data.path).resolve() != Path(data).resolve():
        print(f"warning: the run was trained on {config.data.path}: are the images judged here held out from it?")
    trained = halved(load_model(run))
    name = f"{variant(trained)}.{TAG}"
    images = open_validation_data(data)
    with TemporaryDirectory() as folder:
        trained.save_pretrained(Path(folder) / name)
        size = (Path(folder) / name / WEIGHTS_FILE).stat().st_size
        if size > LARGEST:
            raise ValueError(f"{WEIGHTS_FILE} is of {size:,} bytes; at most {LARGEST:,} may be shipped")
        result = evaluate(Predictor(Path(folder) / name), images)
    notes = NOTES.format(
        name=name,
        recipe="\n".join(map(str, runs)),
        teacher=TEACHER if config.data.token_labels else "",
        best=f"{course.best['epoch'] + len(rows) - len(course.rows):.0f} of {len(rows)}",
        trained_on=len(open_parts(data)["train"]().labels),
        held_out=len(result.labels),
        scores=table(("score", "value", "95 % interval"), scores(result)),
        chance=result.chance_calibration_error,
        curve=table(("epoch", "training loss", "validation loss", "validation top-1"), curve(rows)),
        confusion=table(("", *result.class_names), confusion(result)),
        calibration=table(("probability", "images", "mean", "right"), calibration(result)),
    )
    folder, pictures = root / "src/volo/models/weights/shipped" / name, root / "docs" / name
    trained.save_pretrained(folder, results=result.summary(), license=LICENCE, notes=notes)
    pictures.mkdir(parents=True, exist_ok=True)
    draw_curves(rows, pictures / "curves.png")
    draw_confusion(result, pictures / "confusion.png")
    draw_reliability(result, pictures / "reliability.png")
    print(f"{name}: {size:,} bytes, top-1 {result.top1:.2%} on {len(result.labels):,} images; in {folder}, {pictures}")


def halved(trained: TrainedModel) -> TrainedModel:
    """The model with its weights in 16 bits."""
    trained.model.half()
    if large := [key for key, value in trained.model.state_dict().items() if not value.isfinite().all()]:
        raise ValueError(f"{large[0]} has values that are not finite in 16 bits")
    return trained


def variant(trained: TrainedModel) -> str:
    """The name of the model's size."""
    config = trained.model.config
    names = identify(trained.model.state_dict(), described=config).names
    if not names or VARIANTS[names[0]].img_size != config.img_size:
        raise ValueError(f"no size in models/config.py is this model; add a row to VARIANTS: {config}")
    return names[0]


def unusual(config: TrainConfig) -> dict[str, Any]:
    """The settings that differ from the defaults and do not tell of the machine: dotted name → value."""
    chosen = {name: mine for name, (mine, _) in config.differences(asdict(TrainConfig())).items() if name not in PLACES}
    return {name: FILES.get(name, value) for name, value in chosen.items()}


def scores(result: Evaluation) -> Iterator[Sequence[str]]:
    """A row for each score with its interval."""
    for key, what in SCORE_NAMES.items():
        if result.scores[key] is None:  # top-5 of five classes or fewer
            continue
        ends = result.intervals[key]
        yield what, f"{result.scores[key]:.2%}", f"{ends[0]:.2%} to {ends[1]:.2%}" if ends else ""
    yield "cross-entropy", f"{result.loss:.4f}", ""


def curve(rows: Sequence[Mapping[str, float]]) -> Iterator[Sequence[str]]:
    """Some epochs, evenly spaced, the first and the last among them."""
    for place in np.unique(np.linspace(0, len(rows) - 1, ROWS).round().astype(int)):
        row = rows[place]
        yield f"{row['epoch']:.0f}", f"{row['train_loss']:.3f}", f"{row['val_loss']:.3f}", f"{row['val_top1']:.2%}"


def confusion(result: Evaluation) -> Iterator[Sequence[str]]:
    """The counts, a row for each true class."""
    for name, counts in zip(result.class_names, result.confusion, strict=True):
        yield f"**{name}**", *(str(count) if count else "·" for count in counts)


def calibration(result: Evaluation) -> Iterator[Sequence[str]]:
    """A row for each bin of probability that has images."""
    bins = calibration_bins(result.probability, result.right)
    for place in np.flatnonzero(bins.images):
        ends = f"{place / BINS:.0%} to {(place + 1) / BINS:.0%}"
        yield ends, f"{bins.images[place]:,}", f"{bins.probability[place]:.1%}", f"{bins.right[place]:.1%}"


def table(header: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left, the others to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


if __name__ == "__main__":
    main()
