import importlib.metadata

import pytest
import torch

import volo
from volo.cli import main
from volo.ops.native import library


@pytest.fixture
def report(capsys, monkeypatch):
    """What the doctor says, one line a fact."""
    monkeypatch.setenv("COLUMNS", "400")

    def ask():
        assert main(["doctor"]) == 0
        lines = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
        return {line[1].strip(): line[2].strip() for line in lines}

    return ask


def test_it_says_what_runs_and_what_is_installed(report):
    facts = report()
    assert facts["volo"] == volo.__version__
    assert facts["torch"] == importlib.metadata.version("torch")
    assert facts["threads"].startswith(str(torch.get_num_threads()))
    assert [fact for fact in facts.values() if "chosen" in fact] == ["runs: the one that is chosen"]
    loaded = library.load()
    if isinstance(loaded, library.Library):
        assert facts["native library"] == str(loaded.path)
        assert loaded.instruction_sets[-1] in facts["instruction sets"]


def test_it_says_why_a_backend_does_not_run(report, monkeypatch):
    monkeypatch.setattr(library, "load", lambda: "the native library was not built")
    facts = report()
    assert facts["operator: native"] == "the native library was not built"
    assert "chosen" in facts["operator: slices"]
    assert "native library" not in facts


def test_it_says_what_is_missing(report, monkeypatch):
    def version(name, real=importlib.metadata.version):
        if name == "timm":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert report()["timm"] == "not installed"
