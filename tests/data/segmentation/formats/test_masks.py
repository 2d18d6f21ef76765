"""Reading of masks of every format, and the errors for invalid ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scenes import COLORS, NAMES, save_mask, scene

from volo.data import IGNORE, ImageError, MaskClasses, MaskError, overlay, read_classes, read_mask
from volo.data.segmentation.formats import masks

CLASSES = MaskClasses.named(NAMES, COLORS)
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def saved(tmp_path, picture, name="mask.png", **options):
    picture.save(tmp_path / name, **options)
    return tmp_path / name


@settings(deadline=None, max_examples=40)
@given(arrays(np.uint8, SHAPES, elements=st.sampled_from([0, 1, 2, 3, 255])), st.sampled_from(["gray", "palette"]))
def test_gray_and_palette_masks_hold_indices(tmp_path_factory, mask, kind):
    path = tmp_path_factory.getbasetemp() / "mask.png"
    save_mask(mask, path, kind)
    read = read_mask(path, CLASSES)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, mask)


@settings(deadline=None, max_examples=40)
@given(arrays(np.uint8, SHAPES, elements=st.integers(0, 3)), st.sampled_from(["colors", "palette"]))
def test_colors_are_converted_exactly(tmp_path_factory, mask, kind):
    path = tmp_path_factory.getbasetemp() / "mask.png"
    save_mask(mask, path, kind)
    np.testing.assert_array_equal(read_mask(path, CLASSES, palette=True), mask)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_the_orientation_is_applied_once(tmp_path, ending):
    indices = np.array([[0, 1, 1], [2, 0, 0]], np.uint8)
    for orientation, upright in ((3, indices[::-1, ::-1]), (6, np.rot90(indices, -1)), (8, np.rot90(indices, 1))):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = saved(tmp_path, Image.fromarray(indices), f"mask.{ending}", exif=exif)
        np.testing.assert_array_equal(read_mask(path, CLASSES), upright)


def test_a_mask_with_a_large_color_profile_is_read(tmp_path):
    indices = np.array([[0, 1], [2, 0]], np.uint8)
    path = saved(tmp_path, Image.fromarray(indices), icc_profile=bytes(2_000_000))
    np.testing.assert_array_equal(read_mask(path, CLASSES), indices)


def test_other_gray_modes(tmp_path):
    indices = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
    pictures = {
        "bits.png": Image.fromarray(indices.astype(bool)),
        "deep.png": Image.fromarray(indices.astype(np.uint16)),
        "deep.tif": Image.fromarray(indices.astype(np.uint16)),
        "wide.tif": Image.fromarray(indices.astype(np.int32)),
        "clear.png": Image.merge("LA", [Image.fromarray(indices)] * 2),
        "plain.bmp": Image.fromarray(indices),
    }
    for name, picture in pictures.items():
        np.testing.assert_array_equal(read_mask(saved(tmp_path, picture, name), CLASSES), indices, err_msg=name)


def test_values_of_sixteen_bits_are_looked_up(tmp_path):
    (tmp_path / "classes.txt").write_text("1000: near\n40000: far\n0: ignore\n")
    classes = read_classes(tmp_path / "classes.txt")
    path = saved(tmp_path, Image.fromarray(np.array([[1000, 40000, 0]], np.uint16)))
    assert read_mask(path, classes).tolist() == [[0, 1, IGNORE]]


def test_the_exif_orientation_of_a_mask_is_applied(tmp_path):
    mask = np.array([[0, 1, 2], [3, 3, 3]], np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, Image.fromarray(mask), exif=exif)
    np.testing.assert_array_equal(read_mask(path, CLASSES), np.rot90(mask, -1))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            np.array([[0, 7, 7, 12]], np.uint8),
            r"it holds values of no class: 7 \(2 pixels\), 12 \(1 pixels\); the classes have the values 0–3, 255: add",
        ),
        (np.array([[0, 256]], np.uint16), r"it holds values of no class: 256 \(1 pixels\)"),
        (np.array([[0, -1]], np.int32), r"it holds values of no class: -1 \(1 pixels\)"),
        (np.array([[0, 10**6]], np.int32), r"it holds values of no class: 1000000 \(1 pixels\)"),
        (np.zeros((2, 2), np.float32), r"its values are floating-point numbers; save the indices"),
        (
            np.zeros((2, 2, 3), np.uint8),
            r"it is a color picture \(RGB\), not a picture of class indices; .* add --palette",
        ),
        (np.zeros((2, 2, 4), np.uint8), r"it is a color picture \(RGBA\)"),
    ],
)
def test_invalid_masks_are_reported(tmp_path, pixels, message):
    path = saved(tmp_path, Image.fromarray(pixels), "mask.tif")
    with pytest.raises(MaskError, match=rf"^mask .*mask\.tif: {message}"):
        read_mask(path, CLASSES)


def test_unknown_colors_are_reported_with_their_counts(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:] = COLORS[0]
    pixels[0, :3], pixels[1, 0] = (255, 0, 255), (1, 2, 3)
    path = saved(tmp_path, Image.fromarray(pixels))
    with pytest.raises(MaskError, match=r"it holds colors of no class: #ff00ff \(3 pixels\), #010203 \(1 pixels\)"):
        read_mask(path, CLASSES, palette=True)


def test_colors_of_a_large_mask_are_looked_up_some_rows_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(masks, "_PIXELS_AT_ONCE", 9)
    indices = np.arange(4 * 7).reshape(7, 4) % len(COLORS)
    pixels = np.array(COLORS, np.uint8)[indices]
    np.testing.assert_array_equal(read_mask(saved(tmp_path, Image.fromarray(pixels)), CLASSES, palette=True), indices)
    pixels[[0, 3, 6], 1] = (255, 0, 255)
    path = saved(tmp_path, Image.fromarray(pixels))
    with pytest.raises(MaskError, match=r"it holds colors of no class: #ff00ff \(3 pixels\);"):
        read_mask(path, CLASSES, palette=True)


def test_a_jpeg_is_not_a_mask(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.zeros((8, 8), np.uint8)), "mask.jpg")
    with pytest.raises(
        MaskError, match=r"mask\.jpg: it is a JPEG, which blurs values where classes meet; save masks as"
    ):
        read_mask(path, CLASSES)


def test_an_unreadable_mask_is_not_a_mask_error(tmp_path):
    (tmp_path / "mask.png").write_text("no picture")
    with pytest.raises(ImageError, match=r"cannot read mask .*mask\.png: not an image") as caught:
        read_mask(tmp_path / "mask.png", CLASSES)
    assert not isinstance(caught.value, MaskError)


def test_an_overlay_tints_every_class_but_not_ignored_pixels():
    pixels, mask = scene(np.random.default_rng(0))
    drawn = np.asarray(overlay(Image.fromarray(pixels), mask, COLORS, opacity=1.0))
    np.testing.assert_array_equal(drawn[mask == IGNORE], pixels[mask == IGNORE])
    known = mask != IGNORE
    np.testing.assert_array_equal(drawn[known], np.asarray(COLORS, np.uint8)[mask[known]])
    half = np.asarray(overlay(Image.fromarray(pixels[..., 0]), mask, COLORS)).astype(int)
    wanted = (np.asarray(COLORS)[mask[known]] + pixels[known][:, :1]) / 2
    assert abs(half[known] - wanted).max() <= 1.5
