"""A picture that encodes its own label map must agree with the map after every augmentation."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from volo.data import AugmentConfig, Preprocessing, TrainTransform
from volo.data.classification.augment import Augmentation
from volo.data.classification.label_map import LabelMap, move_labels
from volo.data.classification.rand_augment import OPERATIONS, Operation

NEAREST = Image.Resampling.NEAREST
OUTSIDE = (255, 255, 255)
#: Arguments of the operations that move pixels: both signs, small and large.
ARGUMENTS = {
    "Rotate": (-30.0, -7.0, 3.0, 30.0),
    "ShearX": (-0.3, 0.05, 0.3),
    "ShearY": (-0.3, 0.05, 0.3),
    "TranslateXRel": (-0.45, 0.1, 0.45),
    "TranslateYRel": (-0.45, 0.1, 0.45),
}


def encoded(grid, size):
    """Return a map whose cells are numbered from 1, and a picture whose red and green are row and column."""
    (rows, columns), (width, height) = grid, size
    numbers = np.arange(1, rows * columns + 1, dtype=np.uint16).reshape(rows, columns, 1)
    y, x = ((np.arange(side) + 0.5) * cells // side for side, cells in ((height, rows), (width, columns)))
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = y[:, None], x
    return LabelMap(np.ones((rows, columns, 1), np.float16), numbers), Image.fromarray(pixels)


def moved_both(grid, size, flip, operations):
    labels, picture = encoded(grid, size)
    width, height = size
    transform = TrainTransform(AugmentConfig(), Preprocessing(size=(height, width), mean=(1, 1, 1), std=(1, 1, 1)))
    drawn = Augmentation(size, flip, tuple(operations), (0, 0, width, height), NEAREST)
    if flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = transform.rand_augment.apply(picture, drawn.operations, drawn.box)
    return move_labels(labels, drawn), np.asarray(picture).astype(int)


def assert_agree(grid, labels, pixels):
    """Check that the number of every cell is encoded by the pixels around its middle; 0 stands for the outside.

    "Around" is two pixels to each side, since each of two operations may round by one pixel.
    """
    (rows, columns), (height, width) = grid, pixels.shape[:2]
    seen = np.where((pixels == OUTSIDE).all(-1), 0, pixels[..., 0] * columns + pixels[..., 1] + 1)
    for row, column in np.ndindex(rows, columns):
        y, x = int((row + 0.5) * height / rows), int((column + 0.5) * width / columns)
        around = seen[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
        assert labels.classes[row, column, 0] in around, (row, column)
        assert (labels.scores[row, column, 0] == 0) == (labels.classes[row, column, 0] == 0)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [(160, 120), (90, 150)])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_geometric_operation_moves_the_map_with_the_picture(name, size, flip):
    for argument in ARGUMENTS[name]:
        labels, pixels = moved_both((9, 6), size, flip, [Operation(name, argument, NEAREST)])
        assert_agree((9, 6), labels, pixels)
        far = abs(argument) > 3.0 or 0.06 < abs(argument) < 1.0
        assert (labels.classes == 0).any() or not far  # something came from outside


def test_the_arguments_cover_all_operations_that_move_pixels():
    assert set(ARGUMENTS) == {name for name, (_, moves) in OPERATIONS.items() if moves}


operations = st.lists(
    st.sampled_from(sorted(ARGUMENTS)).flatmap(
        lambda name: st.builds(Operation, st.just(name), st.sampled_from(ARGUMENTS[name]), st.just(NEAREST))
    ),
    max_size=2,
)


@example([Operation("TranslateXRel", 0.1, NEAREST)], False, (5, 5), (64, 97))  # a middle that falls between two cells
@settings(max_examples=40, deadline=None)
@given(
    operations, st.booleans(), st.sampled_from([(1, 1), (2, 7), (5, 5), (7, 3)]), st.sampled_from([(70, 70), (64, 97)])
)  # fmt: skip
def test_chains_of_operations_move_the_map_with_the_picture(chain, flip, grid, size):
    labels, pixels = moved_both(grid, size, flip, chain)
    assert_agree(grid, labels, pixels)


def test_cells_moved_out_of_the_image_do_not_come_back():
    there, back = (Operation("TranslateXRel", share, NEAREST) for share in (0.5, -0.5))
    labels, _ = moved_both((1, 4), (40, 10), False, [there, back])
    assert labels.classes[0, :, 0].tolist() == [0, 0, 3, 4]


def test_operations_that_recolor_leave_the_map_alone():
    recolor = [Operation(name) for name, (_, moves) in OPERATIONS.items() if not moves]
    labels, _ = encoded((3, 4), (40, 30))
    moved = move_labels(labels, Augmentation((40, 30), False, tuple(recolor), (0, 0, 40, 30), NEAREST))
    np.testing.assert_array_equal(moved.classes, labels.classes)
    np.testing.assert_array_equal(moved.scores, labels.scores)


def test_a_flip_mirrors_the_map_and_the_crop_becomes_a_box_of_shares():
    labels, _ = encoded((2, 3), (30, 20))
    moved = move_labels(labels, Augmentation((30, 20), True, (), (3, 5, 18, 15), NEAREST))
    np.testing.assert_array_equal(moved.classes, labels.classes[:, ::-1])
    assert moved.box == pytest.approx((0.1, 0.25, 0.5, 0.5))


def test_an_unknown_movement_is_an_error():
    drawn = Augmentation((8, 8), False, (Operation("Swirl", 3.0, NEAREST),), (0, 0, 8, 8), NEAREST)
    with pytest.raises(ValueError, match="Swirl moves pixels, but its effect on token labels is not known"):
        move_labels(encoded((2, 2), (8, 8))[0], drawn)


def test_the_given_map_is_not_changed():
    labels, _ = encoded((4, 4), (16, 16))
    before = labels.classes.copy()
    move_labels(labels, Augmentation((16, 16), True, (Operation("Rotate", 30.0, NEAREST),), (0, 0, 16, 16), NEAREST))
    np.testing.assert_array_equal(labels.classes, before)
