"""The code of docs/hub.md and docs/imagenet.md, run line by line."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_hub import running_hub

from volo.cli import main
from volo.imagenet import imagenet_names, synsets
from volo.models import TrainedModel, create_model

DOCS = Path(__file__).parents[2] / "docs"
SETTINGS = {"size": [32, 32], "crop_pct": 1.0, "interpolation": "bicubic"}


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return [
        code for kind, code in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if kind == language
    ]


def save(folder: Path, names: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    model = create_model("volo_micro_32", num_classes=len(names)).eval()
    TrainedModel(model=model, class_names=names, preprocessing=SETTINGS).save_pretrained(folder)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the page's short way to read a JSON file
def test_the_page_on_sharing(tmp_path, monkeypatch):
    code = blocks("hub.md", "python")
    assert len(code) == 6
    save(tmp_path / "runs/pets", ("cat", "dog"))
    (tmp_path / "runs/pets/results.json").write_text(json.dumps({"images": 20, "top1": 0.75}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_any")
    namespace = {"images": torch.zeros(2, 3, 32, 32)}
    with running_hub(monkeypatch, tmp_path / "hub"):
        for block in code:
            exec(block.replace('load(".",', f"load({str(DOCS.parent)!r},"), namespace)
    assert namespace["logits"].shape == (2, 2)
    assert "top-1 accuracy 75.00%" in Path("pets/README.md").read_text(encoding="utf-8")
    assert namespace["config"]["input_size"] == (3, 32, 32)
    assert [map.shape[1] for map in (namespace["fine"], namespace["coarse"])] == [64, 128]


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """One image of each of six classes, in every layout that the page names, and a small model."""
    rng = np.random.default_rng(0)
    for root in ("imagenet/val", "imagenetv2-matched-frequency-format-val", "imagenet-a", "imagenet-r"):
        for number, label in enumerate((0, 2, 10, 100, 998, 999), start=1):
            folder = tmp_path / root / (str(label) if "v2" in root else synsets()[label])
            folder.mkdir(parents=True)
            picture = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
            picture.save(folder / f"ILSVRC2012_val_{number:08d}.JPEG")
    (tmp_path / "real.json").write_text(json.dumps([[label] for label in range(6)]))
    save(tmp_path / "model", imagenet_names())
    monkeypatch.chdir(tmp_path)


def test_the_page_on_imagenet(imagenet, capsys):
    # A small model stands in for the published weights, which have 107 MB.
    commands, (python,) = blocks("imagenet.md", "")[0].splitlines(), blocks("imagenet.md", "python")
    assert len(commands) == 5
    for command in commands:
        program, *arguments = shlex.split(command.replace("volo_d1_224.sail_in1k", "model"))
        assert program == "volo"
        assert main(arguments) == 0, command
        printed = capsys.readouterr().out
        assert f"6 images of {6 if '--among folder' in command else '1,000'} classes" in printed
        assert ("ReaL" in printed) == ("--real" in command)
    exec(python.replace("volo_d1_224.sail_in1k", "model"), {})
    assert "'real_images': 6" in capsys.readouterr().out
