import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from volo.data import IGNORE, Preprocessing, SegmentationBatch
from volo.models import create_segmenter
from volo.tasks.metrics import segmentation_metrics
from volo.tasks.segmentation import SegmentationTask, pixel_loss


def masks(*shape, classes=4, seed=0):
    drawn = torch.from_numpy(np.random.default_rng(seed).integers(0, classes + 1, shape))
    return torch.where(drawn == classes, IGNORE, drawn)


def test_the_loss_is_the_mean_over_pixels_that_are_not_ignored():
    logits, target = torch.randn(2, 4, 6, 7), masks(2, 6, 7)
    assert_close(pixel_loss(logits, target), F.cross_entropy(logits, target, ignore_index=IGNORE))


def test_masks_with_every_pixel_ignored_give_no_loss_and_no_gradient():
    logits = torch.randn(2, 4, 6, 7, requires_grad=True)
    loss = pixel_loss(logits, torch.full((2, 6, 7), IGNORE))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


def scores_by_hand(predicted, target, classes):
    counts = target != IGNORE
    predicted, target = predicted[counts], target[counts]
    iou = []
    for index in range(classes):
        union = ((predicted == index) | (target == index)).sum()
        iou.append(float(((predicted == index) & (target == index)).sum() / union) if union else float("nan"))
    return float(np.nanmean(iou)), iou, float((predicted == target).float().mean())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), present=st.integers(1, 5), occurring=st.integers(1, 5))
def test_scores_are_those_of_the_definition_summed_over_images(seed, present, occurring):
    """Some classes occur in no mask, some in neither masks nor predictions."""
    target, predicted = masks(4, 5, 6, classes=present, seed=seed), masks(4, 5, 6, classes=occurring, seed=seed + 1)
    predicted[predicted == IGNORE] = 0
    target[0, 0, 0] = 0
    metrics = segmentation_metrics(5, IGNORE)
    for part in (slice(0, 1), slice(1, 4)):
        metrics.update(F.one_hot(predicted[part], 5).permute(0, 3, 1, 2).float(), target[part])
    scores, (miou, iou, accuracy) = metrics.compute(), scores_by_hand(predicted, target, 5)
    assert_close(scores["iou"], torch.tensor(iou), equal_nan=True)
    assert_close(scores["miou"], torch.tensor(miou))
    assert_close(scores["pixel_accuracy"], torch.tensor(accuracy))


@pytest.fixture(scope="module")
def task():
    torch.manual_seed(0)
    model = create_segmenter("volo_micro_32", num_classes=4, decoder_channels=16, patch_size=8, img_size=64).eval()
    preprocessing = Preprocessing(size=(64, 64))
    return SegmentationTask(
        model, preprocessing=preprocessing, aux_weight=0.4, short_side=64, seed=0, configure=lambda model: {}
    )


def test_validation_is_at_the_images_own_size_and_the_models_scale(task):
    images, target = torch.randint(0, 256, (2, 3, 128, 160), dtype=torch.uint8), masks(2, 128, 160).byte()
    with torch.no_grad():
        task.validation_step(SegmentationBatch(images, target, torch.arange(2), ()), 0)
        small = F.interpolate(task.preprocessing.normalize(images), (64, 80), mode="bilinear", antialias=True)
        logits = F.interpolate(task.model(small), (128, 160), mode="bilinear")
    assert_close(task.val_loss.compute(), F.cross_entropy(logits, target.long(), ignore_index=IGNORE))
    _, iou, accuracy = scores_by_hand(logits.argmax(1), target.long(), 4)
    scores = task.val_metrics.compute()
    assert_close(scores["iou"], torch.tensor(iou), equal_nan=True)
    assert_close(scores["pixel_accuracy"], torch.tensor(accuracy))


def test_a_batch_without_a_readable_image_is_skipped(task):
    before = task.val_loss.weight.clone()
    task.validation_step(
        SegmentationBatch(torch.empty(0, 1, 1, 1), torch.empty(0, 1, 1), torch.empty(0).long(), ("bad",)), 0
    )
    assert torch.equal(task.val_loss.weight, before)
