import re
from dataclasses import replace

import pytest
import yaml

from volo.cli import main
from volo.cli.training.recipes import header, recipe_path, recipes
from volo.models import VARIANTS
from volo.training.config import TrainConfig
from volo.training.fake_data import DATA_SIZES
from volo.training.optim import learning_rate

#: Model → base rate at batch 1024, drop path, top-1 at 224. Source: VOLO, arXiv:2106.13112, and the authors' page.
TRAINED = {
    "d1": (1.6e-3, 0.1, "84.2"),
    "d2": (1.0e-3, 0.2, "85.2"),
    "d3": (1.0e-3, 0.5, "85.4"),
    "d4": (1.0e-3, 0.5, "85.7"),
    "d5": (8.0e-4, 0.75, "86.1"),
}
#: Model and pixels → global batch, center crop, top-1. The batches of D4 and D5 were never published.
FINE_TUNED = {
    "d1-384": (512, 1.0, "85.2"),
    "d2-384": (384, 1.0, "86.0"),
    "d3-448": (240, 1.0, "86.3"),
    "d4-448": (240, 1.15, "86.8"),
    "d5-448": (240, 1.15, "87.0"),
    "d5-512": (240, 1.15, "87.1"),
}
#: Data set and model of segmentation → mean IoU at several scales, crop, global batch, iterations, drop path.
#: Source: the same paper.
SEGMENTED = {
    "cityscapes-d1": ("83.1", 1024, 8, 80_000, 0.1),
    "cityscapes-d4": ("84.3", 1024, 8, 80_000, 0.5),
    "ade20k-d1": ("50.5", 512, 16, 160_000, 0.1),
    "ade20k-d3": ("52.9", 512, 16, 160_000, 0.5),
    "ade20k-d5": ("54.3", 640, 16, 160_000, 0.75),
}
GPUS = 8  # of the authors' commands


def load(name):
    return TrainConfig.from_dict(yaml.safe_load(recipe_path(name).read_text()))


def check_common_settings(config):
    assert (config.augment.hflip, config.augment.erasing) == (0.5, 0.25)
    assert (config.augment.rand_augment, config.augment.rand_augment_std, config.augment.rand_augment_count) == (
        9, 0.5, 2,
    )  # fmt: skip
    assert config.augment.crop_scale == (0.08, 1.0)
    assert config.augment.crop_ratio == pytest.approx((3 / 4, 4 / 3))
    loss = config.loss
    assert (loss.label_smoothing, loss.class_weight, loss.dense_weight, loss.mix_token) == (0.1, 1.0, 0.5, True)
    assert config.model.drop_path_outlookers is False
    assert config.model.overrides().keys() <= {"drop_path_rate", "drop_path_outlookers", "pretrained"}
    assert (config.optim.betas, config.optim.layer_decay, config.optim.ema_decay) == ((0.9, 0.999), 1.0, 0.0)
    assert (config.optim.interval, config.optim.warmup_lr, config.optim.cooldown_epochs) == ("epoch", 1e-6, 10)
    assert (config.data.path, config.data.token_labels) == ("imagenet", "imagenet-labels")
    assert loss.ground_truth == (config.model.pretrained is not None)
    assert loss.legacy_crop is False


@pytest.mark.parametrize("size", TRAINED)
def test_the_runs_at_224_have_the_published_values(size):
    lr, drop_path, score = TRAINED[size]
    config = load(f"volo-{size}-224")
    check_common_settings(config)
    assert config.model.name == f"volo_{size}_224"
    assert config.model.pretrained is None
    assert (config.model.drop_path_rate, config.data.crop_pct) == (drop_path, 0.96)
    assert (config.optim.lr, config.optim.min_lr, config.optim.weight_decay) == (lr, 1e-5, 0.05)
    assert (config.epochs, config.optim.warmup_epochs) == (310, 20)
    assert config.optim.lr_batch == config.batch_size * config.accumulate * GPUS == 1024
    assert score in header(recipe_path(f"volo-{size}-224").read_text())["score"]


@pytest.mark.parametrize("size", FINE_TUNED)
def test_the_fine_tunings_have_the_published_values(size):
    batch, crop, score = FINE_TUNED[size]
    config = load(f"volo-{size}")
    check_common_settings(config)
    assert config.model.name == f"volo_{size.replace('-', '_')}"
    assert config.model.pretrained == f"volo_{size[:2]}_224.sail_in1k"
    assert config.model.drop_path_rate == TRAINED[size[:2]][1]
    assert config.data.crop_pct == crop
    assert (config.optim.lr, config.optim.min_lr, config.optim.weight_decay) == (8e-6, 4e-6, 1e-8)
    assert (config.epochs, config.optim.warmup_epochs) == (40, 5)
    assert config.optim.lr_batch == config.batch_size * config.accumulate * GPUS == batch
    assert score in header(recipe_path(f"volo-{size}").read_text())["score"]


@pytest.mark.parametrize("name", SEGMENTED)
def test_the_runs_of_segmentation_have_the_published_values(name):
    score, crop, batch, iterations, drop_path = SEGMENTED[name]
    config, facts = load(f"segment-{name}"), header(recipe_path(f"segment-{name}").read_text())
    devices = int(re.search(r"--devices (\d)", facts["command"])[1])
    images = DATA_SIZES[config.data.path].train
    assert config.task == "segmentation"
    assert config.model.name == f"volo_{name[-2:]}_224"
    assert config.model.pretrained == f"volo_{name[-2:]}_224.sail_in1k"
    assert config.model.drop_path_rate == drop_path
    assert config.batch_size * devices == batch
    assert iterations <= config.epochs * (images // batch) < iterations + images // batch
    settings, optim = config.segmentation, config.optim
    assert (settings.decoder, settings.decoder_channels, settings.aux_weight) == ("upernet", 256, 0.4)
    assert settings.crop == (crop, crop)
    assert settings.augment.short_side == (None if "cityscapes" in name else crop)
    assert (settings.augment.scale, settings.augment.max_share, settings.augment.hflip) == ((0.5, 2.0), 0.75, 0.5)
    assert (optim.schedule, optim.lr, optim.weight_decay, optim.betas) == ("poly", 6e-5, 0.01, (0.9, 0.999))
    assert (optim.warmup_steps, optim.min_lr) == (1500, 0)
    assert score in facts["score"]


@pytest.mark.parametrize("name", ["finetune", "linear-probe"])
@pytest.mark.parametrize("images", [4, 18, 100_000])
def test_recipes_for_any_folder_fit_any_number_of_images_and_epochs(name, images):
    """They name neither batch nor warm-up, and their learning rate is the same for every batch."""
    config = replace(load(name), epochs=1).adapt_defaults(images=images, processes=1)
    assert images // config.batch_size > 0
    assert config.optim.warmup_epochs == 0.1
    assert learning_rate(config.optim, config.batch_size) == config.optim.lr


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_is_a_complete_configuration_and_states_its_source(name):
    config, text = load(name), recipe_path(name).read_text()
    assert config.model.name in VARIANTS
    facts = header(text)
    assert facts.keys() == {"what", "command", "hardware", "time", "score", "source"}
    assert all(facts.values())
    assert re.search(rf"--recipe {name}\b", facts["command"])
    if re.match(r"segment-.*-d\d", name):
        assert "not run by us" in facts["score"]
        assert "# Derived:" in text
    elif re.match(r"volo-d\d", name):
        assert "not run by us" in facts["score"]
        assert ("# Derived:" in text) == ("no command was published" in facts["source"]) == (name[6] in "45")
    else:
        assert facts["source"].startswith("ours")


def test_the_command_lists_them_and_prints_one(capsys):
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in recipes())
    assert main(["recipes", "volo-d5-512"]) == 0
    assert capsys.readouterr().out == recipe_path("volo-d5-512").read_text()
    assert main(["recipes", "volo-d5-521"]) == 2
    assert "did you mean 'volo-d5-512'" in capsys.readouterr().err


SMALL = {
    "fashion-mini": 32,
    "fashion-mini-transfer": 8,
    "cifar10": 8,
    "cifar10-tiny": 8,
    "cifar10-tiny-again": 8,
    "cifar100": 8,
    "camvid": 2,
}
#: Recipe → batch size that a CPU handles in reasonable time and memory.
LARGE = {
    name: 1 if "segment" not in name and ("d4" in name or "d5" in name) else 2
    for name in recipes()
    if name not in SMALL
}


def dry_run(name, batch, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = [f"--batch_size={batch}", "--accumulate=1", "--data.workers=0", "--accelerator=cpu"]
    if name.startswith("segment-"):
        options.append("--segmentation.crop=[128, 128]")  # validation images keep their size
    assert main(["train", "--recipe", name, "--dry-run", *options]) == 0
    out = capsys.readouterr().out
    assert "peak memory" in out
    assert "an epoch about" in out
    if "fashion-mini" not in name:  # its images are in the package
        assert "generated images are used instead" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", SMALL)
def test_the_dry_run_of_a_small_recipe_passes(name, tmp_path, monkeypatch, capsys):
    dry_run(name, SMALL[name], tmp_path, monkeypatch, capsys)


@pytest.mark.slow  # up to some minutes and 8 GB each
@pytest.mark.parametrize("name", LARGE)
def test_the_dry_run_of_a_large_recipe_passes(name, tmp_path, monkeypatch, capsys):
    dry_run(name, LARGE[name], tmp_path, monkeypatch, capsys)
