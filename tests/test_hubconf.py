"""The entry points of torch.hub, loaded as torch.hub loads them."""

import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from volo.models import VARIANTS, VOLO, create_model, list_models

ROOT = Path(__file__).parents[1]


def load(name: str, **options) -> VOLO:
    return torch.hub.load(str(ROOT), name, source="local", **options)


def test_every_model_is_listed_and_nothing_else():
    # What torch.hub.list does, which wants GitHub.
    public = {name: entry for name, entry in runpy.run_path(ROOT / "hubconf.py").items() if name[0] != "_"}
    assert sorted(name for name, entry in public.items() if callable(entry)) == sorted(list_models())
    assert "num_classes" in public["volo_d1_224"].__doc__
    assert all(importlib.util.find_spec(module) for module in public["dependencies"])


@pytest.mark.parametrize("name", VARIANTS)
def test_every_model_is_built(name):
    with torch.device("meta"):
        model = load(name, pretrained=False)
    assert isinstance(model, VOLO)
    assert model.config == VARIANTS[name]


def test_weights_and_settings_reach_the_model():
    source = create_model("volo_micro_32", num_classes=3)
    model = load("volo_micro_32", pretrained=source, num_classes=3, img_size=48)
    assert model.config.img_size == (48, 48)
    assert torch.equal(model.head.weight, source.head.weight)


def test_it_needs_no_installed_package(tmp_path):
    code = f"""
import sys
sys.path = [path for path in sys.path if not path.endswith('/src')]
sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in type(finder).__module__.lower()
                 and 'editable' not in type(finder).__name__.lower()]
import torch
model = torch.hub.load({str(ROOT)!r}, 'volo_micro_32', source='local')
print(sys.modules['volo'].__file__, tuple(model.eval()(torch.zeros(1, 3, 32, 32)).shape))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split(" ", 1) == [str(ROOT / "src/volo/__init__.py"), "(1, 10)\n"]
