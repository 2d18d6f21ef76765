"""Write the weights that come with the package, their model card and its plots, from a finished run on CIFAR-10.

    python tools/make_shipped_model.py RUN DATA

RUN is the run folder of ``volo train DATA``; DATA is a folder with ``train/<class>`` and ``val/<class>``. If the run
started with the weights of another run folder, the card describes both runs. The script writes
``src/volo/models/weights/shipped/<name>/`` (float16 ``model.safetensors``, ``config.json``, the card ``README.md``)
and ``docs/<name>/`` (``curves.png``, ``confusion.png``, ``reliability.png``). All scores are those of the float16 file.
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

from volo.data import open_splits, open_validation_data
from volo.evaluation.classification import Evaluation, evaluate
from volo.evaluation.metrics import BINS, calibration_bins
from volo.evaluation.plots import draw_confusion, draw_reliability
from volo.inference import Predictor
from volo.models import VARIANTS, TrainedModel, load_model
from volo.models.weights.identify import identify
from volo.models.weights.model_folder import WEIGHTS_FILE
from volo.training.config import RUN_CONFIG_FILE, TrainConfig
from volo.training.reports.compare import RunRecord, read_run
from volo.training.reports.curves import draw_curves

ROOT = Path(__file__).parents[1]
LARGEST = 8_000_000  # bytes; a larger file is not shipped
TAG, LICENCE = "cifar10", "apache-2.0"
#: The recipes of a run from scratch, and of a run that starts with another run's weights.
RECIPE, AGAIN = f"{TAG}-tiny", f"{TAG}-tiny-again"
#: Rows of the table of the training curve.
ROWS = 12
#: Settings that depend on the machine, not on the recipe.
MACHINE_SETTINGS = {"output", "data.path", "data.workers", "data.root", "accelerator", "checkpoint_minutes"}
#: Settings that are paths → their placeholders in docs/shipped-model.md.
FILES = {"data.token_labels": "LABELS", "model.pretrained": "FIRST"}

NOTES = """## Data

CIFAR-10 (Alex Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009): photos of 32×32 pixels of ten
kinds of objects, here in a copy as JPEG files of quality 75. Of its training images, the last 500 files of every class
were held out ({held_out:,}); the other {trained_on:,} were trained on. The model was never trained on the held-out
images, but its best epoch was chosen on them, so its scores are slightly higher than on images that were not used at
all. CIFAR-10's own 10,000 test images were not used.

## Recipe

{teacher}{recipe}
The weights are those of epoch {best}, rounded to 16 bits in the file; they are widened to 32 bits when they are read.

## Scores

`volo eval {name} DATA`, on the {held_out:,} held-out images, of the 16-bit file:

{scores}

By chance alone, the calibration error of a perfectly calibrated model stays below {chance:.2%}.

## Training curve

{curve}

## Confusion matrix

Number of images for each true class (row) and predicted class (column).

{confusion}

## Calibration

The share of correct predictions in each range of probability; `mean` is the mean probability that the model gave them.

{calibration}

## Limits, and uses that are ruled out

- The model always predicts one of its ten classes: a cup of coffee gets one of them too, sometimes with a high
  probability. A low probability does not prove that an image is of another kind, and a high one does not prove that it
  is not.
- The model sees 32×32 pixels: the center square of a larger photo, made smaller. It does not see small objects, nor
  objects outside the square. Its training photos show one object each, large and in the middle.
- CIFAR-10's images were collected from the web around 2008 with English search words. The model is worse on kinds of
  animals, vehicles, places and views that were rare there. Nothing was measured on other photos.
- The model is for learning, for tests and demonstrations, and as a start for fine-tuning on small images. Do not use it
  where a wrong prediction can harm anybody: not in traffic, medicine, security or surveillance, not to evaluate or
  identify people (none of its classes is a person), and not for decisions of importance without a human.

## License

The weights are under the Apache License 2.0, like the package. CIFAR-10 has no license of its own; its author asks for
a citation of the report named above.
"""


TEACHER = """\
Every token was trained with a label of its own. A teacher predicted these labels; it was trained on the same training
images and never saw the held-out ones. `python benchmarks/evidence.py teacher --data DATA --out OUT` trains the teacher
and writes the labels.

"""
STAGE = """\
`volo train DATA --recipe {recipe}`, {epochs} epochs in {time} of training{processes}.
Settings that differ from the defaults:

```yaml
{settings}```
"""


@dataclass(frozen=True)
class Stage:
    """One of the runs that led to the weights.

    Attributes:
        recipe: the recipe of the package.
        config: the configuration of the run.
        record: the results of its epochs.
    """

    recipe: str
    config: TrainConfig
    record: RunRecord

    def __str__(self) -> str:
        return STAGE.format(
            recipe=self.recipe,
            epochs=len(self.record.rows),
            time=timedelta(seconds=round(self.record.seconds)),
            processes=f" by {self.config.devices} processes" if self.config.devices not in ("auto", 1) else "",
            settings="".join(f"{name}: {json.dumps(value)}\n" for name, value in changed_settings(self.config).items()),
        )


def stages(run: Path) -> list[Stage]:
    """Return the run after the runs whose weights it started with, the earliest first.

    Raises:
        ValueError: A run has no finished epoch.
    """
    config, record = TrainConfig.load(run / RUN_CONFIG_FILE), read_run(run, run.name)
    if not record.best:
        raise ValueError(f"{run} has no finished epoch yet; let the run finish first")
    before = config.model.pretrained
    earlier = stages(Path(before)) if before and Path(before, RUN_CONFIG_FILE).is_file() else []
    return [*earlier, Stage(AGAIN if earlier else RECIPE, config, record)]


def all_epochs(runs: Sequence[Stage]) -> list[dict[str, float]]:
    """Return the rows of all epochs of all runs, with continuous epoch numbers."""
    rows: list[dict[str, float]] = []
    for stage in runs:
        done = len(rows)
        rows += [{**row, "epoch": row["epoch"] + done} for row in stage.record.rows]
    return rows


def main() -> None:
    """Write all files, or exit with an error message."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("data", help="the folder that the run was trained on")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder with src/ and docs/")
    options = parser.parse_args()
    try:
        make(options.run, options.data, options.root)
    except ValueError as error:
        sys.exit(str(error))


def make(run: Path, data: str, root: Path) -> None:
    """Write weights, card and plots, after everything has been computed and checked.

    Args:
        run: the run folder.
        data: the folder that the run was trained on.
        root: the folder with src/ and docs/.

    Raises:
        ValueError: The run has no finished epoch, or its model cannot be shipped.
    """
    runs = stages(run)
    rows, config, record = all_epochs(runs), runs[-1].config, runs[-1].record
    if Path(config.data.path).resolve() != Path(data).resolve():
        print(
            f"warning: the run was trained on {config.data.path}: "
            f"make sure that it did not train on the images of {data}"
        )
    trained = to_float16(load_model(run))
    name = f"{variant(trained)}.{TAG}"
    images = open_validation_data(data)
    with TemporaryDirectory() as folder:
        trained.save_pretrained(Path(folder) / name)
        size = (Path(folder) / name / WEIGHTS_FILE).stat().st_size
        if size > LARGEST:
            raise ValueError(f"{WEIGHTS_FILE} has {size:,} bytes; at most {LARGEST:,} can be shipped")
        result = evaluate(Predictor(Path(folder) / name), images)
    notes = NOTES.format(
        name=name,
        recipe="\n".join(map(str, runs)),
        teacher=TEACHER if config.data.token_labels else "",
        best=f"{record.best['epoch'] + len(rows) - len(record.rows):.0f} of {len(rows)}",
        trained_on=len(open_splits(data)["train"]().labels),
        held_out=len(result.labels),
        scores=table(("score", "value", "95 % interval"), scores(result)),
        chance=result.chance_calibration_error,
        curve=table(("epoch", "training loss", "validation loss", "validation top-1"), curve(rows)),
        confusion=table(("", *result.class_names), confusion(result)),
        calibration=table(("probability", "images", "mean", "correct"), calibration(result)),
    )
    folder, plots = root / "src/volo/models/weights/shipped" / name, root / "docs" / name
    trained.save_pretrained(folder, results=result.summary(), license=LICENCE, notes=notes)
    plots.mkdir(parents=True, exist_ok=True)
    draw_curves(rows, plots / "curves.png")
    draw_confusion(result, plots / "confusion.png")
    draw_reliability(result, plots / "reliability.png")
    print(f"{name}: {size:,} bytes, top-1 {result.top1:.2%} on {len(result.labels):,} images; in {folder}, {plots}")


def to_float16(trained: TrainedModel) -> TrainedModel:
    """Convert the model's weights to float16 in place, and return the model.

    Raises:
        ValueError: A weight is not finite in float16.
    """
    trained.model.half()
    if large := [key for key, value in trained.model.state_dict().items() if not value.isfinite().all()]:
        raise ValueError(f"{large[0]} has values that are not finite in 16 bits")
    return trained


def variant(trained: TrainedModel) -> str:
    """Return the name of the model's architecture.

    Raises:
        ValueError: No architecture in ``VARIANTS`` is this model's.
    """
    config = trained.model.config
    names = identify(trained.model.state_dict(), described=config).names
    if not names or VARIANTS[names[0]].img_size != config.img_size:
        raise ValueError(f"models/config.py has no variant with this configuration; add a row to VARIANTS: {config}")
    return names[0]


def changed_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that differ from the defaults, dotted name → value, except those of the machine."""
    changed = {
        name: value
        for name, (value, _) in config.differences(asdict(TrainConfig())).items()
        if name not in MACHINE_SETTINGS
    }
    return {name: FILES.get(name, value) for name, value in changed.items()}


def scores(result: Evaluation) -> Iterator[Sequence[str]]:
    """Yield a row for each score, with its interval."""
    for key, name in result.score_names.items():
        if result.scores[key] is None:  # top-5 of five classes or fewer
            continue
        ends = result.intervals[key]
        yield name, f"{result.scores[key]:.2%}", f"{ends[0]:.2%} to {ends[1]:.2%}" if ends else ""
    yield "cross-entropy", f"{result.loss:.4f}", ""


def curve(rows: Sequence[Mapping[str, float]]) -> Iterator[Sequence[str]]:
    """Yield rows for ``ROWS`` evenly spaced epochs, including the first and the last."""
    for index in np.unique(np.linspace(0, len(rows) - 1, ROWS).round().astype(int)):
        row = rows[index]
        yield f"{row['epoch']:.0f}", f"{row['train_loss']:.3f}", f"{row['val_loss']:.3f}", f"{row['val_top1']:.2%}"


def confusion(result: Evaluation) -> Iterator[Sequence[str]]:
    """Yield a row of counts for each true class."""
    for name, counts in zip(result.class_names, result.confusion, strict=True):
        yield f"**{name}**", *(str(count) if count else "·" for count in counts)


def calibration(result: Evaluation) -> Iterator[Sequence[str]]:
    """Yield a row for each probability bin that contains images."""
    bins = calibration_bins(result.probability, result.right)
    for index in np.flatnonzero(bins.images):
        ends = f"{index / BINS:.0%} to {(index + 1) / BINS:.0%}"
        yield ends, f"{bins.images[index]:,}", f"{bins.probability[index]:.1%}", f"{bins.right[index]:.1%}"


def table(header: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """Return a Markdown table with the first column left-aligned and the others right-aligned."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


if __name__ == "__main__":
    main()
