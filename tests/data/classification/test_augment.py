"""Augmentation: settings, random crop, flip, and RandAugment compared with that of timm."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data.auto_augment import LEVEL_TO_ARG, NAME_TO_OP

from volo.data import Augmentation, AugmentConfig, Preprocessing, TrainTransform
from volo.data.classification.augment import random_crop_box, resized
from volo.data.classification.rand_augment import OPERATIONS, Operation, RandAugment, random_filter

MOVING = [name for name, (_, moves) in OPERATIONS.items() if moves]
COLORING = [name for name in OPERATIONS if name not in MOVING]
LEVELS = (0.0, 2.5, 5.0, 9.0, 10.0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(height: int, width: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(rng(seed).integers(0, 256, shape, dtype=np.uint8))


def transform(size: tuple[int, int] = (16, 16), **changes) -> TrainTransform:
    """Return a transform with the given augmentations only; without any, it keeps the image as it is."""
    still = {"hflip": 0.0, "rand_augment": 0.0, "crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}
    return TrainTransform(AugmentConfig(**{**still, **changes}), Preprocessing(size=size))


# Settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hflip": 1.5}, r"augment\.hflip is a probability, 0–1, not 1\.5"),
        ({"hflip": float("nan")}, r"augment\.hflip is a probability, 0–1, not nan"),
        ({"erasing": -0.1}, r"augment\.erasing is a probability, 0–1, not -0\.1"),
        ({"rand_augment": 11.0}, r"augment\.rand_augment is a level, 0–10, not 11\.0"),
        ({"rand_augment": -1.0}, r"augment\.rand_augment is a level, 0–10, not -1\.0"),
        (
            {"crop_scale": (0.0, 1.0)},
            r"augment\.crop_scale must be \(least, most\), 0 < least ≤ most ≤ 1, not \(0\.0, 1\.0\)",
        ),
        ({"crop_scale": (0.5, 0.2)}, r"augment\.crop_scale must be \(least, most\)"),
        ({"crop_scale": (0.5, 1.2)}, r"augment\.crop_scale must be \(least, most\)"),
        (
            {"crop_ratio": (0.0, 1.0)},
            r"augment\.crop_ratio must be \(least, most\), 0 < least ≤ most, not \(0\.0, 1\.0\)",
        ),
        ({"crop_ratio": (2.0, 1.0)}, r"augment\.crop_ratio must be \(least, most\)"),
    ],
)
def test_invalid_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**changes)


@pytest.mark.parametrize("changes", [{"rand_augment_std": -0.5}, {"rand_augment_count": -1}])
def test_negative_settings_of_rand_augment_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        AugmentConfig(**changes)


def test_the_default_crop_keeps_more_of_small_images():
    default, given_ = AugmentConfig(), AugmentConfig(crop_scale=(0.3, 0.9))
    assert default.resolved_crop_scale((224, 224)) == default.resolved_crop_scale((128, 192)) == (0.08, 1.0)
    assert default.resolved_crop_scale((32, 32)) == default.resolved_crop_scale((224, 127)) == (0.5, 1.0)
    assert given_.resolved_crop_scale((32, 32)) == given_.resolved_crop_scale((224, 224)) == (0.3, 0.9)


# The random crop

SIDES = st.integers(1, 300)
SCALES = st.tuples(st.floats(0.05, 1.0), st.floats(0.05, 1.0)).map(sorted).map(tuple)
RATIOS = st.tuples(st.floats(0.3, 3.0), st.floats(0.3, 3.0)).map(sorted).map(tuple)


@settings(deadline=None)
@given(SIDES, SIDES, SCALES, RATIOS, st.integers(0, 2**32))
def test_a_crop_lies_inside_the_image(width, height, scale, ratio, seed):
    left, top, w, h = random_crop_box(width, height, scale, ratio, rng(seed))
    assert w >= 1
    assert h >= 1
    assert 0 <= left <= width - w
    assert 0 <= top <= height - h


@settings(deadline=None)
@given(st.integers(30, 300), st.integers(30, 300), SCALES, RATIOS, st.integers(0, 2**32))
def test_area_and_aspect_of_a_crop_are_in_their_ranges(width, height, scale, ratio, seed):
    left, top, w, h = random_crop_box(width, height, scale, ratio, rng(seed))
    # Sides are rounded to whole pixels: the true ones lie within half a pixel.
    assert (w - 0.5) / (h + 0.5) <= ratio[1]
    assert (w + 0.5) / (h - 0.5) >= ratio[0]
    centered = (left, top) == ((width - w) // 2, (height - h) // 2)
    if not centered:  # else it may be the way out of too long an image
        assert (w - 0.5) * (h - 0.5) <= scale[1] * width * height
        assert (w + 0.5) * (h + 0.5) >= scale[0] * width * height


def test_crops_fill_their_ranges_evenly():
    generator = rng(1)
    boxes = np.array([random_crop_box(400, 400, (0.1, 0.5), (3 / 4, 4 / 3), generator) for _ in range(2000)])
    left, top, w, h = boxes.T.astype(float)
    area, aspect = w * h / 400**2, np.log(w / h) / np.log(4 / 3)
    # Means of uniform draws: their standard errors are 0.0026, 0.013 and 0.0065.
    assert area.mean() == pytest.approx(0.3, abs=0.01)
    assert aspect.mean() == pytest.approx(0.0, abs=0.05)
    assert (left / (400 - w)).mean() == pytest.approx(0.5, abs=0.03)
    assert (top / (400 - h)).mean() == pytest.approx(0.5, abs=0.03)
    assert area.min() < 0.12
    assert area.max() > 0.48


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((1000, 30), (480, 0, 40, 30)),  # a strip: as wide as 4/3 of its height allows, in the middle
        ((30, 1000), (0, 480, 30, 40)),
        ((1000, 1), (499, 0, 1, 1)),
    ],
)
def test_an_extreme_aspect_leaves_the_largest_centered_box(size, box):
    assert random_crop_box(*size, (0.9, 1.0), (3 / 4, 4 / 3), rng()) == box


# One image


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_of_rand_augment_keeps_transparency_with_its_picture(name):
    colors, alpha = noise(24, 20), noise(24, 20).convert("L")
    clear = colors.copy()
    clear.putalpha(alpha)
    argument, moves = OPERATIONS[name]
    drawn = Operation(name, argument(0.9, rng()), Image.Resampling.BILINEAR if moves else None)
    augment, whole = RandAugment(9.0, 0.5, 2, 0.5, (10, 20, 30, 40)), (0, 0, 20, 24)
    changed = augment.apply(clear, (drawn,), whole)
    assert changed.mode == "RGBA"
    if not moves:
        np.testing.assert_array_equal(np.asarray(changed.getchannel("A")), np.asarray(alpha))
        np.testing.assert_array_equal(
            np.asarray(changed.convert("RGB")), np.asarray(augment.apply(colors, (drawn,), whole))
        )
    else:
        assert not np.array_equal(np.asarray(changed.getchannel("A")), np.asarray(alpha))


def test_without_augmentation_the_image_stays():
    image = noise(16, 16)
    np.testing.assert_array_equal(transform()(image, rng()), np.asarray(image))


@pytest.mark.parametrize("seed", range(5))
def test_a_flip_is_certain_or_impossible(seed):
    image = noise(16, 16)
    np.testing.assert_array_equal(transform(hflip=1.0)(image, rng(seed)), np.asarray(image)[:, ::-1])
    np.testing.assert_array_equal(transform(hflip=0.0)(image, rng(seed)), np.asarray(image))


def test_half_of_the_images_are_flipped_by_default():
    half, image = transform(hflip=AugmentConfig().hflip), noise(16, 16)
    flipped = [not np.array_equal(half(image, rng(seed)), np.asarray(image)) for seed in range(200)]
    assert 75 <= sum(flipped) <= 125  # 3.5 standard deviations


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_result_is_uint8_of_the_models_size(mode):
    mean = (0.5,) if mode == "L" else (0.5, 0.4, 0.3)
    full = TrainTransform(AugmentConfig(), Preprocessing(size=(12, 20), mean=mean, std=mean))
    for seed in range(20):
        pixels = full(noise(31, 17, mode), rng(seed))
        assert pixels.shape == (12, 20, len(mean))
        assert pixels.dtype == np.uint8


def test_the_same_generator_state_gives_the_same_picture():
    full, image = TrainTransform(AugmentConfig(), Preprocessing(size=(16, 16))), noise(30, 30)
    for seed in range(10):
        np.testing.assert_array_equal(full(image, rng(seed)), full(image, rng(seed)))
    assert len({full(image, rng(seed)).tobytes() for seed in range(10)}) == 10


def test_the_crop_is_a_resized_part_of_the_image():
    height, width = 64, 96
    y, x = np.mgrid[0:height, 0:width]
    ramps = Image.fromarray(np.stack([2 * x, 3 * y, 0 * x], axis=-1).astype(np.uint8))
    for seed in range(10):
        crop = transform(crop_scale=(0.2, 0.5), crop_ratio=(3 / 4, 4 / 3))(ramps, rng(seed)).astype(float)
        columns, rows = np.ptp(crop[8, :, 0]) / 2, np.ptp(crop[:, 8, 1]) / 3
        # Sixteen pixels span 15/16 of the crop's width and height.
        share = columns * rows * (16 / 15) ** 2 / (height * width)
        assert 0.17 <= share <= 0.54
        # Every column has one x, every row one y.
        assert np.ptp(crop[..., 0], axis=0).max() <= 1
        assert np.ptp(crop[..., 1], axis=1).max() <= 1


# Large images


def test_an_image_may_shrink_until_its_crop_has_twice_the_models_size():
    drawn = Augmentation((4000, 3000), False, (), (1000, 400, 3000, 1900), Image.Resampling.BILINEAR)
    assert drawn.shrink((224, 224)) == pytest.approx(1500 / 448)
    assert drawn.shrink((100, 500)) == pytest.approx(2.0)
    assert drawn.shrink((1000, 1000)) == 1.0
    assert drawn.on((1000, 750)).box == (250, 100, 750, 475)
    assert drawn.on((1, 1)).box == (0, 0, 1, 1)


def test_a_smaller_version_of_an_image_gives_nearly_the_same_pixels():
    large = Image.fromarray(np.asarray(noise(20, 25)).repeat(32, axis=0).repeat(32, axis=1))
    full = TrainTransform(AugmentConfig(rand_augment=0.0), Preprocessing(size=(48, 48)))
    for seed in range(20):
        drawn = full.draw(large.size, rng(seed))
        factor = int(drawn.shrink((48, 48)))
        difference = full.apply(large, drawn).astype(int) - full.apply(large.reduce(factor), drawn)
        # Its box is rounded to pixels of the smaller one, up to 0.4 pixels of the result.
        assert np.abs(difference).mean() < 20  # of noise whose neighbors differ by 85


# RandAugment


def apply(name: str, image: Image.Image, level: float, seed: int = 0, fill=(7, 8, 9)) -> Image.Image:
    """Apply one operation as RandAugment does."""
    draw = RandAugment(magnitude=level, magnitude_std=0.0, count=1, probability=1.0, fill=fill)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("volo.data.classification.rand_augment.OPERATIONS", {name: OPERATIONS[name]})
        return draw.apply(image, draw.draw(rng(seed)), (0, 0, *image.size))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_runs_at_every_level(name, mode):
    image = noise(12, 17, mode)
    for level in (*LEVELS, 10.0):
        for seed in range(3):
            result = apply(name, image, level, seed)
            assert (result.mode, result.size) == (mode, (17, 12))


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in ("AutoContrast", "Equalize", "Invert")])
def test_a_higher_level_changes_more(name):
    image = Image.fromarray(np.asarray(noise(6, 6)).repeat(8, axis=0).repeat(8, axis=1) // 2 + 40)

    def change(level: float) -> float:
        pairs = (np.asarray(apply(name, image, level, seed)).astype(float) for seed in range(8))
        return float(np.mean([np.abs(changed - np.asarray(image)).mean() for changed in pairs]))

    changes = [change(level) for level in (0.0, 4.0, 9.0)]
    assert changes == sorted(changes)
    assert changes[0] < changes[2]
    if not name.startswith("Posterize"):
        assert changes[0] < 0.5


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_flag_tells_operations_that_move_pixels(name):
    image = noise(20, 20)
    flips = (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM)
    # What only recolors commutes with both flips; a movement to one side does not.
    commutes = all(
        np.array_equal(
            np.asarray(apply(name, image.transpose(flip), 8.0, seed)),
            np.asarray(apply(name, image, 8.0, seed).transpose(flip)),
        )
        for flip in flips
        for seed in range(4)
    )
    assert commutes == (name in COLORING)


@pytest.mark.parametrize("name", MOVING)
def test_a_movement_carries_a_spot_away_and_shows_the_fill_behind_it(name):
    spot = np.full((41, 41, 3), 100, np.uint8)
    spot[30:35, 30:35] = 250
    moved = np.asarray(apply(name, Image.fromarray(spot), 10.0, seed=1)).astype(int)
    assert moved[32, 32].max() < 200
    assert (moved == (7, 8, 9)).all(axis=-1).any()


@pytest.mark.parametrize("name", COLORING)
def test_a_recoloring_leaves_a_spot_in_its_place(name):
    spot = np.full((21, 21, 3), (100, 90, 110), np.uint8)
    spot[4:9, 4:9] = (200, 230, 210)
    for level in (5.0, 9.0):
        changed = np.asarray(apply(name, Image.fromarray(spot), level)).astype(int)
        inside, outside = changed[5:8, 5:8].reshape(-1, 3), changed[11:, 11:].reshape(-1, 3)
        assert np.ptp(inside, axis=0).max() == np.ptp(outside, axis=0).max() == 0
        assert (inside[0] != outside[0]).any()


@pytest.mark.parametrize("name", MOVING)
def test_a_gray_image_is_filled_with_the_first_level(name):
    white = Image.new("L", (30, 30), 255)
    assert np.asarray(apply(name, white, 10.0, fill=(7,))).min() == 7


def test_the_fill_is_the_mean_of_the_normalization():
    assert transform().rand_augment.fill == (124, 116, 104)


@pytest.mark.parametrize("filter_", [Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
@pytest.mark.parametrize("name", MOVING)
def test_the_affine_gives_the_movement_of_timm(name, filter_):
    image, generator = noise(23, 31), rng()
    for level in LEVELS:
        drawn = Operation(name, OPERATIONS[name][0](level / 10, generator), filter_)
        expected = NAME_TO_OP[name](image, drawn.argument, resample=filter_, fillcolor=(7, 8, 9))
        moved = image.transform(
            image.size, Image.Transform.AFFINE, drawn.affine(image.size), filter_, fillcolor=(7, 8, 9)
        )
        np.testing.assert_array_equal(np.asarray(moved), np.asarray(expected))


@pytest.mark.parametrize("name", COLORING)
def test_recoloring_has_no_affine(name):
    assert Operation(name, OPERATIONS[name][0](0.5, rng())).affine((10, 20)) is None


# Only what the crop keeps


def plainly(image: Image.Image, operations, fill) -> Image.Image:
    """Change the whole image by timm's own operations."""
    for drawn in operations:
        options = {} if drawn.resample is None else {"resample": drawn.resample, "fillcolor": fill}
        image = NAME_TO_OP[drawn.name](image, *([] if drawn.argument is None else [drawn.argument]), **options)
    return image


@st.composite
def changes(draw, names, most: int):
    """Draw an image, operations of ``names`` and a box as in training."""
    generator = rng(draw(st.integers(0, 2**32)))
    mode, width, height = draw(st.sampled_from(["L", "RGB"])), draw(st.integers(1, 40)), draw(st.integers(1, 40))
    drawn = []
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=most)):
        argument = OPERATIONS[name][0](generator.uniform(), generator)
        drawn.append(Operation(name, argument, random_filter(generator) if name in MOVING else None))
    left, top, w, h = random_crop_box(width, height, (0.02, 1.0), (0.3, 3.0), generator)
    return noise(height, width, mode, seed=draw(st.integers(0, 9))), tuple(drawn), (left, top, left + w, top + h)


@settings(deadline=None)
@given(changes(COLORING, most=3))
def test_recoloring_a_box_equals_that_box_of_the_recolored_image(change):
    image, drawn, box = change
    part = RandAugment(9.0, 0.5, 2, 0.5, (7, 8, 9)).apply(image, drawn, box)
    np.testing.assert_array_equal(np.asarray(part), np.asarray(plainly(image, drawn, None).crop(box)))


@settings(deadline=None)
@given(changes(MOVING, most=1))
def test_moving_a_box_equals_that_box_of_the_moved_image(change):
    image, drawn, box = change
    fill = 7 if image.mode == "L" else (7, 8, 9)
    part = RandAugment(9.0, 0.5, 2, 0.5, (7, 8, 9)).apply(image, drawn, box)
    expected = plainly(image, drawn, fill).crop(box)
    # Coordinates differ by float64 rounding, and Pillow cuts what it interpolates off to whole levels.
    assert np.abs(np.asarray(part).astype(int) - np.asarray(expected)).max() <= 1


def test_a_box_after_all_operations_equals_that_of_the_whole_image():
    image = Image.fromarray(np.asarray(noise(9, 13)).repeat(8, axis=0).repeat(8, axis=1))
    draw = RandAugment(magnitude=9.0, magnitude_std=0.5, count=3, probability=1.0, fill=(7, 8, 9))
    for seed in range(100):
        drawn, box = draw.draw(rng(seed)), (5 + seed % 40, 3 + seed % 30, 60 + seed % 40, 40 + seed % 30)
        part = np.asarray(draw.apply(image, drawn, box)).astype(int)
        differing = np.mean(part != np.asarray(plainly(image, drawn, (7, 8, 9)).crop(box)))
        assert differing < 0.01


@pytest.mark.parametrize(
    ("drawn", "needed"),
    [
        (Operation("Invert"), (10, 20, 30, 35)),
        (Operation("BrightnessIncreasing", 1.5), (10, 20, 30, 35)),
        (Operation("Equalize"), (0, 0, 100, 80)),
        (Operation("SharpnessIncreasing", 1.5), (9, 19, 31, 36)),
        (Operation("TranslateXRel", 0.2, Image.Resampling.BICUBIC), (27, 17, 53, 38)),
        (Operation("TranslateYRel", -0.4, Image.Resampling.BILINEAR), (7, 0, 33, 6)),  # from y = -12 … 3
        (Operation("TranslateXRel", 0.9, Image.Resampling.BILINEAR), (97, 17, 100, 38)),  # nothing of the image
    ],
)
def test_only_the_needed_pixels_are_computed(drawn, needed):
    assert drawn.needs((100, 80), (10, 20, 30, 35)) == needed


# Resizing


@pytest.mark.parametrize("filter_", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
def test_a_small_size_is_reached_by_pillow(filter_):
    image = noise(40, 50)
    np.testing.assert_array_equal(resized(image, (32, 24), filter_), np.asarray(image.resize((24, 32), filter_)))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("filter_", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
@pytest.mark.parametrize("side", [60, 150, 400])
def test_a_large_size_is_reached_as_precisely_as_by_pillow(side, filter_, mode):
    size = (112, 128)
    image = Image.fromarray(np.asarray(noise(side // 4, side // 4, mode)).repeat(4, axis=0).repeat(4, axis=1))
    exact = torch.from_numpy(np.asarray(image, dtype=np.float64)).reshape(1, *image.size, -1).permute(0, 3, 1, 2)
    exact = (
        F.interpolate(exact, size, mode=filter_.name.lower(), antialias=True).clamp(0, 255)[0].permute(1, 2, 0).numpy()
    )
    ours = resized(image, size, filter_)
    theirs = np.asarray(image.resize(size[::-1], filter_)).reshape(ours.shape)
    assert ours.flags.c_contiguous
    assert np.abs(ours - exact).mean() < 1.02 * np.abs(theirs - exact).mean()
    assert np.abs(ours - exact).max() <= np.abs(theirs - exact).max() + 0.5


def arguments(function, draws: int = 40) -> list[float]:
    return sorted({round(float(function()), 12) for _ in range(draws)})


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_arguments_are_timms(name, level):
    generator, ours, theirs = rng(), OPERATIONS[name][0], LEVEL_TO_ARG[name]
    assert name in NAME_TO_OP
    if theirs is None:
        assert ours(level / 10, generator) is None
        return
    expected = arguments(lambda: theirs(level, {})[0])
    if name == "PosterizeIncreasing":  # Pillow keeps at least one bit
        expected = [max(1.0, value) for value in expected]
    assert arguments(lambda: ours(level / 10, generator)) == pytest.approx(expected)


def test_levels_are_drawn_around_the_mean_and_stay_within_0_and_10():
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        record = {"Invert": (lambda share, generator: seen.append(share), False)}
        patch.setattr("volo.data.classification.rand_augment.OPERATIONS", record)
        draw = RandAugment(magnitude=9.0, magnitude_std=0.5, count=2, probability=1.0, fill=(0,))
        for seed in range(300):
            draw.draw(rng(seed))
    assert len(seen) == 600
    assert min(seen) >= 0.0
    assert max(seen) == 1.0
    # Clipping at two standard deviations moves the mean by less than 0.001.
    assert np.mean(seen) == pytest.approx(0.9, abs=4 * 0.05 / math.sqrt(600))
    assert np.std(seen) == pytest.approx(0.05, rel=0.15)


def test_each_of_two_operations_is_applied_to_half_of_the_images():
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "volo.data.classification.rand_augment.OPERATIONS",
            {"Invert": (lambda share, generator: seen.append(1), False)},
        )
        draw = TrainTransform(AugmentConfig(), Preprocessing(size=(8, 8))).rand_augment
        generator = rng()
        for _ in range(500):
            draw.draw(generator)
    assert 437 <= len(seen) <= 563  # of 1000, four standard deviations


def test_all_operations_are_drawn():
    counts = dict.fromkeys(OPERATIONS, 0)

    def counting(name):
        def count(share, generator):
            counts[name] += 1
            return OPERATIONS[name][0](share, generator)

        return count, OPERATIONS[name][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("volo.data.classification.rand_augment.OPERATIONS", {name: counting(name) for name in OPERATIONS})
        draw = RandAugment(magnitude=9.0, magnitude_std=0.5, count=2, probability=1.0, fill=(0, 0, 0))
        for seed in range(500):
            draw.draw(rng(seed))
    assert sum(counts.values()) == 1000
    # Evenly: 1000 / 15 = 67 each, with a standard deviation of 8.
    assert 35 <= min(counts.values()) <= max(counts.values()) <= 99


def test_without_rand_augment_no_operation_is_drawn():
    assert transform(rand_augment=0.0).rand_augment.count == 0
    assert transform(rand_augment=5.0, rand_augment_count=3).rand_augment.count == 3


def test_augmentation_leaves_the_given_image_as_it_was():
    image = noise(20, 20)
    before = image.tobytes()
    for seed in range(20):
        TrainTransform(AugmentConfig(), Preprocessing(size=(16, 16)))(image, rng(seed))
    assert image.tobytes() == before
