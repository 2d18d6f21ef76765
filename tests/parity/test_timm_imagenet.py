"""Evaluation on folders of ImageNet's classes: pixels, logits and scores equal those of timm's own pipeline."""

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import timm.data
import torch
from peers import randomize, timm_from_config
from PIL import Image
from timm.data import ImageNetInfo, RealLabelsImagenet, create_dataset, create_loader
from timm.utils import accuracy
from torch.testing import assert_close

from volo.data import EvalImages, Preprocessing, eval_loader, open_validation_data
from volo.evaluation.classification import evaluate
from volo.evaluation.imagenet import RealLabels, as_imagenet
from volo.imagenet import imagenet_names
from volo.inference import Predictor
from volo.models import VARIANTS, VOLO, save_model

#: timm's reader leaves it to Python to close the files.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

CONFIG = replace(VARIANTS["volo_micro_32"], num_classes=1000)
SYNSETS = ImageNetInfo().label_names()
CLASS_MAP = {synset: place for place, synset in enumerate(SYNSETS)}
CROPS = (0.96, 1.0, 1.15)


def picture(rng: np.random.Generator, path: Path, **options) -> None:
    """Write a JPEG of random shape; some are gray or CMYK, some are rotated by their EXIF orientation."""
    height, width = rng.integers(20, 90, 2)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((int(width), int(height)))
    exif = Image.Exif()
    exif[0x0112] = int(rng.choice([1, 3, 6]))
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse.convert(str(rng.choice(["RGB", "RGB", "L", "CMYK"]))).save(path, "JPEG", exif=exif)


@pytest.fixture(scope="module")
def val(tmp_path_factory) -> Path:
    """Write forty images of twenty of the 1000 classes, with ImageNet's file names."""
    root, rng = tmp_path_factory.mktemp("imagenet") / "val", np.random.default_rng(0)
    classes = rng.choice(1000, 20, replace=False)
    for number in range(40):
        picture(rng, root / SYNSETS[classes[number % 20]] / f"ILSVRC2012_val_{number + 1:08d}.JPEG")
    return root


@pytest.fixture(scope="module")
def models(tmp_path_factory, val):
    """Return our saved model and timm's with the same random weights, which do not predict one class for all images."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    ours = randomize(VOLO(CONFIG)).eval()
    torch.nn.init.normal_(ours.head.weight, std=0.05)
    theirs = timm_from_config(CONFIG).eval()
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        ours.head.bias -= timm_logits(theirs, val)[1].mean(dim=0)
    theirs.load_state_dict(ours.state_dict())
    settings = asdict(Preprocessing(size=CONFIG.img_size))
    save_model(folder, CONFIG, ours.state_dict(), class_names=imagenet_names(), preprocessing=settings)
    return Predictor(folder, device="cpu"), theirs


def timm_loader(root: Path, crop: float, class_map: dict | None = None, size: int = 32):
    dataset = create_dataset("", root=str(root), class_map=class_map)
    options = {"interpolation": "bicubic", "num_workers": 0, "device": torch.device("cpu")}
    return dataset, create_loader(dataset, (3, size, size), batch_size=16, crop_pct=crop, **options)


@torch.no_grad()
def timm_logits(model, root: Path, crop: float = 1.0, class_map: dict | None = None):
    """Return file names, logits and targets, computed like in timm's validate.py."""
    dataset, loader = timm_loader(root, crop, class_map)
    logits, targets = zip(*((model(images), target) for images, target in loader), strict=True)
    return dataset.filenames(basename=True), torch.cat(logits), torch.cat(targets)


def opened(root: Path):
    return as_imagenet(open_validation_data(str(root)), imagenet_names())


def of_timm(logits: torch.Tensor, targets: torch.Tensor) -> list[float]:
    return [float(value) / 100 for value in accuracy(logits, targets, topk=(1, 5))]


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("size", [32, 224])
def test_pixels_and_normalized_pixels_equal_timms_bit_for_bit(val, crop, size):
    preprocessing = Preprocessing(size=(size, size), crop_pct=crop)
    images = opened(val)
    (batch,) = eval_loader(EvalImages(images, preprocessing.pixels), batch_size=40, workers=0)
    assert not batch.problems
    mine = dict(zip((path.name for path in images.paths), preprocessing.normalize(batch.images), strict=True))
    dataset, loader = timm_loader(val, crop, size=size)
    theirs = torch.cat([tensors for tensors, _ in loader])
    for name, tensor in zip(dataset.filenames(basename=True), theirs, strict=True):
        assert torch.equal(mine[name], tensor), name


@pytest.mark.parametrize("crop", CROPS)
def test_logits_and_scores_are_timms(val, models, crop):
    predictor, theirs = models
    predictor = copy.copy(predictor)
    predictor.preprocessing = replace(predictor.preprocessing, crop_pct=crop)
    names, expected, targets = timm_logits(theirs, val, crop, CLASS_MAP)
    assert expected.std() > 0.1
    assert len(expected.argmax(dim=1).unique()) > 20
    images = opened(val)
    order = [names.index(path.name) for path in images.paths]
    (batch,) = eval_loader(EvalImages(images, predictor.preprocessing.pixels), batch_size=40, workers=0)
    assert_close(predictor.logits(batch.images), expected[order], atol=2e-5, rtol=0)

    result = evaluate(predictor, images, batch_size=16)
    assert result.labels.tolist() == targets[order].tolist()
    assert result.ranked.tolist() == expected[order].topk(5).indices.tolist()
    assert [result.top1, result.top5] == pytest.approx(of_timm(expected, targets))


def test_scores_on_the_real_labels_are_timms(val, models, tmp_path):
    predictor, theirs = models
    names, logits, _ = timm_logits(theirs, val)
    # Labels that the model finds first, later, and not; and none at all.
    ranked, rng = logits.topk(9).indices, np.random.default_rng(1)
    found = {name: row[rng.choice(9, 2)].tolist() for name, row in zip(names, ranked, strict=True)}
    labels = [[] if number % 7 == 0 else found[f"ILSVRC2012_val_{number + 1:08d}.JPEG"] for number in range(40)]
    (tmp_path / "real.json").write_text(json.dumps(labels))
    peer = RealLabelsImagenet(names, real_json=tmp_path / "real.json")
    peer.add_result(logits)
    images = opened(val)
    scores = RealLabels(tmp_path / "real.json", images).scores(evaluate(predictor, images))
    assert scores["real_images"] == 34
    assert 0 < scores["real_top1"] < scores["real_top5"] < 1
    assert [scores["real_top1"], scores["real_top5"]] == pytest.approx([peer.get_accuracy(k) / 100 for k in (1, 5)])


def test_numbered_folders_are_in_the_order_of_numbers(models, tmp_path):
    # ImageNet-V2: alphabetically 10 comes before 2.
    predictor, theirs = models
    rng = np.random.default_rng(2)
    for number, label in enumerate([0, 2, 10, 11, 100, 999, 1, 23]):
        picture(rng, tmp_path / str(label) / f"{number}.jpeg")
    names, logits, targets = timm_logits(theirs, tmp_path, class_map={str(place): place for place in range(1000)})
    # Half of the answers are made right: the images move into the folders of the classes that timm took them for.
    for name, answer in list(zip(names, logits.argmax(dim=1).tolist(), strict=True))[::2]:
        (moved,) = tmp_path.rglob(name)
        (tmp_path / str(answer)).mkdir(exist_ok=True)
        moved.rename(tmp_path / str(answer) / name)
    for folder in tmp_path.iterdir():
        if not any(folder.iterdir()):
            folder.rmdir()
    names, logits, targets = timm_logits(theirs, tmp_path, class_map={str(place): place for place in range(1000)})
    result = evaluate(predictor, opened(tmp_path))
    assert result.top1 == pytest.approx(of_timm(logits, targets)[0])
    assert result.top1 >= 0.5


@pytest.mark.parametrize("subset", ["imagenet_a", "imagenet_r"])
def test_predictions_among_the_folders_classes_only_have_timms_scores(subset, models, tmp_path):
    predictor, theirs = models
    info = Path(timm.data.__file__).parent / "_info"
    names = (info / f"{subset}_synsets.txt").read_text().split()
    places = [int(line) for line in (info / f"{subset}_indices.txt").read_text().split()]
    rng = np.random.default_rng(3)
    for number, synset in enumerate(names):
        picture(rng, tmp_path / synset / f"{number}.jpg")
    _, logits, targets = timm_logits(theirs, tmp_path)  # 200 classes in the order of their synsets
    images = opened(tmp_path)
    chosen = sorted(imagenet_names().index(name) for name in images.class_names)
    assert chosen == places
    result = evaluate(predictor, images, classes=chosen)
    assert [result.top1, result.top5] == pytest.approx(of_timm(logits[:, places], targets))
    assert result.predicted.tolist() == logits[:, places].argmax(dim=1)[_as_listed(images, tmp_path)].tolist()
    # Without the restriction most answers are classes that the folder does not have.
    assert np.isin(evaluate(predictor, images).predicted, places).mean() < 0.5


def _as_listed(images, root: Path) -> list[int]:
    """Return the index of each image in timm's order."""
    names = create_dataset("", root=str(root)).filenames(basename=True)
    return [names.index(path.name) for path in images.paths]
