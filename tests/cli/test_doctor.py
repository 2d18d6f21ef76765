import importlib.metadata

import pytest
import torch

import volo
from volo.cli import main
from volo.ops.native import library


@pytest.fixture
def report(capsys, monkeypatch):
    """The printed table: fact → value."""
    monkeypatch.setenv("COLUMNS", "400")

    def read():
        assert main(["doctor"]) == 0
        lines = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
        return {line[1].strip(): line[2].strip() for line in lines}

    return read


def test_backends_and_packages_are_reported(report):
    facts = report()
    assert facts["volo"] == volo.__version__
    assert facts["torch"] == importlib.metadata.version("torch")
    assert facts["threads"].startswith(str(torch.get_num_threads()))
    assert [fact for fact in facts.values() if "chosen" in fact] == ["runs: the one that is chosen"]
    loaded = library.load()
    if isinstance(loaded, library.Library):
        assert facts["native library"] == str(loaded.path)
        assert loaded.instruction_sets[-1] in facts["instruction sets"]


def test_the_reason_why_a_backend_does_not_run_is_reported(report, monkeypatch):
    monkeypatch.setattr(library, "load", lambda: "the native library was not built")
    facts = report()
    assert facts["operator: native"] == "the native library was not built"
    assert "chosen" in facts["operator: slices"]
    assert "native library" not in facts


def test_a_missing_package_is_reported(report, monkeypatch):
    def version(name, real=importlib.metadata.version):
        if name == "timm":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert report()["timm"] == "not installed"
