"""The rooms of the house import downwards only, never the package root, and nothing heavy by accident."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import volo

ROOT = Path(volo.__file__).parent
#: A module may import rooms of its own rank's number or lower; equal numbers of different rooms may not mix.
RANKS = {
    "names": 0, "files": 0, "extras": 0, "sessions": 0, "version": 0,
    "ops": 1, "layers": 2, "models": 3, "data": 3,
    "tasks": 4, "inference": 5, "training": 6, "export": 6, "bench": 7, "cli": 8,
}  # fmt: skip


def sources():
    return sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.stem in RANKS)


def room(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path):
    """The modules of volo that a file imports, and whether the name is the root itself."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module and node.module.split(".")[0] == "volo":
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "volo")


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_downwards(path):
    for module in imported(path):
        if module == "volo":
            # The commands are users of the package: they alone may ask the root for its version.
            assert room(path) == "cli", f"{path} imports the package root"
            continue
        target = module.split(".")[1]
        lower = RANKS[target] < RANKS[room(path)] or target == room(path)
        assert lower, f"{path} of rank {RANKS[room(path)]} imports {module}"


def test_every_room_has_a_rank():
    rooms = {room(path) for path in ROOT.rglob("*.py") if path.name not in ("__init__.py", "__main__.py")}
    assert rooms <= set(RANKS)


@pytest.mark.parametrize("name", ["utils", "common", "misc", "helpers"])
def test_no_room_for_leftovers(name):
    assert not list(ROOT.rglob(f"{name}*"))


def test_importing_volo_and_using_a_model_loads_neither_lightning_nor_timm_and_changes_no_global_setting():
    code = """
import sys, warnings, logging, random, torch, numpy
def settings():
    return (torch.get_num_threads(), torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled(),
            torch.get_float32_matmul_precision(), list(warnings.filters), logging.getLogger().handlers[:],
            torch.initial_seed(), random.getstate(), numpy.random.get_state()[1].tolist())
import torchvision
before = settings()
import volo
volo.Predictor, volo.VOLO, volo.outlook_attention, volo.list_models
import volo.ops, volo.layers, volo.models, volo.data, volo.inference
assert settings() == before
heavy = {'timm', 'pytorch_lightning', 'torchmetrics', 'matplotlib', 'volo.training'} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_exists():
    for name in volo.__all__:
        assert getattr(volo, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'training_wheels'"):
        _ = volo.training_wheels
