"""``volo completion``: scripts that a shell reads, and what they complete."""

import argparse
import shutil
import subprocess

import pytest

from volo.cli import MODULES, main
from volo.cli.management.completion import SHELLS, commands


@pytest.fixture(scope="module")
def verbs():
    (actions,) = (each for each in commands()._actions if isinstance(each, argparse._SubParsersAction))
    return actions.choices


def options(command):
    return {option for action in command._actions for option in action.option_strings}


def test_every_verb_completes_its_options(verbs):
    assert set(verbs) == set(MODULES)
    assert {"--image-size", "--lr", "--batch-size", "--resume"} <= options(verbs["train"])
    assert {"--among", "--batch-size", "--scales"} <= options(verbs["eval"])
    assert not [option for command in verbs.values() for option in options(command) if "_" in option or "+" in option]


def test_words_that_are_few_are_completed(verbs):
    (among,) = (action for action in verbs["eval"]._actions if "--among" in action.option_strings)
    assert among.choices == ["all", "folder"]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_one_that_the_shell_reads(shell, capsys, tmp_path):
    assert main(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    assert "--image-size" in script.read_text()
    if shutil.which(shell):
        subprocess.run([shell, "-n", str(script)], check=True)


def test_bash_completes(capsys, tmp_path):
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    ask = """
    source "$1"
    complete=$(complete -p volo | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    COMP_WORDS=(volo train --imag) COMP_CWORD=2
    $complete volo --imag train
    echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(["bash", "-c", ask, "bash", str(script)], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["--image-size"]
