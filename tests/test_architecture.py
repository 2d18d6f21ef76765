"""The rooms of the house: imports go downward, nothing heavy is loaded by accident, grep finds names."""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import volo

ROOT = Path(volo.__file__).parent
#: A module may import its own room, and rooms of a lower rank; rooms of equal rank may not import each other.
RANKS = {
    "version": 0, "extras": 0, "messages": 0, "color": 0, "files": 0, "limits": 0, "logs": 0,
    "precision": 1, "figures": 1, "outputs": 1, "skipped": 1, "csv_files": 1, "imagenet": 1, "ops": 1, "layers": 2,
    "models": 3, "data": 4,
    "tasks": 5, "fused": 5, "runtime": 5, "inference": 6, "evaluation": 7, "export": 7,
    "training": 8, "labeling": 8, "bench": 8, "cli": 9,
}  # fmt: skip
#: The same within a room, for its modules and its folders: a lower one never imports a higher one, and those of equal
#: rank are free among themselves, but for folders, which may not mix.
INNER = {
    "data": {
        "images": 0, "color_modes": 0, "damaged": 0, "read_notes": 0, "find": 0, "preprocessing": 0, "splits": 0,
        "class_names": 0, "loader": 0,
        "embedded": 0, "sources": 1, "classification": 1, "segmentation": 1, "token_labels": 2, "checks": 2,
        "registry": 3, "identity": 4,
    },
    "models": {
        "config": 0, "volo": 0, "pyramid": 0, "segmentation": 0, "weights": 1, "factory": 2,
        "timm_registry": 3, "smp_registry": 3,
    },
    "training": {
        "config": 0, "reports": 1, "callbacks": 2, "advice": 3, "assemble": 3, "checks": 3, "classification": 3,
        "datamodule": 3, "distributed": 3, "dry_run": 3, "fake_data": 3, "job": 3, "optim": 3, "run": 3,
        "run_images": 3, "segmentation": 3,
    },
    "cli": {"ui": 0, "inference": 1, "management": 1, "training": 2},
}  # fmt: skip
#: Most modules of a folder, ``__init__`` not counted.
MOST_MODULES = 14
#: Public names that stand in several files, and why.
TWINS = {
    "run": "the entry point of every verb",
    "parser": "the parser of every verb, for its entry point and for shell completion",
}


def sources():
    return sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.stem in RANKS)


def room(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path):
    """The modules of volo that a file imports, wherever in it; ``from volo.a import b`` gives the module ``volo.a.b``
    where there is one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module and node.module.split(".")[0] == "volo":
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    yield whole if file_of(whole) else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "volo")


def file_of(module):
    """The file of a module of volo, or None."""
    place = ROOT.joinpath(*module.split(".")[1:])
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_downward(path):
    for module in imported(path):
        if module in ("volo", "volo.__version__"):
            # The commands are users of the package: they alone may ask the root for its version.
            assert room(path) == "cli", f"{path} imports the package root"
            continue
        target = module.split(".")[1]
        lower = RANKS[target] < RANKS[room(path)] or target == room(path)
        assert lower, f"{path} of rank {RANKS[room(path)]} imports {module}"


@pytest.mark.parametrize("name", INNER)
def test_rooms_import_downward_inside(name):
    ranks = INNER[name]
    found = {item.stem for item in (ROOT / name).iterdir() if item.suffix == ".py" or list(item.glob("*.py"))}
    assert found - {"__init__"} == set(ranks), f"every module and folder of {name}/ has a rank here"
    for path in (ROOT / name).rglob("*.py"):
        place = path.relative_to(ROOT / name).parts[0].removesuffix(".py")
        if place == "__init__":
            continue
        for module in imported(path):
            parts = module.split(".")
            if len(parts) < 3 or parts[1] != name or parts[2] == place:
                continue
            target = parts[2]
            folders = [(ROOT / name / each).is_dir() for each in (place, target)]
            assert ranks[target] < ranks[place] or (ranks[target] == ranks[place] and not all(folders)), (
                f"{path.relative_to(ROOT)} imports {module}"
            )


def test_no_two_modules_import_each_other():
    """Imports for type checkers, within functions and of a package's own ``__init__`` count, too."""
    arrows = defaultdict(set)
    for path in ROOT.rglob("*.py"):
        for module in imported(path):
            target = file_of(module)
            if target not in (None, path):
                arrows[path].add(target)
    pairs = {
        tuple(sorted(str(each.relative_to(ROOT)) for each in (path, target)))
        for path, targets in arrows.items()
        for target in targets
        if path in arrows.get(target, ()) and path != ROOT / "__init__.py"
    }
    assert not pairs


def test_no_folder_is_crowded():
    for folder in (ROOT, *(path for path in ROOT.rglob("*") if path.is_dir())):
        modules = [path.name for path in folder.glob("*.py") if path.stem != "__init__"]
        assert len(modules) <= MOST_MODULES, f"{folder} holds {len(modules)} modules"


def test_every_room_has_a_rank():
    rooms = {room(path) for path in ROOT.rglob("*.py") if path.name not in ("__init__.py", "__main__.py")}
    assert rooms == set(RANKS)


def top_level_names(path):
    """The public names that a module defines."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name))


def test_grep_finds_a_public_name_in_one_file():
    files = defaultdict(set)
    for path in ROOT.rglob("*.py"):
        for name in top_level_names(path):
            if not name.startswith("_"):
                files[name].add(str(path.relative_to(ROOT)))
    double = {name: sorted(places) for name, places in files.items() if len(places) > 1 and name not in TWINS}
    assert not double


def docstrings():
    """Every docstring of the package: where it stands, and its text."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    yield f"{path.relative_to(ROOT)}:{getattr(node, 'name', 'module')}", text


def test_no_docstring_begins_like_a_riddle():
    """A summary says what a thing is or does; ruff's D401, which wants the imperative, lets these words pass."""
    words = ("What", "Who", "Whoever", "Where", "Why", "When", "How")
    assert not [place for place, text in docstrings() if text.split()[0].rstrip(",.:;") in words]


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
import volo.ops, volo.layers, volo.models, volo.data, volo.fused, volo.runtime, volo.inference
assert settings() == before
heavy = {'timm', 'pytorch_lightning', 'torchmetrics', 'matplotlib', 'volo.training'} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_callbacks_do_not_load_the_comparison_of_runs():
    code = "import sys, volo.training.callbacks.record; assert 'volo.training.reports.compare' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_exists():
    for name in volo.__all__:
        assert getattr(volo, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'training_wheels'"):
        _ = volo.training_wheels
