"""The folder list and the paths of CONTRIBUTING.md agree with the repository."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
#: A line of the folder list: a path that ends in a slash, then its description.
LINES = re.findall(r"^([\w./-]+/) {2,}(\S.*)$", PAGE, re.MULTILINE)
FOLDERS = [folder for folder, _ in LINES]


def test_the_list_names_each_folder_once():
    assert FOLDERS
    assert len(set(FOLDERS)) == len(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_listed_folder_exists(folder):
    assert (ROOT / folder).is_dir()


def test_every_folder_with_modules_is_listed():
    with_modules = {f"{path.parent.relative_to(ROOT).as_posix()}/" for path in (ROOT / "src/volo").rglob("*.py")}
    assert not with_modules - set(FOLDERS)


def test_every_other_folder_with_python_files_at_the_top_is_listed():
    visible = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    with_modules = {f"{path.name}/" for path in visible if list(path.glob("*.py"))}
    assert not with_modules - set(FOLDERS)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:src|tests|tools|docs)/[\w./-]+)`", PAGE))))
def test_a_path_in_the_text_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize(
    ("table", "file"), sorted(set(re.findall(r"(?:row|entry|and) of `(\w+)` in `(src/[\w./]+\.py)`", PAGE)))
)
def test_a_table_that_gets_a_row_is_in_its_file(table, file):
    assert re.search(rf"^{table}\b", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_the_order_of_imports_is_that_of_the_architecture_test():
    spec = importlib.util.spec_from_file_location("test_architecture", ROOT / "tests/test_architecture.py")
    architecture = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(architecture)
    (order,) = re.findall(r"```\n(version.*?)```", PAGE, re.DOTALL)
    listed = {name: rank for rank, level in enumerate(order.split("→")) for name in re.findall(r"\w+", level)}
    assert listed == architecture.RANKS
