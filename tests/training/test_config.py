from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volo.data import AugmentConfig
from volo.tasks.losses import LossConfig
from volo.training.config import DataConfig, ModelConfig, OptimConfig, TrainConfig
from volo.training.optim import warmup_length


def test_json_round_trip_keeps_every_value(tmp_path):
    config = TrainConfig(
        data=DataConfig(path="x", workers=3),
        model=ModelConfig(name="volo_d1", drop_path_rate=0.3),
        augment=AugmentConfig(crop_scale=(0.3, 0.9)),
        loss=LossConfig(mix_token=False),
        optim=OptimConfig(betas=(0.8, 0.9), lr_batch=1024),
        epochs=7,
    )
    path = tmp_path / "train.json"
    path.write_text(config.to_json())
    assert TrainConfig.load(path) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "unknown setting 'epoch'; did you mean 'epochs'"),
        ({"model": {"drop_path": 0.1}}, "unknown setting 'model.drop_path'; did you mean 'drop_path_rate'"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"epochs": 3, "optim": {"warmup_epochs": 5}}, r"warm-up \(5\) and cool-down \(0\) leave nothing of 3 epochs"),
        (
            {"epochs": 3, "optim": {"cooldown_epochs": 3}},
            "lower optim.warmup_epochs and optim.cooldown_epochs, or raise",
        ),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"optim": {"warmup_epochs": -1}}, "warmup_epochs and cooldown_epochs must be at least 0"),
        ({"seed": -1}, "seed"),
        ({"checkpoint_minutes": -1}, "checkpoint_minutes must be at least 0"),
        ({"strategy": "fsdp2", "optim": {"ema_decay": 0.9}}, "fsdp2 does not support optim.ema_decay"),
        ({"data": {"val_fraction": 1.5}}, r"data\.val_fraction"),
        ({"data": {"channels": 2}}, r"data\.channels"),
        ({"optim": {"ema_decay": 1.0}}, r"optim\.ema_decay"),
        ({"loss": {"dense_weight": -1}}, r"loss\.dense_weight"),
        ({"augment": {"hflip": 2}}, r"augment\.hflip"),
        ({"epochs": "3"}, "epochs must be a whole number, not '3'"),
        ({"epochs": True}, "epochs must be a whole number, not True"),
        ({"epochs": 2.5}, r"epochs must be a whole number, not 2\.5"),
        ({"seed": 10**300}, "seed must be a whole number, not 1"),
        ({"output": ["a", "b"]}, r"output must be a text or null, not \('a', 'b'\)"),
        ({"data": {"path": None}}, r"data\.path must be a text, not None"),
        ({"data": {"classes": {"a": 1}}}, r"data\.classes must be a text or a list or null, not \{'a': 1\}"),
        ({"optim": {"lr": float("nan")}}, r"optim\.lr must be a number, not nan"),
        ({"optim": {"lr": float("inf")}}, r"optim\.lr must be a number, not inf"),
        ({"optim": {"betas": [0.9]}}, r"optim\.betas must be a list, not \(0\.9,\)"),
        ({"optim": {"betas": 0.9}}, r"optim\.betas must be a list, not 0\.9"),
        ({"optim": [1]}, r"optim must be settings by name, not \[1\]"),
        ({"loggers": ["wandb", 1]}, r"loggers must be a list, not \('wandb', 1\)"),
        ({"model": {"freeze": "yes"}}, r"model\.freeze must be true or false, not 'yes'"),
    ],
)
def test_values_that_are_not_allowed_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_dict(values)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"data": ' * 300 + "1" + "}" * 300])
def test_a_file_that_is_nested_too_deeply_is_named(tmp_path, text):
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"train\.json is not a training configuration: it is nested more than 20 levels"
    ):
        TrainConfig.load(tmp_path / "train.json")


@pytest.mark.parametrize(
    ("images", "processes", "accumulate", "batch_size"),
    [
        (2, 1, 1, 2),
        (7, 1, 1, 7),
        (18, 1, 1, 8),
        (135, 1, 1, 16),
        (511, 1, 1, 32),
        (512, 1, 1, 64),
        (1_281_167, 8, 2, 64),
        (135, 2, 1, 8),
        (135, 1, 20, 6),
        (3, 4, 1, 1),  # the images do not fill a batch of one for each process, which the run refuses
    ],
)
def test_the_batch_that_nobody_gave_fits_the_images(images, processes, accumulate, batch_size):
    adapted = TrainConfig(accumulate=accumulate).adapt_defaults(images=images, processes=processes)
    assert adapted.batch_size == batch_size


def test_a_decoder_gets_at_least_two_images():
    assert TrainConfig(task="segmentation").adapt_defaults(images=1, processes=1).batch_size == 2


@pytest.mark.parametrize(
    ("epochs", "optim", "warmup"),
    [
        (100, {}, 5.0),
        (50, {}, 5.0),
        (3, {}, 0.3),
        (1, {}, 0.1),
        (20, {"cooldown_epochs": 10}, 1.0),
        (20, {"warmup_epochs": 7.0}, 7.0),
        (20, {"warmup_epochs": 0.0}, 0.0),
        (20, {"warmup_steps": 3}, None),
        (9, {"interval": "epoch"}, 0.0),
        (25, {"interval": "epoch"}, 2.0),
    ],
)
def test_the_warm_up_that_nobody_gave_fits_the_epochs(epochs, optim, warmup):
    config = TrainConfig(epochs=epochs, optim=OptimConfig(**optim))
    assert config.adapt_defaults(images=1000, processes=1).optim.warmup_epochs == warmup


@given(
    epochs=st.integers(1, 400),
    images=st.integers(1, 10**6),
    processes=st.integers(1, 64),
    accumulate=st.integers(1, 16),
    cooldown=st.integers(0, 20),
    interval=st.sampled_from(["step", "epoch"]),
)
def test_defaults_never_clash(epochs, images, processes, accumulate, cooldown, interval):
    """As long as every process gets an image, an epoch has a step, and the decay has one after the warm-up."""
    optim = OptimConfig(cooldown_epochs=min(cooldown, epochs - 1), interval=interval)
    config = TrainConfig(epochs=epochs, accumulate=accumulate, optim=optim)
    adapted = config.adapt_defaults(images=images, processes=processes)
    steps = images // (adapted.batch_size * accumulate * processes)
    assert steps or images < accumulate * processes
    warmup = warmup_length(adapted.optim, epochs=epochs, steps_per_epoch=max(1, steps))
    assert warmup < (epochs - adapted.optim.cooldown_epochs) * max(1, steps)
    assert adapted.adapt_defaults(images=1, processes=1) == adapted, "values that are given stay"
    assert replace(adapted, batch_size=None, optim=optim) == config, "nothing else changes"


def test_settings_that_were_left_out_agree_with_the_values_of_the_run():
    config = TrainConfig(epochs=3).adapt_defaults(images=18, processes=1)
    assert not config.differences({"batch_size": None, "optim": {"warmup_epochs": None}})
    assert config.differences({"batch_size": 9, "optim": {"warmup_epochs": 1.0}}) == {
        "batch_size": (8, 9),
        "optim.warmup_epochs": (0.3, 1.0),
    }
