"""The commands given bad input, output and machines: one clear line on standard error, and no half-written file.

The cases stand in ``bad_input/VERB.yaml``: rows with the fields of ``Case``. A row with ``$ENDING`` in its name stands
for one case for each ending of image files.
"""

import re
import shlex
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from string import Template

import pytest
import yaml
from bad_things import ENDINGS, SEGMENT, TINY, make_world, prepare, run_in_a_shell

from volo.cli import MODULES, main

TABLES = sorted((Path(__file__).parent / "bad_input").glob("*.yaml"))
WORDS = {"TINY": TINY, "SEGMENT": SEGMENT, "X250": "x" * 250, "X300": "x" * 300}
#: Lines that begin so are no errors: the work went on.
REMARKS = ("warning: ", "note: ")
TEMPORARY = re.compile(r"\.volo-tmp\..*")


@dataclass(frozen=True)
class Case:
    """Something bad, and what a command prints, returns and writes then.

    Attributes:
        verb: the name of the table.
        name: what is bad.
        command: a command line, run in a folder made by ``make_world``; ``WORDS`` stand in it by ``$NAME``.
        exit_code: the exit code.
        prints: texts in the line of error, or, where the work goes on, in all that is printed.
        setup: setups of ``bad_things.py`` that make the bad thing: name → arguments.
        leaves: patterns of the new files; each pattern matches at least one file, and there are no others.
        shell: a shell runs the command in processes of its own. There, ``together FUNCTION COUNT`` in front of a
            command interrupts all its processes when one of them calls the function for the COUNT-th time.
        slow: run on demand.
    """

    verb: str
    name: str
    command: str
    exit_code: int
    prints: list[str] = field(default_factory=list)
    setup: dict = field(default_factory=dict)
    leaves: list[str] = field(default_factory=list)
    shell: bool = False
    slow: bool = False


def fill(value, words):
    """Put ``words`` in the place of their names in all texts of a row."""
    if isinstance(value, dict):
        return {key: fill(item, words) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, words) for item in value]
    return Template(value).substitute(words) if isinstance(value, str) else value


def read_table(path):
    for row in yaml.safe_load(path.read_text(encoding="utf-8")):
        for ending in ENDINGS if "$ENDING" in row["name"] else [""]:
            fields = fill(row, {**WORDS, "ENDING": ending})
            prints, setup = fields.pop("prints", []), fields.pop("setup", {})
            prints = [prints] if isinstance(prints, str) else prints
            setup = {setup: None} if isinstance(setup, str) else setup
            yield Case(path.stem, **fields, prints=prints, setup=setup)


CASES = [case for path in TABLES for case in read_table(path)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    import volo.training.run  # noqa: F401  # before a case takes the permission to read from this process

    root = tmp_path_factory.mktemp("world")
    make_world(root)
    return root


@pytest.fixture
def here(world, tmp_path, monkeypatch):
    """The folder of one case, current."""
    shutil.copytree(world, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def contents(folder):
    """Path → content of each file, target of each link, False for each folder."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        found[name] = path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
    return found


def test_each_name_is_unique_in_its_table_and_each_table_is_named_after_a_verb():
    assert len({(case.verb, case.name) for case in CASES}) == len(CASES) > 300
    assert {path.stem for path in TABLES} <= {*MODULES, "main"}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=f"{case.verb}: {case.name}", marks=[pytest.mark.slow] * case.slow) for case in CASES],
)
def test_one_clear_line_and_nothing_half_written(case, here, capfd):
    with ExitStack() as stack:
        starts = prepare(stack, case.setup)
        before = contents(here)
        for start in starts:
            start()
        code = run_in_a_shell(case.command) if case.shell else main(shlex.split(case.command))
    out, err = capfd.readouterr()
    assert code == case.exit_code, out + err
    assert "Traceback" not in out + err
    assert_one_clear_line(case, out, err)
    after = contents(here)
    assert {name: after.get(name) for name in before} == before
    new = after.keys() - before.keys()
    assert not [name for name in new if TEMPORARY.fullmatch(Path(name).name)]
    assert not [name for name in new if not any(fnmatch(name, pattern) for pattern in case.leaves)]
    assert all(any(fnmatch(name, pattern) for name in new) for pattern in case.leaves)


def assert_one_clear_line(case, out, err):
    errors = [line for line in err.splitlines() if not line.startswith(REMARKS)]
    if case.exit_code in (0, 141):  # the work went on, or nobody reads the output
        assert not errors
        printed = out + err
    else:
        assert len(errors) == 1, err
        printed = errors[0]
        assert printed.startswith(("interrupted", "stopped") if case.exit_code == 130 else ("volo ", "error")), err
    for text in case.prints:
        assert text in printed
