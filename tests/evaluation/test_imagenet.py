"""Folders of ImageNet's classes: which class a folder means, how its images are read, and what is refused."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from timm.data import ImageNetInfo

from volo.cli import main
from volo.data import ArrayImages, FileImages, ImageError, Preprocessing, read_image
from volo.evaluation.classification import Evaluation
from volo.evaluation.imagenet import RealLabels, as_imagenet
from volo.imagenet import imagenet_names, in_words, knows_imagenet, synsets
from volo.models import create_model, save_model
from volo.models.weights.model_folder import read_description

TENCH, GOLDFISH, TOILET_PAPER = "n01440764", "n01443537", "n15075141"


def files(*folders: str) -> FileImages:
    return FileImages([Path(f"{name}/1.jpg") for name in folders], list(range(len(folders))), folders)


@pytest.mark.parametrize("folders", [(TENCH, GOLDFISH, TOILET_PAPER), ("0", "1", "999"), (TOILET_PAPER, TENCH)])
def test_synsets_and_numbers_are_named_as_the_model_names_them(folders):
    words = {"0": "tench", "1": "goldfish", "999": "toilet tissue"}
    words |= dict(zip((TENCH, GOLDFISH, TOILET_PAPER), words.values(), strict=True))
    images = as_imagenet(files(*folders), imagenet_names())
    assert images.class_names == tuple(words[name] for name in folders)
    assert list(images.labels) == list(range(len(folders)))


def test_a_model_trained_on_synset_folders_keeps_synsets_and_is_printed_in_words():
    assert as_imagenet(files("1", "0"), synsets()).class_names == (GOLDFISH, TENCH)
    assert in_words((GOLDFISH, TENCH)) == ("goldfish", "tench")
    assert in_words(synsets()) == imagenet_names()
    assert in_words(("cat", "n12345678", TENCH)) == ("cat", "n12345678", "tench")
    assert in_words(("cat", "dog")) == ("cat", "dog")


def test_a_checkpoint_of_transformers_knows_imagenet_by_wordnets_words(tmp_path):
    config = {"architecture": "volo_d1_224", "label_names": ImageNetInfo().label_descriptions()}
    (tmp_path / "config.json").write_text(json.dumps(config))
    names = read_description(tmp_path / "config.json").class_names
    images = as_imagenet(files("n02012849", "n03126707", TENCH), names)
    assert images.class_names == ("crane (134)", "crane (517)", "tench, Tinca tinca")
    assert [names.index(name) for name in images.class_names] == [134, 517, 0]


@pytest.mark.parametrize("folders", [("cat", "dog"), (TENCH, "dog"), ("1", "1000"), ("01", "2"), (TENCH, "1")])
def test_other_folders_do_not_change(folders):
    images = files(*folders)
    assert as_imagenet(images, imagenet_names()) is images


def test_other_models_and_images_in_memory_do_not_change():
    images = files(TENCH)
    assert as_imagenet(images, ("tench", "goldfish")) is images
    thousand = tuple(map(str, range(1000)))
    assert not knows_imagenet(thousand)
    assert as_imagenet(images, thousand) is images
    array = ArrayImages(np.zeros((1, 2, 2, 3), np.uint8), [0], (TENCH,))
    assert as_imagenet(array, imagenet_names()) is array


def test_images_are_read_as_they_are_stored(tmp_path):
    path, exif = tmp_path / "turned.jpg", Image.Exif()
    exif[0x0112] = 6
    Image.linear_gradient("L").convert("RGB").resize((30, 20)).save(path, exif=exif)
    images = as_imagenet(FileImages([path, tmp_path / "gone.jpg"], [0, 0], (TENCH,)), imagenet_names())
    assert read_image(path).size == (20, 30)
    stored = images.read(0)
    assert (stored.size, stored.mode) == ((30, 20), "RGB")
    assert np.array_equal(np.asarray(stored), np.asarray(Image.open(path)))
    with pytest.raises(ImageError, match=r"cannot read image .*gone\.jpg"):
        images.read(1)


# ReaL labels


def validation(*numbers: int) -> FileImages:
    paths = [Path(f"val/{TENCH}/ILSVRC2012_val_{number:08d}.JPEG") for number in numbers]
    return FileImages(paths, [0] * len(paths), (TENCH,))


def evaluation(indices: list[int], ranked: list[list[int]]) -> Evaluation:
    share = np.ones(len(indices), np.float32)
    return Evaluation(
        class_names=imagenet_names(),
        indices=np.array(indices),
        labels=np.zeros(len(indices), int),
        ranked=np.array(ranked),
        probability=share,
        label_probability=share,
    )


def real(path: Path, labels: object) -> Path:
    path.write_text(json.dumps(labels))
    return path


def test_scores_are_those_counted_by_hand(tmp_path):
    labels = real(tmp_path / "real.json", [[5], [], [7, 8], [9], [1, 2]])
    images = validation(5, 3, 2, 1, 4)  # right are 1 or 2; 7 or 8; nothing; 5; 9
    # The image of number 1 could not be read.
    evaluated = evaluation([0, 1, 2, 4], [[2, 0, 0, 0, 0], [0, 3, 8, 4, 6], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]])
    scores = RealLabels(labels, images).scores(evaluated)
    assert scores == {"real_images": 3, "real_top1": pytest.approx(1 / 3), "real_top5": pytest.approx(2 / 3)}


def test_without_a_readable_labeled_image_the_scores_are_none(tmp_path):
    labels = RealLabels(real(tmp_path / "real.json", [[5], []]), validation(1, 2))
    assert labels.scores(evaluation([1], [[0, 1, 2, 3, 4]])) == {"real_images": 0, "real_top1": None, "real_top5": None}


@pytest.mark.parametrize("content", ['{"a": 1}', "[[1], 2]", "[[1000]]", "[[-1]]", "[[true]]", '[["1"]]'])
def test_a_file_without_real_labels_is_an_error(tmp_path, content):
    (tmp_path / "real.json").write_text(content)
    with pytest.raises(
        ValueError, match=r"real\.json does not hold ReaL labels: a list with one list of class indices"
    ):
        RealLabels(tmp_path / "real.json", validation(1))


def test_images_and_labels_that_do_not_match_are_errors(tmp_path):
    path = real(tmp_path / "real.json", [[5], []])
    for images in (validation(3), validation(0), files(TENCH)):
        with pytest.raises(ValueError, match=r"JPEG is not one of the 2 images|1\.jpg is not one of the 2 images"):
            RealLabels(path, images)
    with pytest.raises(ValueError, match=r"real\.json has no label for any of the 1 images"):
        RealLabels(path, validation(2))
    path.write_text("[[5]")
    with pytest.raises(ValueError, match=r"real\.json is not a JSON file"):
        RealLabels(path, validation(1))


# The command


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    network = create_model("volo_micro_32", num_classes=1000)
    settings = asdict(Preprocessing(size=(32, 32)))
    save_model(folder, network.config, network.state_dict(), class_names=imagenet_names(), preprocessing=settings)
    return folder


@pytest.fixture
def val(tmp_path):
    rng = np.random.default_rng(0)
    for number, synset in enumerate([TENCH, GOLDFISH, *synsets()[500:506]], start=1):
        (tmp_path / "val" / synset).mkdir(parents=True)
        picture = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
        picture.save(tmp_path / "val" / synset / f"ILSVRC2012_val_{number:08d}.JPEG")
    return tmp_path / "val"


def test_the_command_names_classes_in_words_and_adds_real_scores(model, val, tmp_path, capsys):
    labels = real(tmp_path / "real.json", [[0], *([list(range(1000))] * 7)])
    assert main(["eval", str(model), str(val), "--real", str(labels), "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "ReaL" in printed.out
    assert len(printed.out.splitlines()) < 40  # the classes that have images, not all 1000
    assert "note: the folder has 8 of ImageNet's 1000 classes" in printed.err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["classes"] == 1000
    assert results["real_images"] == 8
    assert results["real_top1"] >= 7 / 8
    assert "goldfish" in (tmp_path / "out" / "per_class.csv").read_text()


def test_the_command_chooses_among_the_folders_classes(model, val, tmp_path, capsys):
    assert main(["eval", str(model), str(val), "--among", "folder", "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "8 images of 8 classes" in printed.out
    assert not printed.err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["classes"], results["classes_without_images"]) == (8, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--real", "REAL", "--among", "folder"],
            "--real evaluates a model of ImageNet's 1000 classes, choosing among",
        ),
        (["--real", "gone.json"], "gone.json"),
        (["--among", "some"], "among"),
    ],
)
def test_conflicting_options_give_one_line_and_exit_code_2(model, val, tmp_path, capsys, options, message):
    labels = str(real(tmp_path / "real.json", [[1]] * 8))
    assert main(["eval", str(model), str(val), *(labels if o == "REAL" else o for o in options)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_real_labels_need_a_model_of_imagenets_classes(val, tmp_path, capsys):
    network = create_model("volo_micro_32", num_classes=8)
    names = tuple(sorted(path.name for path in val.iterdir()))
    settings = asdict(Preprocessing(size=(32, 32)))
    (tmp_path / "m").mkdir()
    save_model(tmp_path / "m", network.config, network.state_dict(), class_names=names, preprocessing=settings)
    labels = str(real(tmp_path / "real.json", [[1]] * 8))
    assert main(["eval", str(tmp_path / "m"), str(val), "--real", labels]) == 2
    assert "--real evaluates a model of ImageNet's 1000 classes" in capsys.readouterr().err
    assert main(["eval", str(tmp_path / "m"), str(val)]) == 0
    assert "goldfish" in capsys.readouterr().out
