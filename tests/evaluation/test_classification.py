"""Evaluation of a classifier: scores that can be counted by hand."""

import math
import subprocess
import sys
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from volo.data import ArrayImages, FileImages, Preprocessing, with_channels
from volo.evaluation.classification import evaluate, model_indices
from volo.inference import Predictor
from volo.models import create_model, save_model

GRAY = Preprocessing(size=(2, 2), mean=(0.5,), std=(0.5,))

#: Gray level of an image → probabilities of ant, bee and cat that the stand-in for a model returns.
ANSWERS = {10: (0.7, 0.2, 0.1), 20: (0.1, 0.8, 0.1), 30: (0.3, 0.3, 0.4), 40: (0.5, 0.4, 0.1)}


def model(names=("ant", "bee", "cat"), answers=ANSWERS):
    """Return a stand-in for a Predictor that looks up its predictions in a table."""

    def logits(pixels: torch.Tensor) -> torch.Tensor:
        return torch.tensor([answers[int(image[0, 0, 0])] for image in pixels]).log()

    return SimpleNamespace(class_names=tuple(names), preprocess=GRAY.pixels, takes_photos=False, logits=logits)


def images(levels, labels, names=("ant", "bee", "cat")) -> ArrayImages:
    return ArrayImages(np.array(levels, np.uint8)[:, None, None].repeat(2, 1).repeat(2, 2), labels, tuple(names))


# Levels 10, 10, 20, 30, 40, 40, 20 are predicted as ant, ant, bee, cat, ant, ant, bee.
LEVELS, LABELS = [10, 10, 20, 30, 40, 40, 20], [0, 0, 1, 1, 1, 0, 2]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_scores_are_those_counted_by_hand(batch_size):
    result = evaluate(model(), images(LEVELS, LABELS), batch_size=batch_size)
    assert result.class_names == ("ant", "bee", "cat")
    assert result.predicted.tolist() == [0, 0, 1, 2, 0, 0, 1]
    assert result.labels.tolist() == LABELS
    assert result.indices.tolist() == list(range(7))
    assert result.probability.tolist() == pytest.approx([0.7, 0.7, 0.8, 0.4, 0.5, 0.5, 0.8])
    assert result.top1 == pytest.approx(4 / 7)
    assert result.top5 is None
    assert result.confusion.tolist() == [[3, 0, 0], [1, 1, 1], [0, 1, 0]]
    assert result.loss == pytest.approx(-np.mean(np.log([0.7, 0.7, 0.8, 0.3, 0.4, 0.5, 0.1])))
    assert result.problems == ()


def test_the_summary_gives_the_scores_and_their_intervals():
    summary = evaluate(model(), images(LEVELS, LABELS)).summary()
    # Right are two answers of 0.7, one of 0.8 and one of 0.5; wrong one each of 0.4, 0.5 and 0.8.
    bins = {0.4: (1, 0), 0.5: (2, 1), 0.7: (2, 2), 0.8: (2, 1)}
    error = sum(abs(count * probability - right) for probability, (count, right) in bins.items()) / 7
    intervals = summary.pop("intervals")
    assert 0 < summary.pop("chance_calibration_error") < 1
    assert summary == {
        "images": 7,
        "unreadable": 0,
        "trained_on": None,
        "classes": 3,
        "classes_without_images": 0,
        "loss": pytest.approx(-np.mean(np.log([0.7, 0.7, 0.8, 0.3, 0.4, 0.5, 0.1])), abs=1e-6),
        "top1": pytest.approx(4 / 7, abs=1e-6),
        "top5": None,
        "balanced_accuracy": pytest.approx((1 + 1 / 3 + 0) / 3, abs=1e-6),
        "calibration_error": pytest.approx(error, abs=1e-6),
    }
    assert list(intervals) == ["top1", "balanced_accuracy", "calibration_error"]
    for name, (low, high) in intervals.items():
        assert 0 <= low < summary[name] < high <= 1


def test_classes_are_matched_by_name():
    # cat is the data's class 0 and the model's class 2, ant 1 and 0; the model's bee is not in the data.
    result = evaluate(model(), images([30, 10, 20], [0, 1, 1], names=("cat", "ant")))
    assert result.class_names == ("ant", "bee", "cat")
    assert result.labels.tolist() == [2, 0, 0]
    assert result.predicted.tolist() == [2, 0, 1]
    assert result.confusion.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert result.top1 == pytest.approx(2 / 3)


def test_the_error_about_an_unknown_class_names_the_known_classes():
    with pytest.raises(
        ValueError,
        match=r"does not know the classes newt, owl \(2 of the data's 3\); it knows 3: ant, bee, cat; rename",
    ):
        evaluate(model(), images([10, 20], [0, 1], names=("ant", "newt", "owl")))


def test_class_names_that_differ_in_what_cannot_be_seen_are_the_same():
    """Old models may have such names; those of data are normalized."""
    assert model_indices(("café", "dog"), ("dog", "cafe\u0301\u200b")) == [1, 0]


def test_the_error_about_an_unknown_class_names_one_in_other_capitals():
    with pytest.raises(ValueError, match=r"does not know the classes Cat .*, in other capitals cat; rename"):
        model_indices(("ant", "Cat"), (*(f"class {number}" for number in range(9)), "ant", "cat"))


def test_long_lists_of_classes_are_cut_short():
    many = [f"m{number}" for number in range(11)]
    with pytest.raises(
        ValueError, match=r"x0, x1, x2, x3, x4 and 1 more \(6 of .*\); it knows 11: m0, .*m4 and 6 more;"
    ):
        evaluate(model(many), images([10], [0], names=[f"x{number}" for number in range(6)]))


def test_top5_is_defined_for_more_than_five_classes():
    row = (0.3, 0.25, 0.2, 0.1, 0.08, 0.05, 0.02)
    result = evaluate(model("abcdefg", {9: row}), images([9] * 7, list(range(7)), names="abcdefg"))
    assert (result.top1, result.top5) == (pytest.approx(1 / 7), pytest.approx(5 / 7))


def test_certain_mistakes_keep_the_loss_finite():
    result = evaluate(model(answers={9: (1.0, 0.0, 0.0)}), images([9], [1]))
    assert result.loss == pytest.approx(-math.log(1e-12))


def test_a_model_of_one_class_and_a_set_without_images_are_errors():
    with pytest.raises(ValueError, match="one class, 'ant'"):
        evaluate(model(["ant"], {10: (1.0,)}), images([10, 10], [0, 0], names=["ant"]))
    with pytest.raises(ValueError, match="no images"):
        evaluate(model(), images([], []))


def test_on_batch_gets_the_number_of_images():
    done = []
    evaluate(model(), images(LEVELS, LABELS), batch_size=3, on_batch=done.append)
    assert done == [3, 3, 1]


# A real model and files


@pytest.fixture
def files(tmp_path):
    """Seven files, of which two cannot be read."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (36, 40, 3), dtype=np.uint8)).save(path)
    paths[1].write_text("no image")
    paths[5].unlink()
    return FileImages(paths, [0, 1, 1, 0, 1, 0, 0], ("bee", "ant"))


@pytest.fixture
def predictor(tmp_path):
    torch.manual_seed(0)
    network = create_model("volo_micro_32", num_classes=3)
    torch.nn.init.normal_(network.head.weight, std=0.5)
    settings = asdict(Preprocessing(size=(32, 32)))
    save_model(
        tmp_path, network.config, network.state_dict(), class_names=("ant", "bee", "cat"), preprocessing=settings
    )
    return Predictor(tmp_path, device="cpu")


def test_unreadable_images_are_left_out_and_reported(files, predictor):
    done = []
    result = evaluate(predictor, files, batch_size=3, on_batch=done.append)
    assert result.indices.tolist() == [0, 2, 3, 4, 6]
    assert result.labels.tolist() == [1, 0, 1, 0, 1]
    assert result.confusion.sum() == 5
    assert (result.summary()["images"], result.summary()["unreadable"]) == (5, 2)
    for problem, number in zip(result.problems, (1, 5), strict=True):
        assert problem.startswith(f"cannot read image {files.paths[number]}")
    assert done == [3, 3, 1]


def test_the_evaluation_agrees_with_single_predictions(files, predictor):
    result = evaluate(predictor, files)
    for place, predicted, probability in zip(result.indices, result.predicted, result.probability, strict=True):
        prediction = predictor(files.paths[place])
        assert prediction.indices[0] == predicted
        assert prediction.probability == pytest.approx(probability, abs=1e-5)


def test_batches_without_a_readable_image_are_skipped(files, predictor):
    result = evaluate(predictor, files, batch_size=1)
    assert result.indices.tolist() == [0, 2, 3, 4, 6]
    assert len(result.problems) == 2


def test_workers_change_nothing(files, predictor):
    alone, helped = evaluate(predictor, files, batch_size=2), evaluate(predictor, files, batch_size=2, workers=1)
    assert alone.problems == helped.problems
    assert alone.loss == helped.loss
    np.testing.assert_array_equal(alone.probability, helped.probability)


def test_without_a_readable_image_the_evaluation_is_an_error(files, predictor):
    for path in files.paths:
        path.unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"none of the 7 images can be read; the first: cannot read image .*0\.png"):
        evaluate(predictor, files)


def test_color_images_are_converted_for_a_gray_model():
    color = ArrayImages(np.full((1, 2, 2, 3), 30, np.uint8), [2], ("ant", "bee", "cat"))
    assert evaluate(model(), with_channels(color, 1)).top1 == 1.0


# Some of the model's classes


def test_classes_limits_the_softmax_to_their_logits():
    # Level 30 is cat to the whole model; between bee and ant, equally likely, the first one asked for is taken.
    whole, part = ({10: (0.7, 0.2, 0.1), 30: (0.3, 0.15, 0.55)}, images([10, 30, 30], [0, 0, 1], ("ant", "bee")))
    result = evaluate(model(answers=whole), part, classes=[1, 0])
    assert result.class_names == ("bee", "ant")
    assert result.labels.tolist() == [1, 1, 0]
    assert result.ranked.tolist() == [[1, 0], [1, 0], [1, 0]]
    assert result.probability.tolist() == pytest.approx([7 / 9, 2 / 3, 2 / 3])
    assert result.label_probability.tolist() == pytest.approx([7 / 9, 2 / 3, 1 / 3])
    assert result.confusion.shape == (2, 2)
    assert evaluate(model(answers=whole), part).predicted.tolist() == [0, 2, 2]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([0, 3], "3 is not one of 0–2"),
        ([-1, 0], "-1 is not"),
        ([1, 1], "repeats an index"),
        ([], "empty"),
        ([2], "one class, 'cat'"),
    ],
)
def test_invalid_classes_are_errors(classes, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model(), images([10], [0]), classes=classes)


def test_images_of_a_class_that_is_not_chosen_are_an_error():
    with pytest.raises(ValueError, match="does not know the classes cat"):
        evaluate(model(), images([10, 30], [0, 2]), classes=[0, 1])


def test_classes_without_images_are_reported_and_left_out_of_the_balanced_accuracy():
    result = evaluate(model(), images([10, 20, 20], [0, 0, 1], names=("ant", "bee")))
    assert result.absent == ("cat",)
    assert result.summary()["classes_without_images"] == 1
    assert result.scores["balanced_accuracy"] == pytest.approx((1 / 2 + 1) / 2)


def test_the_size_of_the_results_does_not_grow_with_the_number_of_classes():
    classes = 1000
    row = torch.linspace(1, 2, classes)
    result = evaluate(
        model([f"c{number}" for number in range(classes)], {9: tuple((row / row.sum()).tolist())}),
        images([9] * 500, [7] * 500, names=[f"c{number}" for number in range(classes)]),
    )
    arrays = [value for value in vars(result).values() if isinstance(value, np.ndarray)]
    assert len(arrays) == 5
    assert sum(value.nbytes for value in arrays) <= 500 * 64


@pytest.mark.slow
def test_memory_grows_with_the_images_but_not_with_images_times_classes():
    code = """
import resource, sys
from types import SimpleNamespace
import numpy as np, torch
from volo.data import ArrayImages, Preprocessing
from volo.evaluation.classification import evaluate
count, classes = 20_000, 1000
names = tuple(f"c{number}" for number in range(classes))
model = SimpleNamespace(class_names=names, preprocess=Preprocessing(size=(4, 4)).pixels, takes_photos=False,
                        logits=lambda pixels: torch.randn(len(pixels), classes))
images = ArrayImages(np.zeros((count, 4, 4, 3), np.uint8), [n % classes for n in range(count)], names)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
evaluate(model, images, batch_size=256)
assert (peak() - before) * 1024 < 0.5 * count * classes * 4, peak() - before
"""
    subprocess.run([sys.executable, "-c", code], check=True)
