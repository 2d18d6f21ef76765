"""What D1 to D5 need at ImageNet scale, by counting: parameters, FLOPs, memory, time.

``python benchmarks/imagenet_scale.py`` prints the table of docs/imagenet-scale.md. Nothing is computed: a training step
runs on tensors without data, its matrix products are counted by PyTorch's FLOP counter and the bytes that are alive at
once by the storages that it makes. ``--check`` then does real steps of D1 in float32 on this CPU, each batch in a
process of its own, and compares the growth of its peak memory with the count.
"""

import argparse
import json
import resource
import subprocess
import sys
import weakref
from pathlib import Path
from unittest import mock

import torch
from machine import machine
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import volo
from volo.models import VARIANTS
from volo.tasks.losses import LossConfig, repeated_label_loss

IMAGES = 1_281_167  # of ImageNet's training set
EPOCHS_AT_224, EPOCHS_HIGHER = 310, 40
#: GMACs of one image by timm's counting.
GMACS = {
    "volo_d1_224": 6.94,
    "volo_d1_384": 22.75,
    "volo_d2_224": 14.34,
    "volo_d2_384": 46.17,
    "volo_d3_224": 20.78,
    "volo_d3_448": 96.33,
    "volo_d4_224": 44.34,
    "volo_d4_448": 197.13,
    "volo_d5_224": 72.4,
    "volo_d5_448": 315.0,
    "volo_d5_512": 425.0,
}


class LiveBytes(TorchDispatchMode):
    """Bytes of all storages that operators have made and that still live, and the most there were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def build(name: str, *, backend: str | None, checkpointing: bool) -> volo.VOLO:
    """Build a model in training mode with uninitialized weights."""
    with mock.patch("torch.nn.init.trunc_normal_", lambda tensor, **_: tensor):
        model = volo.create_model(name, drop_path_rate=0.1)
    model.set_grad_checkpointing(checkpointing)
    for block in model.network[0]:
        block.attn.backend = backend
    return model.train()


def backward(model: volo.VOLO, batch: int, *, half: bool) -> None:
    """Forward, loss and backward of one batch."""
    side = model.config.img_size[0]
    images, labels = torch.randn(batch, 3, side, side), torch.zeros(batch, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits = model.forward_head(model.forward_features(images))
        loss = repeated_label_loss(LossConfig(mix_token=False), logits, labels)
    loss.backward()


def peak_bytes(name: str, batch: int, *, half: bool, backend: str | None, checkpointing: bool) -> int:
    """Bytes alive at the worst moment of a step, beside weights and AdamW's moments; gradients are among them."""
    with FakeTensorMode(), LiveBytes() as bytes_:
        model = build(name, backend=backend, checkpointing=checkpointing)
        before, bytes_.peak = bytes_.live, bytes_.live
        backward(model, batch, half=half)
        return bytes_.peak - before


def per_image(name: str, *, half: bool, backend: str | None, checkpointing: bool = False) -> float:
    """Bytes that one more image in the batch adds to the peak."""
    sizes = (8, 16)
    one, two = (peak_bytes(name, b, half=half, backend=backend, checkpointing=checkpointing) for b in sizes)
    return (two - one) / (sizes[1] - sizes[0])


def flops(name: str, *, training: bool) -> int:
    """FLOPs of one image: two for each multiplication with its addition."""
    # The counter has no formula for the CPU's own attention; as plain products it is counted like the rest.
    with sdpa_kernel(SDPBackend.MATH), FakeTensorMode(), FlopCounterMode(display=False) as counter:
        model = build(name, backend="slices", checkpointing=False)
        if training:
            backward(model, 1, half=False)
        else:
            model(torch.randn(1, 3, *model.config.img_size))
    return counter.get_total_flops()


def row(name: str, *, devices: int, tflops: float, memory: float) -> dict:
    """All figures of one model."""
    with torch.device("meta"):
        parameters = sum(p.numel() for p in volo.create_model(name).parameters())
    step = flops(name, training=True)
    image = per_image(name, half=True, backend="slices")
    saving = per_image(name, half=True, backend="slices", checkpointing=True)
    fixed = 16 * parameters  # float32: the weight, its gradient, AdamW's two moments
    hours = IMAGES * step / (devices * tflops * 1e12) / 3600
    epochs = EPOCHS_AT_224 if VARIANTS[name].img_size[0] == 224 else EPOCHS_HIGHER
    return {
        "model": name,
        "parameters_m": parameters / 1e6,
        "gmacs": flops(name, training=False) / 2e9,
        "timm_gmacs": GMACS[name],
        "step_tflop": step / 1e12,
        "fixed_gb": fixed / 1e9,
        "image_mb": image / 1e6,
        "saving_mb": saving / 1e6,
        "batch": int((memory * 1e9 - fixed) // image),
        "epoch_hours": hours,
        "run_days": hours * epochs / 24,
    }


HEADINGS = {
    "model": "model",
    "parameters_m": "parameters (M)",
    "gmacs": "GMACs",
    "timm_gmacs": "timm's",
    "step_tflop": "TFLOP, training",
    "fixed_gb": "fixed (GB)",
    "image_mb": "an image (MB)",
    "saving_mb": "checkpointed (MB)",
    "batch": "batch in {memory:g} GB",
    "epoch_hours": "epoch (h)",
    "run_days": "run (days)",
}


def check() -> None:
    """Compare the growth of a real process's peak memory with the count: D1, float32, the CPU's own operator."""
    small, large = 4, 12
    print(f"\nD1 at 224, float32, this CPU: growth of the peak from batch {small} to {large}")
    for checkpointing in (False, True):
        peaks = [_measured(batch, checkpointing) for batch in (small, large)]
        measured = (peaks[1] - peaks[0]) / (large - small)
        counted = per_image("volo_d1_224", half=False, backend=None, checkpointing=checkpointing)
        print(
            f"checkpointing {checkpointing}: {measured / 1e6:.1f} MB an image, {counted / 1e6:.1f} counted, "
            f"ratio {measured / counted:.2f}; peak of batch {large}: {peaks[1] / 1e9:.2f} GB"
        )


def _measured(batch: int, checkpointing: bool) -> int:
    """Peak resident bytes of a process that does two steps."""
    command = [sys.executable, __file__, "--peak", str(batch), *(["--checkpointing"] if checkpointing else [])]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak(batch: int, checkpointing: bool) -> None:
    model = build("volo_d1_224", backend=None, checkpointing=checkpointing)
    for _ in range(2):
        backward(model, batch, half=False)
    print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(GMACS))
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--tflops", type=float, default=20.0, help="what one device keeps up, TFLOP/s: an assumption")
    parser.add_argument("--memory", type=float, default=80.0, help="GB of one device")
    parser.add_argument("--check", action="store_true", help="compare with real steps of D1 on this CPU")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--checkpointing", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        peak(given.peak, given.checkpointing)
        return
    print("| " + " | ".join(heading.format(memory=given.memory) for heading in HEADINGS.values()) + " |")
    print("|---" * len(HEADINGS) + "|")
    rows = []
    for name in given.models:
        rows.append(row(name, devices=given.devices, tflops=given.tflops, memory=given.memory))
        values = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in rows[-1].values())
        print("| " + " | ".join(values) + " |", flush=True)
    if given.check:
        check()
    if given.output:
        given.output.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
