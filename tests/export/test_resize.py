"""Resizing and cropping as Pillow does it, to its rounding."""

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
def test_pixels_are_those_of_pillow_unrounded(height, width, size, crop_pct, interpolation, seed):
    """Within Pillow's two roundings, the first of which the second step may widen by its weights' 1.3.

    The contrast is such that nothing overshoots 0 to 255: where it does, Pillow's result hangs on its order of steps.
    """
    preprocessing = Preprocessing(size=size, crop_pct=crop_pct, interpolation=interpolation)
    photo = np.random.default_rng(seed).integers(70, 186, (height, width, 3), dtype=np.uint8)
    got = PhotoCrop(preprocessing)(torch.from_numpy(photo)[None])
    expected = torch.from_numpy(preprocessing.pixels(Image.fromarray(photo))).permute(2, 0, 1)[None].float()
    assert got.shape == expected.shape
    assert (got - expected).abs().max() < 1.2


@pytest.mark.parametrize("side", [32, 224])
def test_real_photos_are_cut_where_they_overshoot(side):
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
        ({"interpolation": "lanczos"}, "resized inside a file by bilinear or bicubic, not by lanczos"),
        ({"crop_pct": 1.1}, r"cannot be padded \(crop_pct above 1\) inside a file: leave out --include-resize"),
        ({"mean": (0.5,) * 4, "std": (0.5,) * 4}, r"cannot be resized with transparency \(4 channels\) inside a file"),
    ],
)
def test_what_only_pillow_does_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        PhotoCrop(Preprocessing(size=(32, 32), **options))
