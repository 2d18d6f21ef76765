"""Hashes of pictures; groups of near hashes are checked against a comparison of all pairs."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy.sparse.csgraph import connected_components

from volo.data.checks.duplicates import HASH_BITS, near_hashes, perceptual_hash, pixel_digest, same_digests


def picture(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def bits_apart(first: int, second: int) -> int:
    return (first ^ second).bit_count()


@st.composite
def clustered_hashes(draw):
    """Draw a few random hashes, others that differ from them in some bits, and some None."""
    centers = draw(st.lists(st.integers(0, 2**HASH_BITS - 1), min_size=1, max_size=5))
    hashes = []
    for _ in range(draw(st.integers(0, 30))):
        value = draw(st.sampled_from(centers))
        for bit in draw(st.lists(st.integers(0, HASH_BITS - 1), max_size=7)):
            value ^= 1 << bit
        hashes.append(draw(st.sampled_from([value, value, value, None])))
    return hashes


@settings(deadline=None)
@given(clustered_hashes(), st.integers(0, 16))
def test_near_hashes_equal_a_comparison_of_all_pairs(hashes, distance):
    known = [place for place, value in enumerate(hashes) if value is not None]
    near = [[bits_apart(hashes[i], hashes[j]) <= distance for j in known] for i in known]
    expected: dict[int, set[int]] = {}
    if known:
        for place, component in zip(known, connected_components(np.array(near))[1], strict=True):
            expected.setdefault(component, set()).add(place)
    found = near_hashes(hashes, distance)
    assert sorted(map(sorted, found)) == sorted(sorted(group) for group in expected.values() if len(group) > 1)


def test_fifty_thousand_hashes_are_searched_in_a_moment():
    """Comparing them pair by pair in Python would take longer than the whole test suite."""
    hashes = [int(value) for value in np.random.default_rng(0).integers(0, 2**63, 50_000)]
    hashes += [hashes[0] ^ 0b1111, hashes[1] ^ 0b11111, *hashes[5:6] * 3000]
    assert near_hashes(hashes, 4) == [[0, 50_000], [5, *range(50_002, 53_002)]]


@pytest.mark.parametrize("distance", [-1, 17])
def test_a_distance_out_of_range_is_refused(distance):
    with pytest.raises(ValueError, match=f"must be 0–16 bits of 64, not {distance}"):
        near_hashes([], distance)


def test_scaling_compressing_and_brightening_hardly_change_the_hash_and_other_pictures_differ():
    original, buffer = picture(0), io.BytesIO()
    original.save(buffer, "JPEG", quality=40)
    value = perceptual_hash(original)
    changed = [
        Image.open(buffer),
        original.resize((60, 45)),
        ImageEnhance.Brightness(original).enhance(0.8),
        original.convert("L"),
    ]
    assert max(bits_apart(value, perceptual_hash(image)) for image in changed) <= 4
    assert min(bits_apart(value, perceptual_hash(picture(seed))) for seed in range(1, 50)) > 8


@pytest.mark.parametrize("color", ["black", "white", "#3366aa"])
def test_a_flat_picture_has_no_hash(color):
    assert perceptual_hash(Image.new("RGB", (50, 40), color)) is None


def test_digests_are_equal_only_for_equal_pixels():
    image = picture(0)
    other = image.copy()
    other.putpixel((3, 3), (1, 2, 3))
    gray = image.convert("L")
    reshaped = Image.frombytes("L", (90, 120), gray.tobytes())
    digests = [pixel_digest(one) for one in (image, other, image.copy(), gray, reshaped, gray.copy())]
    assert same_digests(digests) == [[0, 2], [3, 5]]
