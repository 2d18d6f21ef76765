"""Pictures of how good a classifier is."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from volo.data import ArrayImages
from volo.inference.evaluate import Evaluation
from volo.inference.pictures import choose_samples, draw_confusion, plot_confusion, plot_sample, save_figure


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


@pytest.mark.parametrize("classes", [2, 3, 101])
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


def test_numbers_are_legible_on_their_ground():
    axes = axes_with_confusion(evaluation([0, 0, 1, 1, 2, 2, 2, 2], [0, 0, 1, 0, 2, 2, 2, 0]))
    assert len(axes.texts) == 5  # of shares 1, 0.5, 0.5, 0.75 and 0.25
    for text in axes.texts:
        column, row = (int(place) for place in text.get_position())
        ground = np.mean(axes.images[0].cmap(axes.images[0].get_array()[row, column])[:3])
        assert abs(np.mean(to_rgb(text.get_color())) - ground) > 0.4


@pytest.mark.parametrize(("classes", "numbers", "names"), [(20, True, True), (21, False, True), (101, False, False)])
def test_what_would_be_too_small_is_left_out(classes, numbers, names):
    everything = list(range(classes))
    axes = axes_with_confusion(evaluation(everything, everything, names=[f"c{n}" for n in everything]))
    assert bool(axes.texts) == numbers
    assert ("c0" in [label.get_text() for label in axes.get_xticklabels()]) == names


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


def test_the_surest_mistakes_are_chosen():
    result = evaluation([0, 0, 1, 1, 2], [1, 0, 0, 2, 0], [0.5, 0.99, 0.8, 0.4, 0.9])
    assert choose_samples(result, right=0, wrong=3) == [4, 2, 0]
    assert sorted(choose_samples(result, right=5, wrong=9)) == [0, 1, 2, 3, 4]


def test_right_answers_of_as_many_classes_as_can_be_are_chosen():
    labels = [0, 0, 0, 0, 1, 1, 2]
    result = evaluation(labels, labels)
    assert choose_samples(result, right=4, wrong=5) == [0, 4, 6, 1]
    assert [labels[row] for row in choose_samples(result, right=7, wrong=0)] == [0, 1, 2, 0, 1, 0, 0]


@pytest.mark.parametrize("shape", [(2, 5, 4), (2, 5, 4, 3)])
def test_a_sample_shows_the_image_and_what_it_is_taken_for(shape):
    images = ArrayImages(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape), [0, 1], ("ant", "bee"))
    result = evaluation([0, 1], [0, 0], [0.91, 0.58], names=("ant", "bee"))
    right, wrong = Figure().subplots(1, 2)
    plot_sample(right, result, images, 0)
    plot_sample(wrong, result, images, 1)
    np.testing.assert_array_equal(right.images[0].get_array(), images.images[0])
    np.testing.assert_array_equal(wrong.images[0].get_array(), images.images[1])
    assert (right.get_title(), right.title.get_color()) == ("ant 91%", "tab:green")
    assert (wrong.get_title(), wrong.title.get_color()) == ("ant 58%\nis bee", "tab:red")


def test_a_sample_is_found_by_its_place_in_the_image_set():
    images = ArrayImages(np.arange(3, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2), [0] * 3, ("ant", "bee"))
    result = evaluation([0, 0], [0, 0], names=("ant", "bee"))
    result = replace(result, indices=np.array([0, 2]))  # image 1 could not be read
    axes = Figure().subplots()
    plot_sample(axes, result, images, 1)
    assert (axes.images[0].get_array() == 2).all()
