"""Write the files of this folder with the code of commit cfc38e8.

Every one of them must load in all later versions: ``tests/golden/test_old_files.py`` loads them. Never write them anew
with later code. They were written in a clone of the repository, with everything of ``volo[dev]`` installed, by:

    git checkout cfc38e8 && pip install -e '.[dev]' && python make.py
"""

import json
import os
import platform
import shutil
import signal
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

HERE = Path(__file__).parent
COLOURS = {"red": 0, "green": 1, "blue": 2}
SHAPE = ["--model.name=volo_micro_32", "--model.stem_width=8", "--model.dims=[8,16]", "--model.depths=[1,1,1,1]"]
SHAPE += ["--model.heads=[1,2]", "--accelerator=cpu", "--data.workers=0", "--batch_size=4"]
SHAPE += ["--optim.warmup_epochs=0.5", "--optim.ema_decay=0.8", "--epochs=2"]
SEGMENTATION = ["--task=segmentation", "--segmentation.decoder=segformer", "--segmentation.decoder_channels=8"]
SEGMENTATION += ["--segmentation.crop=[32,32]", "--precision=bf16-mixed"]


def volo(*arguments, code=0):
    """Run a command in a process of its own, as people do."""
    child = os.fork()
    if not child:
        from volo.cli import main

        torch.set_num_threads(1)
        os._exit(main([str(argument) for argument in arguments]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code, arguments


def make_images():
    """Three colours with noise: four training and two validation images of each."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 2)):
        for name, channel in COLOURS.items():
            (Path("images") / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (24, 20, 3), dtype=np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(Path("images") / part / name / f"{number}.png")


def make_scenes():
    """A dark box on light ground, with masks of both."""
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for kind in ("images", "masks"):
            (Path("scenes") / part / kind).mkdir(parents=True)
        for number in range(4):
            mask = np.zeros((36, 40), np.uint8)
            top, left = rng.integers(4, 16, 2)
            mask[top : top + 14, left : left + 14] = 1
            pixels = np.where(mask[..., None], 40, 200) + rng.integers(-20, 21, (36, 40, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(Path("scenes") / part / "images" / f"{number}.png")
            Image.fromarray(mask).save(Path("scenes") / part / "masks" / f"{number}.png")
    (Path("scenes") / "classes.txt").write_text("ground #c8c8c8\nbox #282828\n")


def stop_at_the_fifth_step():
    from volo.tasks.classification import ClassificationTask

    original, calls = ClassificationTask.training_step, iter(range(100))

    def step(*arguments, **options):
        if next(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **options)

    ClassificationTask.training_step = step


def keep(folder, *names):
    """Leave nothing but these files of a run folder: pictures are large and nothing reads them."""
    for path in sorted(Path(folder).rglob("*"), reverse=True):
        if path.is_file() and str(path.relative_to(folder)) not in names:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def without_paths(file):
    """Take out of a ``.pt2`` archive where the code lay on the machine that wrote it."""
    import volo

    places = {str(Path(volo.__file__).parents[1]): "/src", str(Path(torch.__file__).parents[1]): "/site-packages"}
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(f"{file}.new", "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            content = old.read(entry)
            for place, name in places.items():
                content = content.replace(place.encode(), name.encode())
            new.writestr(entry, content)
    Path(f"{file}.new").replace(file)


def main():
    os.chdir(HERE)
    make_images()
    make_scenes()
    volo("train", "images", "--output=run", *SHAPE)
    child = os.fork()
    if not child:
        stop_at_the_fifth_step()
        from volo.cli import main as command

        torch.set_num_threads(1)
        os._exit(command(["train", "images", "--output=stopped", "--checkpoint_steps=1", *SHAPE]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + signal.SIGTERM
    shutil.copytree("stopped", "resumed")
    volo("train", "--resume", "resumed")
    volo("train", "scenes", "--output=segmenter", *SHAPE, *SEGMENTATION)
    volo("label", "images", "--out=labels.volo", "--teacher=run", "--top_k=2")
    for to, name in (("onnx", "run.onnx"), ("openvino", "run.xml"), ("torch-export", "run.pt2")):
        volo("export", "run", f"--to={to}", f"--output={name}", "--images", "images/val")
    without_paths("run.pt2")
    volo("export", "segmenter", "--to=onnx", "--output=segmenter.onnx", "--images", "scenes/val/images")
    volo("predict", "run", "images/val", "--output=predictions.json")
    volo("predict", "segmenter", "scenes/val/images", "--output=masks")
    keep("masks", *(f"masks/{number}.png" for number in range(4)))
    facts = ("config.json", "model.safetensors", "train.json", "metrics.csv", "results.json")
    for folder in ("run", "segmenter", "resumed"):
        keep(folder, *facts)
    keep("stopped", *facts, "checkpoints/last.ckpt", "checkpoints/best.ckpt")
    machine = {"torch": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability()}
    machine["processor"] = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "",
    )
    Path("machine.json").write_text(json.dumps({**machine, "system": platform.machine()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
