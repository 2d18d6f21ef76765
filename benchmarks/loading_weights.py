"""How much memory and time does loading a checkpoint take, beside timm's way?

    python benchmarks/loading_weights.py                                   # D5 at 224 pixels, five rounds
    python benchmarks/loading_weights.py --model volo_d1_224 --rounds 3 --json loading.json
    python benchmarks/loading_weights.py --file d5_224_86.10.pth.tar       # a file of your own

Both load one file in processes of their own, in turns: timm by ``timm.create_model(name, checkpoint_path=file)``,
ours by ``volo.create_model(name, pretrained=file)``. Without ``--file`` random weights are written first, as
safetensors. Memory is the peak above what the process had after its imports, and is read once every weight has been
(a memory-mapped file takes no memory before); time is given until the model stands, and until every weight was read.
A row gives the medians; Linux only, for it alone tells a process's peak since a moment.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from machine import machine
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from volo.models import create_model

CANDIDATES = ("timm", "ours")


def memory(field: str) -> int:
    """Return a figure of this process in bytes: VmRSS, its memory now; VmHWM, its peak memory."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def load_once(who: str, name: str, file: str) -> None:
    """In a process of its own: load, read every weight, and print what it took."""
    if who == "timm":
        import timm

        def load() -> torch.nn.Module:
            return timm.create_model(name, checkpoint_path=file)
    else:
        import volo.models.weights.load  # noqa: F401  # the imports are not what is measured

        def load() -> torch.nn.Module:
            return create_model(name, pretrained=file)

    torch.nn.Linear(8, 8)(torch.ones(1, 8)).sum()  # PyTorch sets itself up
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak counts from here on
    start = time.perf_counter()
    model = load()
    built = time.perf_counter() - start
    checksum = sum(float(tensor.sum()) for tensor in model.state_dict().values())
    read = time.perf_counter() - start
    print(json.dumps({"memory": memory("VmHWM") - before, "built": built, "read": read, "checksum": checksum}))


def in_process(who: str, name: str, file: Path) -> dict:
    command = [sys.executable, __file__, "--once", who, "--model", name, "--file", str(file)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def measure(name: str, file: Path, rounds: int) -> dict[str, dict[str, float]]:
    for who in CANDIDATES:
        in_process(who, name, file)  # the file is in the system's cache for both
    runs: dict[str, list[dict]] = {who: [] for who in CANDIDATES}
    for _ in range(rounds):
        for who in CANDIDATES:
            runs[who].append(in_process(who, name, file))
    assert len({round(run["checksum"], 3) for those in runs.values() for run in those}) == 1, "other weights"
    keys = ("memory", "built", "read")
    return {who: {key: statistics.median(run[key] for run in those) for key in keys} for who, those in runs.items()}


def table(results: dict[str, dict[str, float]]) -> Table:
    shown = Table()
    for heading in ("who", "peak memory", "to timm", "until built", "timm / it", "until read", "timm / it"):
        shown.add_column(heading, justify="left" if heading == "who" else "right", no_wrap=True)
    timm = results["timm"]
    for who, row in results.items():
        shown.add_row(
            who,
            f"{row['memory'] / 2**20:.0f} MiB",
            f"{row['memory'] / timm['memory']:.2f}",
            f"{row['built']:.3f} s",
            f"{timm['built'] / row['built']:.1f}",
            f"{row['read']:.3f} s",
            f"{timm['read'] / row['read']:.1f}",
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="volo_d5_224", help="a name that timm has too")
    parser.add_argument("--file", type=Path, help="weights to load; default: random ones, written first")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--once", choices=CANDIDATES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        load_once(given.once, given.model, str(given.file))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = given.file
        if file is None:
            file = Path(folder) / "model.safetensors"
            save_file(create_model(given.model).state_dict(), file)
        results = measure(given.model, file, given.rounds)
    about = {**machine("timm", "safetensors"), "model": given.model}
    console = Console()
    console.print(table(results))
    console.print(about)
    if given.json:
        given.json.write_text(json.dumps({**about, "results": results}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
