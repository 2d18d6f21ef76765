import pytest

from volo.training.advice import describe_adapted, describe_average, describe_leftover, recommend_weights
from volo.training.config import ModelConfig, OptimConfig, TrainConfig


@pytest.mark.parametrize(
    ("given", "images", "remark"),
    [
        (TrainConfig(), 1000, None),
        (TrainConfig(epochs=3, batch_size=7, optim=OptimConfig(warmup_epochs=1)), 18, None),
        (TrainConfig(epochs=3, optim=OptimConfig(warmup_steps=1)), 1000, None),
        (
            TrainConfig(),
            18,
            "18 training images take a batch of 8 instead of 64; to choose yourself: --batch-size",
        ),
        (
            TrainConfig(epochs=3),
            18,
            "18 training images take a batch of 8 instead of 64, a run of 3 epochs takes a warm-up of 0.3 instead of "
            "5; to choose yourself: --batch-size, --optim.warmup-epochs",
        ),
    ],
)
def test_defaults_that_are_smaller_than_usual_are_told(given, images, remark):
    assert describe_adapted(given, given.adapt_defaults(images=images, processes=1), images) == remark


def test_images_that_an_epoch_leaves_out_are_counted():
    assert describe_leftover(20, 10) is None
    assert describe_leftover(18, 10) == (
        "each epoch leaves out 8 of the 18 training images, every time others: a step takes 10"
    )


@pytest.mark.parametrize(
    ("config", "side", "advice"),
    [
        (TrainConfig(), 224, "--recipe finetune, which downloads those of ImageNet once"),
        (
            TrainConfig(model=ModelConfig(name="volo_micro_32")),
            32,
            "--model volo_tiny_32 --pretrained volo_tiny_32.cifar10, which come with the package",
        ),
        (
            TrainConfig(task="segmentation", model=ModelConfig(name="volo_d3_224")),
            512,
            "--model volo_d3_224 --pretrained volo_d3_224.sail_in1k, which downloads those of ImageNet once",
        ),
        (
            TrainConfig(task="segmentation"),
            512,
            "--model volo_d1_224 --pretrained volo_d1_224.sail_in1k, which downloads those of ImageNet once",
        ),
    ],
)
def test_weights_are_recommended_for_few_images(config, side, advice):
    assert recommend_weights(config, 9_999, side) == (
        f"9,999 images are few to train from scratch; pretrained weights usually give a better model: {advice}"
    )
    assert recommend_weights(config, 10_000, side) is None


def test_weights_are_not_recommended_to_a_run_that_has_some():
    assert recommend_weights(TrainConfig(model=ModelConfig(pretrained="runs/a")), 10, 224) is None


@pytest.mark.parametrize(
    ("decay", "steps", "warned"),
    [(0.0, 1, False), (0.9, 6, True), (0.9, 7, False), (0.9998, 3465, True), (0.9998, 3466, False)],
)
def test_an_average_over_more_steps_than_the_run_has_is_a_warning(decay, steps, warned):
    """Half of the average has left the first step when decay ** steps is below one half."""
    warning = describe_average(TrainConfig(optim=OptimConfig(ema_decay=decay)), steps)
    assert (warning is not None) == warned
    if warning:
        assert f"optim.ema_decay {decay:g} is made for a longer run than {steps:,} steps" in warning
