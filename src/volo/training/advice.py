"""Remarks about a run that can be trained as it is configured, but where its user would want to know something."""

from volo.models.weights.published import WEIGHTS, shipped_weights
from volo.training.config import USUAL_BATCH, USUAL_WARMUP, TrainConfig

#: With fewer training images than these, pretrained weights are recommended.
FEW_IMAGES = 10_000
#: Models of smaller images, in pixels, gain little from weights that were trained on 224 pixels.
_SMALL = 128


def describe_adapted(given: TrainConfig, used: TrainConfig, images: int) -> str | None:
    """Return a remark about defaults that are smaller than usual for ``images`` training images, or None.

    Args:
        given: the configuration of the user.
        used: the same after :meth:`TrainConfig.adapt_defaults`.
        images: number of training images.
    """
    warmup, chosen, options = used.optim.warmup_epochs, [], []
    if given.batch_size is None and used.batch_size != USUAL_BATCH:
        chosen.append(f"{images:,} training images take a batch of {used.batch_size} instead of {USUAL_BATCH}")
        options.append("--batch-size")
    if given.optim.warmup_epochs is None and warmup not in (None, USUAL_WARMUP):
        chosen.append(
            f"a run of {_count(used.epochs, 'epoch')} takes a warm-up of {warmup:g} instead of {USUAL_WARMUP:g}"
        )
        options.append("--optim.warmup-epochs")
    return f"{', '.join(chosen)}; to choose yourself: {', '.join(options)}" if chosen else None


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def describe_leftover(images: int, global_batch: int) -> str | None:
    """Return a remark about the training images that an epoch of whole batches leaves out, or None if it takes all."""
    left = images % global_batch
    if not left:
        return None
    return (
        f"each epoch leaves out {left:,} of the {images:,} training images, every time others: a step takes "
        f"{global_batch:,}"
    )


def recommend_weights(config: TrainConfig, images: int, side: int) -> str | None:
    """Return a recommendation of pretrained weights for a model that is to learn from few images alone, or None.

    Args:
        config: the configuration of the run.
        images: number of training images.
        side: longer side of the images that the model takes, in pixels.
    """
    if config.model.pretrained is not None or images >= FEW_IMAGES:
        return None
    return (
        f"{images:,} images are few to train from scratch; pretrained weights usually give a better model: "
        f"{_weights(config, side)}"
    )


def _weights(config: TrainConfig, side: int) -> str:
    """Return the options that start the run from weights that suit its task and the size of its images."""
    if side < _SMALL:
        shipped = next(iter(shipped_weights()))
        return f"--model {shipped.partition('.')[0]} --pretrained {shipped}, which come with the package"
    if config.task == "classification":
        return "--recipe finetune, which downloads those of ImageNet once"
    published = list(WEIGHTS.values())
    weights = next((each for each in published if each.model == config.model.name), published[0])
    return f"--model {weights.model} --pretrained {weights.name}, which downloads those of ImageNet once"


def describe_average(config: TrainConfig, steps: int) -> str | None:
    """Return a warning about averaged weights that stay close to the initial ones in so few steps, or None."""
    decay = config.optim.ema_decay
    if not decay or decay**steps < 0.5:
        return None
    return (
        f"optim.ema_decay {decay:g} is made for a longer run than {steps:,} steps: more than half of the averaged "
        "weights, which are evaluated and saved, would be those of the first step; lower it, or leave it out"
    )
