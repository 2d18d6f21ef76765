"""Sliding windows: scores equal those of the whole image where possible, and one strip is in memory."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from volo.inference.sliding import BLOCK, Sliding, sliding_scores, window_starts

CLASSES = 4


def picture(height, width, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def tensor(image):
    return torch.from_numpy(np.array(image))[None].permute(0, 3, 1, 2)


def pixelwise(windows):
    """Logits that depend on each pixel alone: windows cannot change them."""
    red, green, blue = (windows[:, channel].float() / 255 for channel in range(3))
    return torch.stack([red * green, (blue - red).tanh(), green**2, red + blue - green], dim=1)


def seen(windows):
    """Logits that depend on all of a window: on where a pixel lies in it, and on the window's mean."""
    _, _, height, width = windows.shape
    place = torch.arange(height)[:, None] * 0.01 + torch.arange(width) * 0.02
    mean = windows.float().mean(dim=(1, 2, 3), keepdim=True) / 255
    return torch.stack([place.expand(len(windows), -1, -1) * (k + 1) for k in range(CLASSES)], 1) + mean


def scores(image, forward, sliding, classes=CLASSES):
    return torch.cat(list(sliding_scores(image, forward, sliding, classes=classes)), dim=1)


sides = st.integers(1, 150)


@st.composite
def covered(draw):
    """An image's size, and windows that cover it."""
    size, window = (draw(sides), draw(sides)), (draw(st.integers(1, 90)), draw(st.integers(1, 90)))
    # Not too many of them.
    stride = tuple(draw(st.integers(max(1, side // 3), side)) for side in window)
    return size, Sliding(window=window, stride=stride, batch_size=draw(st.integers(1, 5)))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 500), st.integers(1, 100), st.data())
def test_windows_cover_a_side_without_gaps_and_within_it(length, window, data):
    window = min(window, length)
    stride = data.draw(st.integers(1, window))
    starts = window_starts(length, window, stride)
    assert starts[0] == 0
    assert starts[-1] + window == length
    assert all(0 < second - first <= stride for first, second in pairwise(starts))


@pytest.mark.parametrize("size", [(1, 1), (40, 70), (64, 65), (130, 50)])
def test_one_window_over_the_image_is_the_whole_image_exactly(size):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, padding=2), torch.nn.GELU(), torch.nn.Conv2d(8, CLASSES, 3, padding=1)
    )
    image = picture(*size)
    with torch.no_grad():
        whole = network(tensor(image).float())[0]
        got = scores(image, lambda windows: network(windows.float()), Sliding(window=(130, 130), stride=(9, 9)))
    assert torch.equal(got, whole)


@settings(deadline=None, max_examples=40)
@given(covered())
def test_windows_do_not_change_scores_that_depend_on_single_pixels(case):
    size, sliding = case
    image = picture(*size)
    torch.testing.assert_close(scores(image, pixelwise, sliding), pixelwise(tensor(image))[0], rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(covered())
def test_a_constant_model_has_no_seams(case):
    size, sliding = case
    constant = torch.tensor([0.3, -1.7, 2.9, 0.0])[:, None, None]
    got = scores(picture(*size), lambda w: constant.expand(len(w), -1, *w.shape[2:]), sliding)
    torch.testing.assert_close(got, constant.expand(-1, *size), rtol=1e-6, atol=0)


@settings(deadline=None, max_examples=25)
@given(covered(), st.booleans())
def test_every_pixel_has_the_mean_of_the_windows_that_contain_it(case, mirrored):
    (height, width), sliding = case
    image = picture(height, width)
    pixels, total, count = tensor(image), torch.zeros(CLASSES, height, width), torch.zeros(height, width)
    high, wide = min(sliding.window[0], height), min(sliding.window[1], width)
    for top in window_starts(height, high, sliding.stride[0]):
        for left in window_starts(width, wide, sliding.stride[1]):
            here = slice(top, top + high), slice(left, left + wide)
            window = pixels[(..., *here)]
            total[(..., *here)] += (seen(window.flip(-1)).flip(-1) if mirrored else seen(window))[0]
            count[here] += 1
    expected = total / count
    if mirrored:  # beside the view as it is
        plain = scores(image, seen, sliding)
        expected = (plain.softmax(0) + expected.softmax(0)) / 2
        sliding = Sliding(window=sliding.window, stride=sliding.stride, flip=True)
    torch.testing.assert_close(scores(image, seen, sliding), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [0.29, 0.5, 0.75, 1.25, 2.0, 3.0])
def test_a_view_of_another_scale_equals_the_resized_image_with_logits_resized_back(scale):
    image = picture(150, 203)
    small = image.resize((round(203 * scale), round(150 * scale)), Image.Resampling.BILINEAR)
    expected = F.interpolate(pixelwise(tensor(small)), size=(150, 203), mode="bilinear", align_corners=False)[0]
    got = scores(image, pixelwise, Sliding(window=(40, 56), stride=(27, 40), scales=(scale,), batch_size=2))
    # Pillow rounds to gray levels after each direction, and takes first the one that is less work, which may be another
    # for a strip: each channel is one level off here and there.
    torch.testing.assert_close(got, expected, rtol=0, atol=4.1 / 255)
    assert (got - expected).abs().mean() < 0.4 / 255


def test_probabilities_of_several_views_are_averaged():
    image, window = picture(90, 70), {"window": (48, 48), "stride": (32, 32)}
    alone = [scores(image, pixelwise, Sliding(scales=(scale,), **window)).softmax(0) for scale in (0.5, 1.0, 1.7)]
    together = scores(image, pixelwise, Sliding(scales=(0.5, 1.0, 1.7), **window))
    torch.testing.assert_close(together, sum(alone) / 3)
    torch.testing.assert_close(together.sum(0), torch.ones(90, 70))


def test_arrays_of_many_channels_are_resized_channel_by_channel():
    planes = np.random.default_rng(0).integers(0, 256, (60, 50, 5), dtype=np.uint8)

    def five(windows):
        assert windows.shape[1] == 5
        return windows[:, 1:].float()

    got = scores(planes, five, Sliding(window=(32, 32), stride=(21, 21)))
    torch.testing.assert_close(got, torch.from_numpy(planes[..., 1:]).permute(2, 0, 1).float())
    assert scores(planes, five, Sliding(window=(32, 32), stride=(21, 21), scales=(0.5,))).shape == (4, 60, 50)


def test_each_window_is_computed_once_and_only_when_its_rows_are_requested():
    looked = []

    def forward(windows):
        looked.append(len(windows))
        return pixelwise(windows)

    blocks = sliding_scores(
        picture(300, 200), forward, Sliding(window=(100, 100), stride=(100, 50), batch_size=2), classes=CLASSES
    )
    assert looked == []
    assert next(blocks).shape == (CLASSES, BLOCK, 200)
    assert looked == [2, 1]  # a strip of three
    assert sum(block.shape[1] for block in blocks) == 300 - BLOCK
    assert looked == [2, 1] * 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": (0, 8)}, r"window must be a height and a width in pixels, not \(0, 8\)"),
        ({"stride": (8, 9)}, r"stride must be 1 to the window's sides, 8 down and 8 across, .* not \(8, 9\)"),
        ({"stride": (0, 1)}, r"stride must be 1 to"),
        ({"scales": ()}, r"scales must be one or more positive factors, not \(\)"),
        ({"scales": (1.0, -1.0)}, "scales must be"),
        ({"scales": (float("nan"),)}, "scales must be"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
    ],
)
def test_windows_that_leave_pixels_out_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        Sliding(**{"window": (8, 8), "stride": (4, 4), **settings})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("height", "views", "widths"),
    [(8_000, "", 1), (2_500, "scales=(0.5, 1.25), flip=True", 2 * 1.25 + 2 * 0.5)],
    ids=["one view of 100 megapixels", "four views"],
)
def test_memory_is_that_of_a_strip_of_windows_for_each_view(height, views, widths):
    """Beside the decoded image and its mask; rows that are being finished, windows and the allocator's slack."""
    code = f"""
import resource, numpy as np, torch
from PIL import Image
from volo.inference.sliding import Sliding, sliding_scores
image, mask = Image.new("RGB", (12_500, {height}), (90, 120, 30)), np.empty(({height}, 12_500), np.uint8)
mask[:] = 0
forward = lambda windows: windows.float().mean(1, keepdim=True) * torch.linspace(0, 1, 8)[:, None, None]
sliding = Sliding(window=(512, 512), stride=(341, 341), batch_size=2, {views})
list(sliding_scores(image.crop((0, 0, 512, 512)), forward, sliding, classes=8))  # what all of it needs
before, row = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
for block in sliding_scores(image, forward, sliding, classes=8):
    mask[row : row + block.shape[1]] = block.argmax(0).numpy()
    row += block.shape[1]
assert row == {height} and (mask == 7).all()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    took = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert took < 2 * widths * 8 * 512 * 12_500 * 4
