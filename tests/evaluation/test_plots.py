"""Plots of an evaluation."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from volo.data import ArrayImages, FileImages
from volo.evaluation.classification import Evaluation
from volo.evaluation.plots import (
    choose_samples,
    draw_confusion,
    draw_mistakes,
    draw_reliability,
    plot_confusion,
    plot_sample,
)
from volo.figures import save_figure


def evaluation(labels, predicted, probability=None, names=("ant", "bee", "cat")) -> Evaluation:
    probability = np.full(len(labels), 0.9) if probability is None else np.array(probability)
    return Evaluation(
        class_names=tuple(names),
        indices=np.arange(len(labels)),
        labels=np.array(labels),
        ranked=np.array(predicted)[:, None],
        probability=probability.astype(np.float32),
        label_probability=np.full(len(labels), 0.5, np.float32),
    )


MIXED = ([0, 0, 0, 0, 1, 1], [0, 0, 0, 2, 1, 0])


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def axes_with_confusion(result: Evaluation):
    axes = Figure().subplots()
    plot_confusion(axes, result)
    return axes


# The confusion matrix


@pytest.mark.parametrize("classes", [2, 3, 101, 300])
def test_a_png_with_the_matrix_is_written(tmp_path, classes):
    names = [f"class {number}" for number in range(classes)]
    right = evaluation(list(range(classes)), list(range(classes)), names=names)
    shifted = evaluation(list(range(classes)), [(n + 1) % classes for n in range(classes)], names=names)
    draw_confusion(right, tmp_path / "right.png")
    draw_confusion(shifted, tmp_path / "shifted.png")
    picture, other = pixels(tmp_path / "right.png"), pixels(tmp_path / "shifted.png")
    assert min(picture.shape[:2]) > 300
    assert len(np.unique(picture[..., 0])) > 10
    assert not np.array_equal(picture, other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["right.png", "shifted.png"]


def test_cells_show_the_share_of_the_true_class_and_the_count():
    axes = axes_with_confusion(evaluation(*MIXED))
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0, 0.25], [0.5, 0.5, 0], [0, 0, 0]])
    numbers = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert numbers == {(0, 0): "3", (0, 2): "1", (1, 0): "1", (1, 1): "1"}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["ant", "bee", "cat"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ant", "bee", "cat"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert axes.get_title() == "confusion matrix, top-1 66.67%"


def test_numbers_contrast_with_their_cells():
    axes = axes_with_confusion(evaluation([0, 0, 1, 1, 2, 2, 2, 2], [0, 0, 1, 0, 2, 2, 2, 0]))
    assert len(axes.texts) == 5  # of shares 1, 0.5, 0.5, 0.75 and 0.25
    for text in axes.texts:
        column, row = (int(place) for place in text.get_position())
        ground = np.mean(axes.images[0].cmap(axes.images[0].get_array()[row, column])[:3])
        assert abs(np.mean(to_rgb(text.get_color())) - ground) > 0.4


@pytest.mark.parametrize(("classes", "numbers", "names"), [(20, True, True), (21, False, True), (60, False, False)])
def test_numbers_and_names_that_would_be_too_small_are_left_out(classes, numbers, names):
    everything = list(range(classes))
    axes = axes_with_confusion(evaluation(everything, everything, names=[f"c{n}" for n in everything]))
    assert bool(axes.texts) == numbers
    assert ("c0" in [label.get_text() for label in axes.get_xticklabels()]) == names


def planted(classes, kinds):
    """Return an evaluation with three images of each class: one correct, two predicted as others of its kind."""
    labels = np.repeat(np.arange(classes), 3)
    others = (labels + np.tile([0, kinds, 2 * kinds], classes)) % classes
    return evaluation(labels, others, names=[f"class {n} of kind {n % kinds}" for n in range(classes)])


def test_many_classes_are_ordered_in_framed_and_named_groups():
    axes = axes_with_confusion(planted(100, 10))
    assert axes.images[0].get_array().shape == (100, 100)
    assert [patch.get_width() for patch in axes.patches] == [10] * 10
    for patch in axes.patches:  # a kind is together, so all mistakes lie in the frames
        start = round(patch.get_x() + 0.5)
        shares = axes.images[0].get_array()[start : start + 10, start : start + 10]
        np.testing.assert_allclose(shares.sum(axis=1), 1)
    for label in axes.get_yticklabels():
        names, _, rest = label.get_text().partition(" +8  ")
        first, second = names.split(", ")
        assert first.split()[-1] == second.split()[-1]  # of one kind
        assert rest.isdigit()


def test_for_very_many_classes_the_cells_are_groups():
    axes = axes_with_confusion(planted(300, 15))
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(shares, np.eye(15))
    assert len(axes.get_yticklabels()) == 15
    assert axes.get_yticklabels()[3].get_text().endswith(" +18  4")
    assert axes.get_xlabel() == "predicted group (numbers: % of the true group)"


@pytest.mark.parametrize("classes", [100, 1000])
def test_labels_of_groups_never_overlap(classes):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, 3000)
    mistaken = np.where(rng.random(3000) < 0.5, labels, rng.integers(0, classes, 3000))
    figure = Figure(figsize=(10, 8), layout="constrained")
    axes = figure.subplots()
    plot_confusion(axes, evaluation(labels, mistaken, names=[f"number {n}" for n in range(classes)]))
    figure.canvas.draw()
    boxes = sorted((label.get_window_extent() for label in axes.get_yticklabels()), key=lambda box: box.y0)
    assert len(boxes) > 3
    assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes))


@pytest.mark.parametrize("name", ["$a_$", "$5 or $10"])
def test_class_names_are_shown_as_they_are(tmp_path, name):
    result = evaluation([0, 1], [0, 0], names=(name, "other"))
    draw_confusion(result, tmp_path / "confusion.png")
    axes = axes_with_confusion(result)
    assert all(not label.get_parse_math() for label in axes.get_xticklabels())


def test_a_figure_that_cannot_be_saved_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    path.write_text("old")

    def fail(figure, target, **options):
        target.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        save_figure(Figure(), path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("picture.png", "old")]


# Samples


def test_the_most_confident_mistakes_are_chosen():
    result = evaluation([0, 0, 1, 1, 2], [1, 0, 0, 2, 0], [0.5, 0.99, 0.8, 0.4, 0.9])
    assert choose_samples(result, right=0, wrong=3) == [4, 2, 0]
    assert sorted(choose_samples(result, right=5, wrong=9)) == [0, 1, 2, 3, 4]


def test_correct_predictions_of_as_many_classes_as_possible_are_chosen():
    labels = [0, 0, 0, 0, 1, 1, 2]
    result = evaluation(labels, labels)
    assert choose_samples(result, right=4, wrong=5) == [0, 4, 6, 1]
    assert [labels[row] for row in choose_samples(result, right=7, wrong=0)] == [0, 1, 2, 0, 1, 0, 0]


@pytest.mark.parametrize("shape", [(2, 5, 4), (2, 5, 4, 3)])
def test_a_sample_shows_the_image_and_its_predicted_class(shape):
    images = ArrayImages(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape), [0, 1], ("ant", "bee"))
    result = evaluation([0, 1], [0, 0], [0.91, 0.58], names=("ant", "bee"))
    right, wrong = Figure().subplots(1, 2)
    plot_sample(right, result, images, 0)
    plot_sample(wrong, result, images, 1)
    np.testing.assert_array_equal(right.images[0].get_array(), images.images[0])
    np.testing.assert_array_equal(wrong.images[0].get_array(), images.images[1])
    assert (right.get_title(), right.title.get_color()) == ("ant 91%", "tab:green")
    assert (wrong.get_title(), wrong.title.get_color()) == ("ant 58%\nis bee", "tab:red")


def test_a_sample_is_read_by_its_index_in_the_image_set():
    images = ArrayImages(np.arange(3, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2), [0] * 3, ("ant", "bee"))
    result = evaluation([0, 0], [0, 0], names=("ant", "bee"))
    result = replace(result, indices=np.array([0, 2]))  # image 1 could not be read
    axes = Figure().subplots()
    plot_sample(axes, result, images, 1)
    assert (axes.images[0].get_array() == 2).all()


# Calibration and mistakes


@pytest.mark.parametrize("probability", [[0.9] * 6, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]])
def test_a_png_of_the_calibration_is_written(tmp_path, probability):
    draw_reliability(evaluation(*MIXED, probability=probability), tmp_path / "reliability.png")
    assert len(np.unique(pixels(tmp_path / "reliability.png")[..., 0])) > 10


@pytest.mark.parametrize("wrong", [0, 1, 7, 40])
def test_the_picture_of_mistakes_grows_with_them_to_24(tmp_path, wrong):
    images = ArrayImages(np.full((40, 5, 4, 3), 200, np.uint8), [0] * 40, ("ant", "bee"))
    result = evaluation([0] * 40, [1] * wrong + [0] * (40 - wrong), names=("ant", "bee"))
    draw_mistakes(result, images, tmp_path / "mistakes.png")
    height, width = pixels(tmp_path / "mistakes.png").shape[:2]
    rows = {0: 1, 1: 1, 7: 2, 40: 4}[wrong]
    assert (width, height) == (540 if wrong < 2 else 1800, round(120 * (0.5 + 3.1 * rows)))


def test_a_deleted_image_is_replaced_by_a_note(tmp_path):
    images = FileImages([tmp_path / "gone.png"], [0], ("ant", "bee"))
    axes = Figure().subplots()
    plot_sample(axes, evaluation([0], [1], names=("ant", "bee")), images, 0)
    assert axes.texts[0].get_text() == "cannot be\nread any more"
    assert axes.get_title() == "bee 90%\nis ant"
