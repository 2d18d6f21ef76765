"""Batches of images with their masks: equal for any number of workers and after resuming."""

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import make_scenes, save_mask

from volo.data import (
    EpochSampler,
    SegmentationAugmentConfig,
    SegmentationEvalSet,
    SegmentationTrainSet,
    SegmentationTransform,
    eval_loader,
    open_splits,
    train_loader,
)


@pytest.fixture
def splits(tmp_path):
    opened = open_splits(str(make_scenes(tmp_path, parts=(("train", 7), ("val", 5)))), task="segmentation")
    return {split: opener() for split, opener in opened.items()}


def batches(images, *, workers=0, epoch=0, skip=0, seed=3):
    sampler = EpochSampler(len(images), seed=seed, multiple_of=2)
    sampler.set_epoch(epoch)
    sampler.skip = skip
    transform = SegmentationTransform(SegmentationAugmentConfig(), size=(32, 40), mean=(0.5, 0.5, 0.5))
    return list(train_loader(SegmentationTrainSet(images, transform, seed), sampler, batch_size=2, workers=workers))


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first[:3], second[:3], strict=True)) and first[3] == second[3]


def test_a_batch_holds_bytes_of_images_and_masks(splits):
    first, *_, last = batches(splits["train"])
    for batch in (first, last):
        assert batch.images.shape == (2, 3, 32, 40)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.masks.shape == (2, 32, 40)
        assert batch.images.dtype == batch.masks.dtype == torch.uint8
        assert batch.indices.dtype == torch.int64
        assert set(batch.masks.unique().tolist()) <= {0, 1, 2, 3, 255}
        assert batch.problems == ()


def test_batches_depend_neither_on_workers_nor_on_the_start_in_an_epoch(splits):
    whole = batches(splits["train"])
    assert len(whole) == 3
    assert all(same(a, b) for a, b in zip(whole, batches(splits["train"], workers=2), strict=True))
    assert all(same(a, b) for a, b in zip(whole[1:], batches(splits["train"], skip=2), strict=True))
    assert not same(whole[0], batches(splits["train"], epoch=1)[0])
    assert not same(whole[0], batches(splits["train"], seed=4)[0])


def test_an_unusable_pair_is_replaced_by_the_next_and_reported(splits):
    images = splits["train"]
    images.image_paths[1].write_text("no picture")
    save_mask(np.full((48, 72), 77, np.uint8), images.mask_paths[2])
    found = batches(images)
    problems = [problem for batch in found for problem in batch.problems]
    assert all(len(batch.images) == 2 for batch in found)
    assert {1, 2}.isdisjoint(torch.cat([batch.indices for batch in found]).tolist())
    assert any("cannot read image" in problem and "1.png" in problem for problem in problems)
    assert any("it holds values of no class: 77" in problem for problem in problems)


def test_the_batch_is_empty_if_no_pair_can_be_read(splits):
    for path in splits["train"].mask_paths:
        path.write_text("no picture")
    batch, *_ = batches(splits["train"])
    assert batch.images.shape[0] == batch.masks.shape[0] == len(batch.indices) == 0
    assert len(batch.problems) == 2 * 7


def test_whole_images_are_evaluated_at_their_own_size(splits):
    images = splits["val"]
    for number in (1, 3):
        pixels = np.asarray(images.read(number))[:40, :50]
        indices = images.read_mask(number)[:40, :50]
        Image.fromarray(pixels).save(images.image_paths[number])
        save_mask(np.ascontiguousarray(indices), images.mask_paths[number])
    images = images.taking(range(5))  # opened anew: sizes are those of the headers then
    images.mask_paths[4].write_text("no picture")
    found = list(eval_loader(SegmentationEvalSet(images), batch_size=2, workers=0))
    assert [batch.indices.tolist() for batch in found] == [[0, 2], [], [1, 3]]
    assert [tuple(batch.images.shape[2:]) for batch in found if len(batch.indices)] == [(48, 72), (40, 50)]
    assert "cannot read mask" in found[1].problems[0]
    for batch in found:
        for pixels, mask, index in zip(batch.images, batch.masks, batch.indices.tolist(), strict=True):
            np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(images.read(index)))
            np.testing.assert_array_equal(mask.numpy(), images.read_mask(index))


def test_processes_share_the_images_to_evaluate(splits):
    images = SegmentationEvalSet(splits["val"])
    shares = [
        torch.cat([b.indices for b in eval_loader(images, batch_size=2, workers=0, indices=mine)])
        for mine in (range(0, 5, 2), range(1, 5, 2))
    ]
    assert [share.tolist() for share in shares] == [[0, 2, 4], [1, 3]]
