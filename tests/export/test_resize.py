"""Resizing and cropping agree with Pillow, except for its rounding."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from volo.data import Preprocessing, read_image
from volo.data.embedded import photo_folder
from volo.export.resize import PhotoCrop

SIDES = st.integers(1, 90)


@settings(max_examples=60, deadline=None)
@given(
    height=SIDES,
    width=SIDES,
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    crop_pct=st.sampled_from([0.5, 0.875, 0.96, 1.0]),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    seed=st.integers(0, 99),
)
def test_pixels_agree_with_pillow_but_are_not_rounded(height, width, size, crop_pct, interpolation, seed):
    """The difference is bounded by Pillow's two roundings; the weights of the second step widen the first by up to 1.3.

    The contrast is low, so that no value leaves 0 to 255: there, Pillow's result depends on the order of its steps.
    """
    preprocessing = Preprocessing(size=size, crop_pct=crop_pct, interpolation=interpolation)
    photo = np.random.default_rng(seed).integers(70, 186, (height, width, 3), dtype=np.uint8)
    got = PhotoCrop(preprocessing)(torch.from_numpy(photo)[None])
    expected = torch.from_numpy(preprocessing.pixels(Image.fromarray(photo))).permute(2, 0, 1)[None].float()
    assert got.shape == expected.shape
    assert (got - expected).abs().max() < 1.2


@pytest.mark.parametrize("side", [32, 224])
def test_real_photos_are_clamped_where_they_overshoot(side):
    preprocessing = Preprocessing(size=(side, side), crop_pct=0.96)
    crop = PhotoCrop(preprocessing)
    for path in photo_folder().glob("*.jpg"):
        photo = read_image(path)
        got = crop(torch.from_numpy(np.array(photo))[None])[0].permute(1, 2, 0).numpy()
        difference = np.abs(got - preprocessing.pixels(photo))
        assert difference.max() < 1.2
        assert difference.mean() < 0.31


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interpolation": "lanczos"}, "can resize images with bilinear or bicubic interpolation, not with lanczos"),
        ({"crop_pct": 1.1}, r"cannot pad images \(crop_pct above 1\): omit --include-resize"),
        ({"mean": (0.5,) * 4, "std": (0.5,) * 4}, r"cannot resize images with transparency: omit --include-resize"),
    ],
)
def test_errors_of_preprocessing_that_only_pillow_supports(options, message):
    with pytest.raises(ValueError, match=message):
        PhotoCrop(Preprocessing(size=(32, 32), **options))
