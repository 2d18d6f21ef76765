"""Loaders: equal batches for any number of workers and after resuming, balanced order, and unreadable images."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from volo.data import (
    ArrayImages,
    AugmentConfig,
    EpochSampler,
    EvalImages,
    FileImages,
    ImageError,
    Preprocessing,
    TrainImages,
    TrainTransform,
    eval_loader,
    train_loader,
)
from volo.data.loader import TRIES

SIZE = Preprocessing(size=(8, 10))


class Pictures:
    """Noise of various sizes, of which some cannot be read."""

    channels = 3
    class_names = ("even", "odd")

    def __init__(self, count: int, broken: tuple[int, ...] = ()) -> None:
        self.labels, self.broken = [index % 2 for index in range(count)], broken

    def name(self, index: int) -> str:
        return f"picture {index}"

    def read(self, index: int, shrink=None) -> Image.Image:
        if index in self.broken:
            raise ImageError(f"cannot read picture {index}")
        shape = (12 + index % 5, 11 + index % 3, 3)
        return Image.fromarray(np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8))


def training(count: int = 22, broken: tuple[int, ...] = (), seed: int = 5) -> TrainImages:
    return TrainImages(Pictures(count, broken), TrainTransform(AugmentConfig(), SIZE), seed)


def epochs(
    workers: int, *, images: TrainImages | None = None, seed: int = 5, skip: int = 0, count: int = 2, first: int = 0
):
    """Load ``count`` epochs in batches of 4; ``skip`` images are left out at the start of the first."""
    images = images or training(seed=seed)
    sampler = EpochSampler(len(images), seed=seed)
    sampler.skip = skip
    loader = train_loader(images, sampler, batch_size=4, workers=workers)
    result = []
    for epoch in range(first, first + count):
        sampler.set_epoch(epoch)
        result.append(list(loader))
    return result


def assert_same(batches, expected):
    assert len(batches) == len(expected) > 0
    for batch, other in zip(batches, expected, strict=True):
        assert torch.equal(batch.images, other.images)
        assert torch.equal(batch.labels, other.labels)
        assert torch.equal(batch.indices, other.indices)
        assert batch.problems == other.problems


@pytest.fixture(scope="module")
def reference():
    return epochs(0)


# Equal batches


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(workers, reference):
    for batches, expected in zip(epochs(workers), reference, strict=True):
        assert_same(batches, expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_resumed_in_its_middle_gives_the_remaining_batches(workers, reference):
    continued, following = epochs(workers, skip=12)
    assert_same(continued, reference[0][3:])
    assert_same(following, reference[1])


def test_a_run_may_begin_with_any_epoch(reference):
    assert_same(epochs(0, first=1, count=1)[0], reference[1])


def test_the_same_seed_gives_the_same_batches_and_another_seed_others(reference):
    assert_same(epochs(0)[0], reference[0])
    other = epochs(0, seed=6)[0]
    assert not torch.equal(other[0].indices, reference[0][0].indices)


def test_epochs_differ_in_order_and_in_augmentation(reference):
    orders = [torch.cat([batch.indices for batch in epoch]).tolist() for epoch in reference]
    assert orders[0] != orders[1]
    images = training()
    assert any(not np.array_equal(images[0, index].pixels, images[1, index].pixels) for index in range(4))


def test_a_sample_depends_on_its_key_alone():
    images = training()
    first = images[3, 7].pixels
    images[4, 7], images[3, 8]
    np.testing.assert_array_equal(images[3, 7].pixels, first)
    np.testing.assert_array_equal(training()[3, 7].pixels, first)


def test_samples_of_one_epoch_have_different_draws():
    picture = np.asarray(Pictures(1).read(0))
    same = ArrayImages(np.stack([picture] * 6), [0] * 6, ("a",))
    images = TrainImages(same, TrainTransform(AugmentConfig(), SIZE), 0)
    assert len({images[0, index].pixels.tobytes() for index in range(6)}) == 6


def test_the_seed_of_the_images_determines_the_augmentation():
    assert any(not np.array_equal(training(seed=1)[0, i].pixels, training(seed=2)[0, i].pixels) for i in range(4))


# The order


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 9), st.integers(0, 9))
def test_an_epoch_holds_every_image_once(length, seed, epoch):
    sampler = EpochSampler(length, seed=seed)
    sampler.set_epoch(epoch)
    keys = list(sampler)
    assert len(keys) == len(sampler)
    assert sorted(keys) == [(epoch, index) for index in range(length)]


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 7), st.integers(0, 9), st.integers(0, 9))
def test_shards_of_ranks_interleave_to_the_order_of_one_process(length, world_size, multiple, seed, epoch):
    options = {"seed": seed, "world_size": world_size, "multiple_of": multiple}
    whole = EpochSampler(length, seed=seed)
    shards = [EpochSampler(length, rank=rank, **options) for rank in range(world_size)]
    for sampler in (whole, *shards):
        sampler.set_epoch(epoch)
    parts = [list(shard) for shard in shards]
    share = length // (world_size * multiple) * multiple
    assert {len(part) for part in parts} == {share} == {len(shard) for shard in shards}
    together = [key for keys in zip(*parts, strict=True) for key in keys]
    # All ranks take equally many, so that what does not divide evenly is left for another epoch.
    assert together == list(whole)[: share * world_size]


def test_shards_resumed_in_the_middle_are_the_ends_of_the_shards():
    whole = list(EpochSampler(20, seed=1, rank=1, world_size=3))
    sampler = EpochSampler(20, seed=1, rank=1, world_size=3)
    sampler.skip = 4
    assert list(sampler) == whole[4:]
    assert list(sampler) == whole


def test_the_order_is_shuffled():
    order = [index for _, index in EpochSampler(50, seed=0)]
    assert order != sorted(order)


LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=60)


@settings(deadline=None)
@given(LABELS, st.integers(0, 9), st.integers(0, 9))
def test_a_balanced_epoch_draws_all_classes_equally_often_and_uses_every_image_of_small_ones(labels, seed, epoch):
    sampler = EpochSampler(len(labels), seed=seed, labels=labels)
    sampler.set_epoch(epoch)
    keys = list(sampler)
    assert len(keys) == len(set(keys)) == len(labels)
    assert {number for number, _ in keys} == {epoch}
    drawn = [index % len(labels) for _, index in keys]
    per_class = np.bincount([labels[index] for index in drawn], minlength=6)[np.unique(labels)]
    assert per_class.max() - per_class.min() <= 1
    for label in np.unique(labels):
        times = np.bincount([index for index in drawn if labels[index] == label], minlength=len(labels))
        times = times[np.flatnonzero(np.asarray(labels) == label)]
        assert times.max() - times.min() <= 1  # no image once more before all others of its class have come
    repeat = EpochSampler(len(labels), seed=seed, labels=labels)
    repeat.set_epoch(epoch)
    assert list(repeat) == keys


@settings(deadline=None)
@given(LABELS, st.integers(1, 5), st.integers(0, 9), st.integers(0, 20))
def test_balanced_shards_interleave_and_resume_like_others(labels, world_size, seed, skip):
    whole = list(EpochSampler(len(labels), seed=seed, labels=labels))
    shards = [
        EpochSampler(len(labels), seed=seed, rank=rank, world_size=world_size, labels=labels)
        for rank in range(world_size)
    ]
    parts = [list(shard) for shard in shards]
    assert [key for keys in zip(*parts, strict=True) for key in keys] == whole[: len(labels) // world_size * world_size]
    shards[0].skip = skip
    assert list(shards[0]) == parts[0][skip:]


def test_a_balanced_order_is_shuffled_and_another_in_every_epoch():
    sampler = EpochSampler(40, seed=0, labels=[0] * 30 + [1] * 10)
    first = [index for _, index in sampler]
    sampler.set_epoch(1)
    assert first != sorted(first)
    assert {index % 40 for index in first} != {index % 40 for _, index in sampler}


def test_a_repeated_image_is_augmented_differently():
    images = training(count=4)
    first, again = images[0, 1], images[0, 1 + 4]
    assert (first.position, first.label) == (again.position, again.label)
    assert not np.array_equal(first.pixels, again.pixels)


# Large images


def test_large_files_are_decoded_smaller_with_the_same_augmentation(tmp_path):
    small = np.random.default_rng(0).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    Image.fromarray(small.repeat(40, axis=0).repeat(40, axis=1)).save(tmp_path / "large.jpg", quality=95)
    asked = []

    class Asked(FileImages):
        def read(self, index, shrink=None):
            image = super().read(index, shrink)
            asked.append(image.size)
            return image

    files, transform = Asked([tmp_path / "large.jpg"], [0], ("a",)), TrainTransform(AugmentConfig(rand_augment=0), SIZE)
    for epoch in range(10):
        sample = TrainImages(files, transform, seed=3)[epoch, 0].pixels.astype(int)
        whole = transform(FileImages.read(files, 0), np.random.default_rng((3, 1, epoch, 0)))
        assert np.abs(sample - whole).mean() < 20  # of noise whose neighbors differ by 85
    assert max(asked) < (800, 600)
    assert min(asked) < (400, 300)


# Batches


def test_training_batches_are_full_uint8_and_channels_last_in_memory(reference):
    assert [len(epoch) for epoch in reference] == [5, 5]
    for batch in reference[0]:
        assert batch.images.shape == (4, 3, 8, 10)
        assert batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.images.stride(1) == 1
        assert batch.labels.dtype == batch.indices.dtype == torch.int64
        assert batch.labels.tolist() == [index % 2 for index in batch.indices.tolist()]


def test_gray_images_make_batches_of_one_channel():
    array = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    gray = Preprocessing(size=(8, 8), mean=(0.5,), std=(0.5,))
    (batch,) = eval_loader(EvalImages(ArrayImages(array, [0, 0, 0], ("a",)), gray.pixels), batch_size=8, workers=0)
    assert batch.images.shape == (3, 1, 8, 8)
    np.testing.assert_array_equal(batch.images.squeeze(1).numpy(), array)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_takes_all_images_in_order_and_prepares_them(workers):
    pictures = Pictures(7)
    batches = list(eval_loader(EvalImages(pictures, SIZE.pixels), batch_size=3, workers=workers))
    assert [batch.indices.tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [batch.labels.tolist() for batch in batches] == [[0, 1, 0], [1, 0, 1], [0]]
    expected = np.stack([SIZE.pixels(pictures.read(index)) for index in range(7)])
    images = torch.cat([batch.images for batch in batches])
    np.testing.assert_array_equal(images.permute(0, 2, 3, 1).numpy(), expected)
    assert all(batch.images.is_contiguous(memory_format=torch.channels_last) for batch in batches)


def test_evaluation_can_be_limited_to_some_indices():
    loader = eval_loader(EvalImages(Pictures(10), SIZE.pixels), batch_size=3, workers=0, indices=range(1, 10, 2))
    assert [batch.indices.tolist() for batch in loader] == [[1, 3, 5], [7, 9]]


# Images that cannot be read


def test_an_unreadable_training_image_is_replaced_by_the_next_and_reported():
    sample = training(6, broken=(2, 3))[0, 2]
    assert (sample.position, sample.label) == (4, 0)
    assert sample.problems == ("cannot read picture 2", "cannot read picture 3")
    assert sample.pixels.shape == (8, 10, 3)


def test_the_last_image_is_replaced_by_the_first():
    sample = training(4, broken=(3,))[0, 3]
    assert (sample.position, sample.label) == (0, 0)
    assert sample.problems == ("cannot read picture 3",)


@pytest.mark.parametrize("workers", [0, 1])
def test_training_batches_stay_full_and_carry_the_problems(workers):
    (batches,) = epochs(workers, images=training(12, broken=(1, 6)), count=1)
    assert [len(batch.labels) for batch in batches] == [4, 4, 4]
    assert sorted(problem for batch in batches for problem in batch.problems) == [
        "cannot read picture 1",
        "cannot read picture 6",
    ]
    indices = sorted(torch.cat([batch.indices for batch in batches]).tolist())
    assert indices == [0, 2, 2, 3, 4, 5, 7, 7, 8, 9, 10, 11]


def test_a_sample_has_no_pixels_and_all_errors_if_no_image_can_be_read():
    sample = training(4, broken=(0, 1, 2, 3))[(0, 2)]
    assert sample.pixels is None
    assert sample.problems == tuple(f"cannot read picture {number}" for number in (2, 3, 0, 1))


def test_not_every_image_of_a_large_set_is_tried():
    sample = training(1000, broken=tuple(range(1000)))[(0, 500)]
    assert sample.pixels is None
    assert len(sample.problems) == TRIES


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_evaluation_image_is_left_out_and_reported(workers):
    loader = eval_loader(EvalImages(Pictures(6, broken=(1, 5)), SIZE.pixels), batch_size=3, workers=workers)
    first, second = loader
    assert (first.indices.tolist(), first.labels.tolist()) == ([0, 2], [0, 0])
    assert first.problems == ("cannot read picture 1",)
    assert (second.indices.tolist(), second.labels.tolist()) == ([3, 4], [1, 0])
    assert second.problems == ("cannot read picture 5",)
    np.testing.assert_array_equal(first.images[1].permute(1, 2, 0).numpy(), SIZE.pixels(Pictures(6).read(2)))


def test_a_batch_without_any_readable_image_is_empty_and_reports_all():
    loader = eval_loader(EvalImages(Pictures(3, broken=(0, 1, 2)), SIZE.pixels), batch_size=2, workers=0)
    first, second = loader
    for batch, problems in ((first, 2), (second, 1)):
        assert len(batch.images) == len(batch.labels) == len(batch.indices) == 0
        assert (batch.images.ndim, batch.images.dtype, batch.labels.dtype) == (4, torch.uint8, torch.int64)
        assert len(batch.problems) == problems
