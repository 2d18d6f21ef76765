"""Train a U-Net of segmentation-models-pytorch on CamVid for the time that a run of ours took.

    volo train PATH/camvid --recipe camvid --output runs/camvid
    python benchmarks/camvid_peer.py runs/camvid --json camvid-peer.json

The baseline has a small encoder of timm's and is trained from scratch, with the run's own data pipeline (its crops,
scales and distortions, its batches in its order), optimizer settings, precision and number of threads, for as many
seconds as the run's epochs took, validation included; its learning rate falls with the clock. Both are evaluated on the
validation images at full resolution with the scores of ``volo train``. Needs ``pip install 'volo[segment]'``.
"""

import argparse
import json
import time
from contextlib import nullcontext
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from machine import machine
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

from volo.data import (
    IGNORE,
    EpochSampler,
    Preprocessing,
    SegmentationEvalSet,
    SegmentationTrainSet,
    SegmentationTransform,
    eval_loader,
    open_data,
    train_loader,
)
from volo.tasks.metrics import segmentation_metrics
from volo.tasks.segmentation import pixel_loss
from volo.training.config import RUN_CONFIG_FILE, TrainConfig


def baseline(encoder: str, classes: int) -> nn.Module:
    torch.manual_seed(0)
    model = smp.Unet(encoder, encoder_weights=None, classes=classes)
    return model.to(memory_format=torch.channels_last)


def learn(
    model: nn.Module, config: TrainConfig, pairs: SegmentationTrainSet, prepare: Preprocessing, seconds: float
) -> int:
    """Train until the clock says so. Returns the images seen."""
    optim, seen, started = config.optim, 0, time.perf_counter()
    settings = {"lr": optim.lr, "weight_decay": optim.weight_decay, "betas": optim.betas}
    optimizer = create_optimizer_v2(model, opt=optim.optimizer, **settings)
    sampler = EpochSampler(len(pairs), seed=config.seed, multiple_of=config.batch_size)
    loader = train_loader(pairs, sampler, batch_size=config.batch_size, workers=config.data.workers or 0)
    mixed = config.precision == "bf16"
    epoch, steps = 0, 0
    while True:
        sampler.set_epoch(epoch)
        for batch in loader:
            share = (time.perf_counter() - started) / seconds
            if share >= 1:
                return seen
            steps += 1
            warm = min(1.0, steps / max(1, optim.warmup_steps or 0))
            for group in optimizer.param_groups:
                group["lr"] = optim.lr * warm * (1 - share)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext():
                logits = model(prepare.normalize(batch.images))
            pixel_loss(logits, batch.masks.long()).backward()
            optimizer.step()
            seen += len(batch.images)
        epoch += 1


@torch.no_grad()
def evaluate(
    model: nn.Module, pairs: SegmentationEvalSet, config: TrainConfig, prepare: Preprocessing, classes: int
) -> dict:
    metrics, short_side = segmentation_metrics(classes, IGNORE), config.segmentation.augment.short_side
    model.eval()
    for batch in eval_loader(pairs, batch_size=config.batch_size, workers=0):
        logits = whole(model, prepare.normalize(batch.images), short_side)
        metrics.update(logits, batch.masks.long())
    scores = metrics.compute()
    return {name: value.tolist() for name, value in scores.items()}


def whole(model: nn.Module, images: Tensor, short_side: int | None) -> Tensor:
    """Logits of whole images at their own size, seen at the scale of the training, padded as ours are."""
    size = images.shape[2:]
    if short_side is not None:
        scaled = [round(side * short_side / min(size)) for side in size]
        images = F.interpolate(images, scaled, mode="bilinear", antialias=True)
    height, width = images.shape[2:]
    logits = model(F.pad(images, (0, -width % 32, 0, -height % 32)))[..., :height, :width]
    return F.interpolate(logits, size, mode="bilinear")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished run of ours")
    parser.add_argument("--encoder", default="tu-mobilenetv3_small_100", help="of segmentation-models-pytorch")
    parser.add_argument("--seconds", type=float, help="of training; as long as the run's epochs took if left out")
    parser.add_argument("--data", help="another path to the run's data")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    config = TrainConfig.load(options.run / RUN_CONFIG_FILE)
    results = json.loads((options.run / "results.json").read_text())
    seconds = options.seconds or results["seconds"]
    data = config.data
    train, val = open_data(
        options.data or data.path,
        task="segmentation",
        val_fraction=data.val_fraction,
        seed=config.seed,
        source=data,
    )
    settings, classes = config.segmentation, len(train.class_names)
    prepare = Preprocessing(size=settings.crop)
    model = baseline(options.encoder, classes)
    transform = SegmentationTransform(settings.augment, size=settings.crop, mean=prepare.mean)
    seen = learn(model, config, SegmentationTrainSet(train, transform, config.seed), prepare, seconds)
    scores = evaluate(model, SegmentationEvalSet(val), config, prepare, classes)
    ours = {name: results[name] for name in ("miou", "pixel_accuracy", "iou")}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{options.encoder}, {parameters / 1e6:.2f} M parameters, {seconds:.0f} s, {seen:,} images")
    print(f"mean IoU {scores['miou']:.2%}, ours {ours['miou']:.2%}")
    if options.json:
        facts = {"machine": machine("timm", "segmentation-models-pytorch"), "seconds": seconds, "images": seen}
        result = {**facts, "encoder": options.encoder, "parameters": parameters, "peer": scores, "ours": ours}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
