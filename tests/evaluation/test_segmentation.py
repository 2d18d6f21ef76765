"""Evaluation of a segmentation model: scores equal torchmetrics', also with ignored pixels and unreadable images."""

import csv
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scenes import COLORS, NAMES, make_scenes
from segments import save_untrained
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from volo.data import IGNORE, open_validation_data
from volo.evaluation.report import write_evaluation
from volo.evaluation.segmentation import (
    MOST_WORST,
    SegmentationEvaluation,
    WorstImage,
    count_pixels,
    evaluate_segmentation,
)
from volo.inference import Segmenter

#: Files of an evaluation.
FILES = ("results.json", "per_class.csv", "per_image.csv", "confusion.png", "worst.png")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    return Segmenter(save_untrained(tmp_path_factory.mktemp("runs") / "model"), device="cpu")


def nine_scenes(folder):
    return make_scenes(folder, [("val", 9)])


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return open_validation_data(str(nine_scenes(tmp_path_factory.mktemp("data"))), task="segmentation")


@pytest.fixture(scope="module")
def evaluation(segmenter, images):
    return evaluate_segmentation(segmenter, images)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_pixels_are_counted_by_true_and_predicted_class(seed, classes):
    rng = np.random.default_rng(seed)
    predicted, truth = rng.integers(0, classes, (2, 13, 17), dtype=np.uint8)
    truth[rng.random(truth.shape) < 0.2] = IGNORE
    expected = np.zeros((classes, classes), int)
    for true, taken in zip(truth.ravel(), predicted.ravel(), strict=True):
        if true != IGNORE:
            expected[true, taken] += 1
    np.testing.assert_array_equal(count_pixels(predicted, truth, classes), expected)


def test_the_scores_are_those_of_torchmetrics_over_all_images_together(segmenter, images, evaluation):
    options = {"num_classes": 4, "ignore_index": IGNORE}
    iou, mean = MulticlassJaccardIndex(average=None, **options), MulticlassJaccardIndex(average="macro", **options)
    accuracy = MulticlassAccuracy(average="micro", **options)
    for index in range(len(images)):
        predicted = torch.from_numpy(segmenter(images.read(index)).mask).long()
        truth = torch.from_numpy(images.read_mask(index)).long()
        for metric in (iou, mean, accuracy):
            metric.update(predicted[None], truth[None])
    assert evaluation.iou == pytest.approx(iou.compute().numpy(), abs=1e-6)
    assert evaluation.scores["miou"] == pytest.approx(float(mean.compute()), abs=1e-6)
    assert evaluation.scores["pixel_accuracy"] == pytest.approx(float(accuracy.compute()), abs=1e-6)
    assert 0 < evaluation.scores["miou"] < 1


def test_counts_per_image_agree_with_the_confusion_matrix(evaluation):
    np.testing.assert_array_equal(evaluation.right.sum(0), np.diag(evaluation.confusion))
    np.testing.assert_array_equal(evaluation.true.sum(0), evaluation.confusion.sum(1))
    np.testing.assert_array_equal(evaluation.predicted.sum(0), evaluation.confusion.sum(0))
    assert evaluation.image_scores["pixel_accuracy"] @ evaluation.true.sum(1) == pytest.approx(evaluation.right.sum())
    low, high = evaluation.intervals["miou"]
    assert low < evaluation.scores["miou"] < high
    true, taken, count = evaluation.confused[0]
    assert true != taken
    assert evaluation.confusion[true, taken] == count == (evaluation.confusion * (1 - np.eye(4))).max()


def test_a_class_in_no_mask_and_no_prediction_has_no_iou(evaluation):
    tables = {"right": [[5, 0, 0, 0]], "true": [[6, 4, 0, 0]], "predicted": [[10, 0, 0, 0]]}
    result = SegmentationEvaluation(
        class_names=NAMES,
        class_colors=COLORS,
        indices=np.array([0]),
        confusion=np.zeros((4, 4), int),
        **{name: np.array(table) for name, table in tables.items()},
    )
    assert result.iou.tolist() == pytest.approx([5 / 11, 0, np.nan, np.nan], nan_ok=True)
    assert result.scores["miou"] == pytest.approx(5 / 22)
    assert result.absent == ("ball", "box")
    assert result.summary()["iou"]["ball"] is None
    assert result.intervals == {"miou": None, "pixel_accuracy": None}


def test_the_images_with_the_lowest_pixel_accuracy_are_kept(evaluation, images):
    order = np.argsort(evaluation.image_scores["pixel_accuracy"], kind="stable")[:MOST_WORST]
    assert [image.index for image in evaluation.worst] == evaluation.indices[order].tolist()
    worst: WorstImage = evaluation.worst[0]
    assert worst.photo.size == images.read(worst.index).size == worst.truth.shape[::-1] == worst.predicted.shape[::-1]


def test_classes_are_matched_by_name(segmenter, images, evaluation, tmp_path):
    folder = nine_scenes(tmp_path)
    lines = (folder / "classes.txt").read_text().splitlines()
    (folder / "classes.txt").write_text("\n".join([lines[3], *lines[:3]]))
    for path in (folder / "val/masks").iterdir():
        with Image.open(path) as opened:
            mask = np.asarray(opened)
        Image.fromarray(np.where(mask == IGNORE, IGNORE, (mask + 1) % 4).astype(np.uint8)).save(path)
    other = evaluate_segmentation(segmenter, open_validation_data(str(folder), task="segmentation"))
    np.testing.assert_array_equal(other.confusion, evaluation.confusion)
    (folder / "classes.txt").write_text("sea\nsky\nground\nball\n")
    with pytest.raises(ValueError, match="the model does not know the classes sea"):
        evaluate_segmentation(segmenter, open_validation_data(str(folder), task="segmentation"))


def test_unreadable_images_and_ignored_masks_are_left_out(segmenter, tmp_path):
    folder = make_scenes(tmp_path)
    Image.new("L", (72, 48), IGNORE).save(folder / "val/masks/0.png")
    images = open_validation_data(str(folder), task="segmentation")
    (folder / "val/images/1.png").write_bytes(b"no image")
    result = evaluate_segmentation(segmenter, images)
    assert result.indices.tolist() == [2]
    assert len(result.problems) == 1
    assert "1.png" in result.problems[0]
    (folder / "val/images/2.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"none of the 3 images can be evaluated: the first problem: .*1\.png"):
        evaluate_segmentation(segmenter, images)


def test_masks_with_ignored_pixels_only_are_an_error(segmenter, tmp_path):
    folder = make_scenes(tmp_path)
    for path in (folder / "val/masks").iterdir():
        Image.new("L", (72, 48), IGNORE).save(path)
    with pytest.raises(ValueError, match="every pixel of their masks is ignored"):
        evaluate_segmentation(segmenter, open_validation_data(str(folder), task="segmentation"))


def test_all_files_are_written_with_the_scores(evaluation, images, tmp_path):
    out = tmp_path / "deep" / "out"
    write_evaluation(evaluation, images, out, more={"views": {"flip": False}})
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    results = json.loads((out / "results.json").read_text())
    assert results["miou"] == pytest.approx(evaluation.scores["miou"], abs=1e-6)
    assert (results["images"], results["views"], list(results["iou"])) == (9, {"flip": False}, list(NAMES))
    with (out / "per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["iou"]) for row in rows] == pytest.approx(evaluation.iou, abs=1e-6)
    assert sum(int(row["pixels"]) for row in rows) == results["pixels"]
    assert [row["color"] for row in rows] == ["#78aae6", "#5a8c3c", "#dc3c32", "#8c5ac8"]
    with (out / "per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["miou"]) for row in rows] == pytest.approx(evaluation.image_scores["miou"], abs=1e-6)
    assert rows[3]["path"] == images.name(int(evaluation.indices[3]))
    for name in ("confusion.png", "worst.png"):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 300
