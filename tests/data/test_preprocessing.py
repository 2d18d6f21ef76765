"""Conversion of a decoded image to the model's input: geometry, values, and a comparison with timm's transform."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform
from torch.testing import assert_close
from torchvision.transforms import functional as TF

from volo.data import IMAGENET_MEAN, IMAGENET_STD, Preprocessing


def photo(width: int, height: int) -> Image.Image:
    """Smooth areas, an edge and some noise, as photographs have them."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    pixels[: height // 2, width // 3 : width // 2] = (240, 20, 60)
    pixels += rng.integers(-8, 9, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def model_input(preprocessing: Preprocessing, image: Image.Image) -> torch.Tensor:
    """Return the model's input, (channels, H, W)."""
    pixels = torch.tensor(preprocessing.pixels(image)).permute(2, 0, 1)
    return preprocessing.normalize(pixels[None])[0]


def timm_input(preprocessing: Preprocessing, image: Image.Image) -> torch.Tensor:
    transform = create_transform(
        (3, *preprocessing.size),
        is_training=False,
        crop_pct=preprocessing.crop_pct,
        interpolation=preprocessing.interpolation,
        mean=preprocessing.mean,
        std=preprocessing.std,
    )
    return transform(image)


# Equal to timm's preprocessing, so that timm's published scores are reproduced


@pytest.mark.parametrize("crop_pct", [0.9, 0.96, 1.0, 1.15])
@pytest.mark.parametrize("image_size", [(500, 375), (333, 500), (640, 427), (224, 224), (100, 150), (900, 301)])
def test_the_input_equals_timms(image_size, crop_pct):
    preprocessing, image = Preprocessing(size=(224, 224), crop_pct=crop_pct), photo(*image_size)
    # Pixels are the same: what remains is rounding, far below one gray level (0.017).
    assert_close(model_input(preprocessing, image), timm_input(preprocessing, image), rtol=0, atol=2e-6)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "lanczos"])
@pytest.mark.parametrize("size", [32, 75])
def test_the_input_equals_timms_with_other_sizes_and_filters(size, interpolation):
    preprocessing = Preprocessing(size=(size, size), crop_pct=0.9, interpolation=interpolation)
    image = photo(120, 91)
    assert_close(model_input(preprocessing, image), timm_input(preprocessing, image), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("size", "image_size"), [(224, (165, 110)), (224, (170, 160)), (448, (275, 220))])
def test_integer_sides_are_not_rounded_down(size, image_size):
    preprocessing, image = Preprocessing(size=(size, size)), photo(*image_size)
    assert_close(model_input(preprocessing, image), timm_input(preprocessing, image), rtol=0, atol=2e-6)


# Geometry

SIDES = st.integers(1, 90)


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(8, 40), st.integers(8, 40), st.floats(0.3, 2.0), st.sampled_from(["L", "RGB"]))
def test_every_image_is_cropped_to_the_size(width, height, out_height, out_width, crop_pct, mode):
    mean = (0.5,) * len(mode.replace("RGB", "123"))
    preprocessing = Preprocessing(size=(out_height, out_width), crop_pct=crop_pct, mean=mean, std=mean)
    pixels = preprocessing.pixels(Image.new(mode, (width, height)))
    assert pixels.shape == (out_height, out_width, len(mean))
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("crop_pct", [0.7, 1.0])
@pytest.mark.parametrize("size", [(40, 40), (30, 60), (64, 24)])
@pytest.mark.parametrize("image_size", [(200, 100), (90, 170), (120, 120)])
def test_the_crop_is_central_and_keeps_the_aspect(image_size, size, crop_pct):
    (width, height), (out_height, out_width) = image_size, size
    y, x = np.mgrid[0:height, 0:width]
    ramps = Image.fromarray(np.stack([x, y, 0 * x], axis=-1).astype(np.uint8))
    crop = Preprocessing(size=size, crop_pct=crop_pct, interpolation="bilinear").pixels(ramps).astype(float)
    # The image is scaled to cover size / crop_pct, and position (row, column) shows what lies that far off the center.
    scale = max(out_height / height, out_width / width) / crop_pct
    columns = (width - 1) / 2 + (np.arange(out_width) - (out_width - 1) / 2) / scale
    rows = (height - 1) / 2 + (np.arange(out_height) - (out_height - 1) / 2) / scale
    inner = slice(2, -2)  # the filter's reach at the image's border
    tolerance = 1.2 / scale + 0.5  # truncated sides and a center between pixels: a pixel of the result
    np.testing.assert_allclose(crop[out_height // 2, inner, 0], columns[inner], atol=tolerance)
    np.testing.assert_allclose(crop[inner, out_width // 2, 1], rows[inner], atol=tolerance)


def test_an_image_of_the_size_and_aspect_is_only_resized():
    image = photo(120, 60)
    pixels = Preprocessing(size=(30, 60)).pixels(image)
    np.testing.assert_array_equal(pixels, np.asarray(image.resize((60, 30), Image.Resampling.BICUBIC)))


def test_an_image_of_the_size_is_not_changed():
    image = photo(60, 30)
    np.testing.assert_array_equal(Preprocessing(size=(30, 60)).pixels(image), np.asarray(image))


def test_a_crop_above_one_pads_with_black():
    pixels = Preprocessing(size=(46, 46), crop_pct=1.15).pixels(Image.new("RGB", (80, 80), "white"))
    assert (pixels[3:43, 3:43] == 255).all()
    assert pixels.sum() == 40 * 40 * 3 * 255


@pytest.mark.parametrize("image_size", [(60_000, 1), (1, 60_000), (20_000, 2), (2, 9_000)])
def test_a_very_long_image_is_cut_before_it_is_resized(image_size):
    """Resized as a whole, it would have up to three thousand million pixels."""
    image = Image.new("RGB", image_size, "white")
    middle = tuple(side // 2 for side in image_size)
    image.paste("red", tuple(max(0, at - 1) for at in middle) + tuple(at + 1 for at in middle))
    pixels = Preprocessing(size=(224, 224)).pixels(image)
    assert pixels.shape == (224, 224, 3)
    assert pixels[112, 112].tolist() == [255, 0, 0]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("crop_pct", [0.9, 1.0, 1.4])
@pytest.mark.parametrize("image_size", [(2000, 30), (30, 2000), (640, 12)])
def test_the_crop_of_a_long_image_is_nearly_that_of_the_whole_image(image_size, crop_pct, interpolation, monkeypatch):
    preprocessing = Preprocessing(size=(48, 40), crop_pct=crop_pct, interpolation=interpolation)
    long = photo(*image_size)
    expected = preprocessing.pixels(long).astype(int)
    monkeypatch.setattr("volo.data.preprocessing._LARGEST_RESIZED", 0)
    difference = np.abs(preprocessing.pixels(long) - expected)
    assert difference.mean() < 0.3  # both passes of the filter are rounded
    assert difference.max() <= 8


# Values


def test_values_are_normalized_as_torchvision_does():
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 3, 16, 16)
    expected = TF.normalize(pixels.float() / 255, list(IMAGENET_MEAN), list(IMAGENET_STD))
    normal = Preprocessing(size=(16, 16)).normalize(pixels)
    assert normal.dtype == torch.float32
    assert_close(normal, expected, rtol=0, atol=2e-6)


def test_gray_images_have_one_channel_with_its_own_mean_and_deviation():
    gray = Preprocessing(size=(4, 4), mean=(0.25,), std=(0.5,))
    assert (gray.channels, Preprocessing(size=(4, 4)).channels) == (1, 3)
    image = Image.fromarray(np.array([[0, 51], [102, 255]], np.uint8).repeat(2, axis=0).repeat(2, axis=1))
    expected = torch.tensor([[-0.5, -0.1], [0.3, 1.5]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert_close(model_input(gray, image), expected[None])


def test_normalizing_keeps_the_layout_in_memory():
    pixels = torch.zeros(2, 3, 4, 6, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    assert Preprocessing(size=(4, 6)).normalize(pixels).is_contiguous(memory_format=torch.channels_last)


# Settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (224,)}, r"size must be a height and a width of 1 to 16,384 pixels, not \(224,\)"),
        ({"size": (0, 224)}, r"size must be a height and a width of 1 to 16,384 pixels, not \(0, 224\)"),
        ({"size": (224.0, 224.0)}, r"size must be a height and a width of 1 to 16,384 pixels, not \(224\.0, 224\.0\)"),
        ({"size": (60_000, 60_000)}, r"size must be a height and a width of 1 to 16,384 pixels, not \(60000, 60000\)"),
        ({"size": 224}, r"size must be a height and a width of 1 to 16,384 pixels, not 224"),
        ({"crop_pct": 0.0}, r"crop_pct must be a number from 0\.1 to 10, not 0\.0"),
        ({"crop_pct": 1e-4}, r"crop_pct must be a number from 0\.1 to 10, not 0\.0001"),
        ({"crop_pct": math.nan}, r"crop_pct must be a number from 0\.1 to 10, not nan"),
        ({"crop_pct": "1"}, r"crop_pct must be a number from 0\.1 to 10, not '1'"),
        ({"size": (9_000, 9), "crop_pct": 0.5}, r"would resize images to more than 16,384 pixels a side"),
        ({"mean": (0.5,)}, r"mean and std must have a number for each channel, not \(0\.5,\) and \(0\.229"),
        ({"mean": (), "std": ()}, r"mean must be a number from -1e\+06 to 1e\+06 for each channel, not \(\)"),
        ({"mean": (math.nan,) * 3}, r"mean must be a number from .* for each channel, not \(nan, nan, nan\)"),
        ({"mean": (0.5, 1e308, 0.5)}, r"mean must be a number from .* not \(0\.5, 1e\+308, 0\.5\)"),
        ({"mean": (True,) * 3}, r"mean must be a number from .* not \(True, True, True\)"),
        ({"std": (0.2, 0.0, 0.2)}, r"std must be a number from 1e-06 to 1e\+06 for each channel, not \(0\.2, 0\.0, 0"),
        ({"std": (1e-320,) * 3}, r"std must be a number from 1e-06 to 1e\+06 for each channel, not \(1e-320, "),
        (
            {"std": (math.inf,) * 3},
            r"std must be a number from 1e-06 to 1e\+06 for each channel, not \(inf, inf, inf\)",
        ),
        ({"background": 7}, r"background must be a color such as white, gray or #808080, not 7"),
        ({"interpolation": ["cubic"]}, r"interpolation must be one of nearest, .*bicubic.*, not \['cubic'\]"),
        ({"background": "whitte"}, r"background must be a color such as white, gray or #808080, not 'whitte'"),
        ({"interpolation": "cubic"}, r"interpolation must be one of nearest, .*bicubic.*, not 'cubic'"),
    ],
)
def test_invalid_settings_are_reported(changes, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**{"size": (224, 224), **changes})


def test_settings_survive_json():
    preprocessing = Preprocessing(size=(32, 48), crop_pct=0.9, interpolation="lanczos", mean=(0.3,), std=(0.2,))
    assert Preprocessing.from_dict(json.loads(json.dumps(asdict(preprocessing)))) == preprocessing


def test_normalizing_does_not_change_its_input():
    pixels = torch.full((2, 3, 4, 6), 7.0)
    Preprocessing(size=(4, 6)).normalize(pixels)
    assert (pixels == 7).all()
