import pytest

from volo.data import AugmentConfig
from volo.tasks.losses import LossConfig
from volo.training.config import DataConfig, ModelConfig, OptimConfig, TrainConfig


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
        ({"epochs": 3}, "warm-up .* leave nothing of 3 epochs"),
        ({"seed": -1}, "seed"),
        ({"checkpoint_minutes": -1}, "checkpoint_minutes must be at least 0"),
        ({"strategy": "fsdp2", "optim": {"ema_decay": 0.9}}, "fsdp2 does not support optim.ema_decay"),
        ({"data": {"val_fraction": 1.5}}, r"data\.val_fraction"),
        ({"data": {"channels": 2}}, r"data\.channels"),
        ({"optim": {"ema_decay": 1.0}}, r"optim\.ema_decay"),
        ({"loss": {"dense_weight": -1}}, r"loss\.dense_weight"),
        ({"augment": {"hflip": 2}}, r"augment\.hflip"),
    ],
)
def test_values_that_are_not_allowed_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_dict(values)
