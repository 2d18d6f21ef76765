"""Compare speed and memory of a segmentation model with the same decoder on timm's VOLO.

    python benchmarks/segmentation.py                                    # D1 at 512 pixels; some minutes on two cores
    python benchmarks/segmentation.py --model volo_micro_32 --size 64 --batch 2 --seconds 1 --json segmentation.json

Both have equal weights, the same pyramid, decoder and heads; timm's is built for the size at hand, and their logits are
compared first. Inference, training steps and sliding windows run in interleaved rounds, so that a change of the
machine's speed affects all of them; a row gives medians. *Optimized* is ours as ``Segmenter`` runs it. A training step
is forward with the auxiliary head, cross-entropy, backward and AdamW. Memory is the peak of a process that runs two
such steps and nothing else, minus its memory before the model is built. The last row is a photo of twice the size
covered by overlapping windows, compared with as many windows by themselves.
Needs ``pip install 'volo[segment]'``.
"""

import argparse
import copy
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from machine import machine
from models import Step, inference_step, run_interleaved, timm_model
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from volo import optimize_for_inference
from volo.inference.sliding import Sliding, sliding_scores, window_starts
from volo.models import SegmentationModel, create_segmenter
from volo.tasks.segmentation import pixel_loss

CLASSES = 19
CANDIDATES = ("ours", "timm", "ours checkpointed")


class TimmMaps(nn.Module):
    """timm's VOLO with the one method that the pyramid asks of ours."""

    def __init__(self, timm: nn.Module, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.patch_embed, self.network, self.pos_embed, self.norm = timm.patch_embed, timm.network, timm.pos_embed, norm

    def forward_feature_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.network[0](self.patch_embed(images).permute(0, 2, 3, 1))
        fine = x
        x = self.network[1](x) + self.pos_embed
        for stage in self.network[2:]:
            x = stage(x)
        return fine.permute(0, 3, 1, 2), x.permute(0, 3, 1, 2)


def build(name: str, model: str, size: int) -> SegmentationModel:
    torch.manual_seed(0)
    ours = create_segmenter(model, num_classes=CLASSES, img_size=size).to(memory_format=torch.channels_last)
    if name == "timm":
        volo = ours.backbone.volo
        timm = timm_model(model, volo.config)
        timm.load_state_dict(copy.deepcopy(volo.state_dict()), strict=False)  # heads and class attention are not used
        ours.backbone.volo = TimmMaps(timm, volo.norm).to(memory_format=torch.channels_last)
    ours.backbone.volo.grad_checkpointing = name == "ours checkpointed"
    return ours


def batch(size: int, count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, CLASSES, (count, size, size), generator=generator)
    return torch.randn(count, 3, size, size, generator=generator).contiguous(memory_format=torch.channels_last), masks


def training_step(model: SegmentationModel, images: Tensor, masks: Tensor) -> Step:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-5, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        logits = model.forward_with_aux(images)
        (pixel_loss(logits.main, masks) + 0.4 * pixel_loss(logits.aux, masks)).backward()
        optimizer.step()

    return step


def sliding_steps(model: SegmentationModel, size: int) -> dict[str, Step]:
    """Return functions for a photo of twice the size by windows, and for as many windows one after the other."""
    model.eval()
    photo = np.random.default_rng(0).integers(0, 256, (2 * size, 2 * size, 3), dtype=np.uint8)
    sliding = Sliding(window=(size, size), stride=(2 * size // 3, 2 * size // 3))
    count = len(window_starts(2 * size, size, 2 * size // 3)) ** 2
    window = torch.from_numpy(photo[None, :size, :size]).permute(0, 3, 1, 2)

    @torch.no_grad()
    def forward(pixels: Tensor) -> Tensor:
        return model(pixels.float() / 255)

    def slide() -> None:
        for _ in sliding_scores(photo, forward, sliding, classes=CLASSES):
            pass

    return {"sliding": slide, "its windows": lambda: [forward(window) for _ in range(count)] and None}


def memory(name: str, model: str, size: int, count: int) -> int:
    """Bytes at the peak of two training steps, in a process of its own."""
    code = f"import segmentation; segmentation.steps_alone({name!r}, {model!r}, {size}, {count})"
    here = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=here, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def steps_alone(name: str, model: str, size: int, count: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = training_step(build(name, model, size), *batch(size, count))
    step()
    step()
    print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="volo_d1")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60, help="for each row")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # First, while this process is small: a process begins with the peak of the one that started it.
    held = {name: float(memory(name, options.model, options.size, options.batch)) for name in CANDIDATES}
    models = {name: build(name, options.model, options.size) for name in CANDIDATES}
    images, masks = batch(options.size, options.batch)
    with torch.no_grad():
        outputs = [models[name].eval()(images[:1]) for name in ("ours", "timm")]
    torch.testing.assert_close(*outputs, rtol=1e-3, atol=1e-3)
    rows: dict[str, dict[str, float]] = {}
    runners = {name: models[name] for name in ("ours", "timm")}
    runners["ours optimized"] = optimize_for_inference(models["ours"])  # as Segmenter runs it
    steps = {
        "inference": {name: inference_step(model, images[:1]) for name, model in runners.items()},
        "sliding": sliding_steps(models["ours"], options.size),
        "training step": {name: training_step(models[name], images, masks) for name in CANDIDATES},
    }
    for what, candidates in steps.items():
        for name in candidates.keys() & models.keys():
            models[name].train(what == "training step")
        times = run_interleaved(candidates, rounds=3, limit=options.seconds)
        rows[f"{what}, seconds"] = {name: statistics.median(values) for name, values in times.items()}
    rows["training memory, bytes"] = held
    show(rows)
    if options.json:
        settings = {key: getattr(options, key) for key in ("model", "size", "batch", "threads")}
        result = {"machine": machine("timm", "segmentation-models-pytorch"), **settings, "rows": rows}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def show(rows: dict[str, dict[str, float]]) -> None:
    table = Table("what", "who", "value", "of timm’s, or of the windows alone")
    for what, values in rows.items():
        base = values.get("timm", values.get("its windows"))
        for name, value in values.items():
            table.add_row(what, name, f"{value:.4g}", f"{value / base:.2f}" if base else "")
    Console().print(table)


if __name__ == "__main__":
    main()
