"""Reading one image, and the sets of labelled images."""

import re
import warnings

import numpy as np
import pytest
from PIL import Image

from volo.data import ArrayImages, FileImages, ImageError, open_data, read_image, with_channels
from volo.data.images import Converted

ORIENTATION = 0x0112


def picture(height: int = 24, width: int = 40) -> np.ndarray:
    """A smooth picture without any symmetry, (H, W, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([5 * x, 9 * y, 200 - 3 * x - 2 * y], axis=-1).astype(np.uint8)


@pytest.fixture
def colours(tmp_path):
    path = tmp_path / "colours.png"
    Image.fromarray(picture()).save(path)
    return path


# Formats and modes


def test_png_pixels_come_back_unchanged(colours):
    assert read_image(colours).mode == "RGB"
    np.testing.assert_array_equal(np.asarray(read_image(colours)), picture())
    np.testing.assert_array_equal(np.asarray(read_image(str(colours))), picture())


def test_jpeg_pixels_come_back_nearly_unchanged(tmp_path):
    path = tmp_path / "picture.jpg"
    Image.fromarray(picture()).save(path, quality=98, subsampling=0)
    difference = np.asarray(read_image(path)).astype(int) - picture()
    assert np.abs(difference).max() <= 4


def test_colour_read_as_grey_is_its_luma(colours):
    grey = read_image(colours, channels=1)
    assert grey.mode == "L"
    np.testing.assert_allclose(np.asarray(grey), picture() @ [0.299, 0.587, 0.114], atol=0.51)


def test_grey_read_as_colour_has_three_equal_channels_and_turns_back_into_itself(tmp_path):
    grey = picture()[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    colour = read_image(tmp_path / "grey.png")
    np.testing.assert_array_equal(np.asarray(colour), np.repeat(grey[..., None], 3, axis=-1))
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "grey.png", channels=1)), grey)
    np.testing.assert_array_equal(np.asarray(colour.convert("L")), grey)


def test_transparency_is_left_out_and_the_colours_stay(tmp_path):
    alpha = np.full((24, 40, 1), 90, np.uint8)
    Image.fromarray(np.concatenate([picture(), alpha], axis=-1)).save(tmp_path / "clear.png")
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "clear.png")), picture())


@pytest.mark.parametrize("transparency", [None, 1, b"\x00\x80\xff\xff"])
def test_palettes_are_looked_up(tmp_path, transparency):
    palette = np.array([[250, 10, 0], [0, 200, 30], [9, 8, 7], [40, 0, 255]], np.uint8)
    indices = np.arange(24).reshape(4, 6).astype(np.uint8) % 4
    image = Image.frombytes("P", (6, 4), indices.tobytes())
    image.putpalette(palette.tobytes())
    image.save(tmp_path / "palette.png", **({} if transparency is None else {"transparency": transparency}))
    with Image.open(tmp_path / "palette.png") as stored:
        assert stored.mode == "P"
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "palette.png")), palette[indices])


def test_black_and_white_becomes_0_and_255(tmp_path):
    bits = picture()[..., 0] > 100
    Image.fromarray(bits).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "bits.png", channels=1)), bits * np.uint8(255))


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, channels):
    deep = (np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    read = np.asarray(read_image(tmp_path / "deep.png", channels)).reshape(64, 64, -1)[..., 0]
    np.testing.assert_allclose(read, deep / 257, atol=1)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda stored: stored),
        (2, lambda stored: stored[:, ::-1]),
        (3, lambda stored: stored[::-1, ::-1]),
        (4, lambda stored: stored[::-1]),
        (5, lambda stored: stored.swapaxes(0, 1)),
        (6, lambda stored: np.rot90(stored, -1)),
        (7, lambda stored: stored[::-1, ::-1].swapaxes(0, 1)),
        (8, lambda stored: np.rot90(stored, 1)),
    ],
)
def test_exif_orientation_is_applied(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(picture()).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "turned.png")), upright(picture()))


# Files that cannot be read


def unreadable(path, reason: str) -> str:
    """The pattern of the message about ``path``."""
    return f"^cannot read image {re.escape(str(path))}: {reason}"


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "tif"])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path, ending):
    path = tmp_path / f"half.{ending}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    cut(path, 0.5)
    with pytest.raises(ImageError, match=unreadable(path, ".")):
        read_image(path)


def test_a_corrupt_file_is_an_error_that_names_it(colours):
    data = bytearray(colours.read_bytes())
    middle = data.index(b"IDAT") + 12
    data[middle : middle + 20] = bytes(20)
    colours.write_bytes(data)
    with pytest.raises(ImageError, match=unreadable(colours, ".")):
        read_image(colours)


@pytest.mark.parametrize("content", [b"", b"hello, I am no image\n" * 50])
def test_a_file_that_is_no_image_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "text.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=unreadable(path, "not an image that Pillow can read$")):
        read_image(path)


def test_a_missing_file_and_a_folder_are_errors_that_say_so(tmp_path):
    with pytest.raises(ImageError, match=unreadable(tmp_path / "gone.png", "No such file or directory$")):
        read_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match=unreadable(tmp_path, ".")):
        read_image(tmp_path)


def test_oddities_that_pillow_warns_of_do_not_keep_an_image_from_being_read(colours, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 40 - 1)
    with pytest.warns(Image.DecompressionBombWarning), Image.open(colours):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(colours).size == (40, 24)


def test_a_decompression_bomb_is_an_error(colours, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 40 // 3)
    with pytest.raises(ImageError, match="decompression bomb"):
        read_image(colours)


# Sets of images


def test_files_are_read_by_index_and_named_by_path(colours):
    images = FileImages([colours], [0], ("one",))
    assert images.name(0) == str(colours)
    np.testing.assert_array_equal(np.asarray(images.read(0)), picture())


def test_arrays_are_grey_or_colour_by_their_shape():
    colour, grey = picture()[None], picture()[None, ..., 1]
    for array, channels, mode in ((colour, 3, "RGB"), (grey, 1, "L")):
        images = ArrayImages(array, [0], ("one",))
        assert (images.channels, images.read(0).mode, images.name(0)) == (channels, mode, "#0")
        np.testing.assert_array_equal(np.asarray(images.read(0)), array[0])


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_images_are_converted_and_keep_names_and_labels(channels, mode):
    array = picture()[None] if channels == 1 else picture()[None, ..., 0]
    images = ArrayImages(array, [4], ("a", "b", "c", "d", "e"))
    converted = with_channels(images, channels)
    assert isinstance(converted, Converted)
    assert converted.channels == channels
    assert (converted.labels, converted.class_names) == (images.labels, images.class_names)
    assert converted.name(0) == "#0"
    assert converted.read(0).mode == mode
    np.testing.assert_array_equal(np.asarray(converted.read(0)), np.asarray(images.read(0).convert(mode)))


def test_images_that_have_the_channels_already_are_not_wrapped():
    images = ArrayImages(picture()[None], [0], ("one",))
    assert with_channels(images, 3) is images


# The data set that the package carries


@pytest.fixture(scope="module")
def fashion():
    return open_data("fashion-mini")


def test_fashion_mini_has_equal_classes_of_grey_images(fashion):
    for images, per_class in zip(fashion, (1000, 200), strict=True):
        assert images.images.shape == (10 * per_class, 28, 28)
        assert images.images.dtype == np.uint8
        assert images.channels == 1
        assert np.bincount(images.labels).tolist() == [per_class] * 10
        assert len(images.class_names) == len(set(images.class_names)) == 10
        assert (images.read(0).mode, images.read(0).size) == ("L", (28, 28))


def test_fashion_mini_shares_no_image_between_training_and_validation(fashion):
    train, val = ({image.tobytes() for image in images.images} for images in fashion)
    assert not train & val


def test_fashion_mini_labels_belong_to_the_images(fashion):
    train, val = fashion
    flat = train.images.reshape(len(train.labels), -1).astype(np.float32)
    centres = np.stack([flat[np.asarray(train.labels) == label].mean(axis=0) for label in range(10)])
    distances = ((val.images.reshape(-1, 1, 784) - centres) ** 2).mean(axis=-1)
    assert (distances.argmin(axis=1) == np.asarray(val.labels)).mean() > 0.6
