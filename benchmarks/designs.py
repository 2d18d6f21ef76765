"""Which small design learns fastest? Each is trained on the embedded data for about the same time.

    python benchmarks/designs.py --seconds 120 --json designs.json

A few steps of a design are timed; then it is trained for the whole epochs nearest to ``--seconds``, by the recipe of
``volo demo`` with AdamW. Prints validation accuracy by design and seed. Needs ``volo[train]``.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from rich.console import Console
from rich.table import Table

from volo.cli.training.train import recipe_path
from volo.models import create_model
from volo.training.config import ModelConfig, OptimConfig, TrainConfig
from volo.training.run import train

MICRO = "volo_micro_32"
DESIGNS = {
    "micro: 8x8 then 4x4 tokens, dims 64, 128": {},
    "the paper's initialization, std 0.02": {"init_std": 0.02},
    "wider: dims 96, 160": {"dims": (96, 160), "heads": (3, 5)},
    "finer: 16x16 then 8x8 tokens, dims 48, 96": {"patch_size": 2, "dims": (48, 96)},
    "finer: 16x16 then 8x8 tokens, dims 64, 128": {"patch_size": 2},
}


def seconds_per_image(design: dict, batch: int) -> float:
    """Return the median seconds of a training step of a design, for each image."""
    model = create_model(MICRO, in_chans=1, **design).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    images, labels = torch.randn(batch, 1, 32, 32), torch.arange(batch) % 10
    times = []
    for _ in range(12):
        start = time.perf_counter()
        logits = model.forward_head(model.forward_features(images))
        (F.cross_entropy(logits.cls, labels) + logits.tokens.square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:]) / batch


def score(base: TrainConfig, design: dict, epochs: int, seed: int) -> float:
    """Train from scratch, and return the validation accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        config = replace(
            base,
            model=ModelConfig(name=MICRO, **design),
            optim=OptimConfig(lr=1e-3, warmup_epochs=epochs / 10),
            epochs=epochs,
            seed=seed,
            output=f"{folder}/run",
        )
        evaluation = train(config).evaluation
        assert evaluation is not None
        return evaluation.top1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120, help="of training for each design and seed")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="PATH")
    options = parser.parse_args()

    base = TrainConfig.from_dict(yaml.safe_load(recipe_path("fashion-mini").read_text()))
    images = 10_000
    console, rows = Console(), []
    for name, design in DESIGNS.items():
        epochs = max(2, round(options.seconds / (images * seconds_per_image(design, base.batch_size))))
        scores = [score(base, design, epochs, seed) for seed in range(options.seeds)]
        model = create_model(MICRO, in_chans=1, **design)
        rows.append(
            {
                "design": name,
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "epochs": epochs,
                "top1": scores,
            }
        )
        console.print(f"{name}: {epochs} epochs, top-1 {', '.join(f'{value:.2%}' for value in scores)}")
        if options.json:
            options.json.write_text(json.dumps({"seconds": options.seconds, "rows": rows}, indent=2) + "\n")

    table = Table(title=f"{options.seconds:g} s of training, {torch.get_num_threads()} threads")
    for column in ("design", "parameters (M)", "epochs", "top-1"):
        table.add_column(column, justify="left" if column == "design" else "right")
    for row in rows:
        mean = statistics.mean(row["top1"])
        table.add_row(row["design"], f"{row['parameters'] / 1e6:.2f}", str(row["epochs"]), f"{mean:.2%}")
    console.print(table)


if __name__ == "__main__":
    main()
