"""``volo weights``: list, inspect, fetch and convert."""

import pytest
import torch
from peers import of_authors, timm_micro
from safetensors.torch import save_file

from volo.cli import main
from volo.models import VARIANTS, WEIGHTS, create_model, save_model
from volo.models.weights.published import shipped_weights

NAMES = tuple("abcdefghij")


@pytest.fixture(scope="module")
def peer():
    return timm_micro()


def inspected(capsys, *arguments, code=0):
    """The printed table, row → text, and the text on standard error."""
    assert main(["weights", "inspect", *map(str, arguments)]) == code
    printed = capsys.readouterr()
    rows = [line.split(maxsplit=1) for line in printed.out.splitlines() if not line.startswith("  ")]
    return {row[0]: row[1].strip() for row in rows}, printed.err


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")


def test_inspect_describes_a_checkpoint_of_the_authors(tmp_path, peer, capsys):
    path = tmp_path / "d1.pth.tar"
    torch.save(of_authors(peer, averaged=timm_micro(seed=1)), path)
    rows, error = inspected(capsys, path)
    assert not error
    assert rows["format"] == "zip archive of torch.save"
    assert rows["entry"].startswith("state_dict_ema; other entries: epoch, arch, state_dict, optimizer, version, args")
    assert rows["average"] == "the averaged weights (state_dict_ema) were loaded; ema=False loads the last ones"
    assert rows["prefix"] == "every name begins with 'module.'"
    assert rows["metadata"] == "epoch=309, arch=volo_d1, version=2, metric=84.2"
    assert rows["tensors"] == "113 (110 float32, 3 int64), 0.98 M values, 3.7 MiB"
    assert rows["model"] == "volo_micro"
    assert rows["image"] == "32x32 pixels, 3 channels"
    assert rows["heads"] == "10 classes, with a token head"
    assert rows["use"] == f"volo.create_model('volo_micro_32', pretrained={str(path)!r})"
    assert rows["problems"] == "none"
    assert inspected(capsys, path, "--ema", "false")[0]["entry"].startswith("state_dict; ")


def test_inspect_describes_a_model_folder(tmp_path, peer, capsys):
    save_model(
        tmp_path, VARIANTS["volo_micro_32"], peer.state_dict(), class_names=NAMES, preprocessing={"size": [32, 32]}
    )
    rows, _ = inspected(capsys, tmp_path)
    assert rows["format"] == "safetensors"
    assert rows["described"] == "by volo, 10 class names"


def test_inspect_recognizes_published_sizes_with_other_class_counts(tmp_path, capsys):
    path = tmp_path / "d2.safetensors"
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in create_model("volo_d1_384", num_classes=7).state_dict().items()}
    save_file({name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()}, path)
    rows, _ = inspected(capsys, path)
    assert rows["model"] == "volo_d1"
    assert rows["image"] == "384x384 pixels, 3 channels"
    assert rows["use"] == f"volo.create_model('volo_d1_384', pretrained={str(path)!r}, num_classes=7)"
    assert "260 float16" in rows["tensors"]


def test_inspect_reports_errors_in_a_file(tmp_path, peer, capsys):
    path = tmp_path / "bad.pth"
    torch.save({**peer.state_dict(), "norm.weight": torch.ones(3)}, path)
    rows, error = inspected(capsys, path, code=2)
    assert rows["problems"] == "has wrong shapes for norm.weight"
    assert error == f"volo weights: {path} cannot be loaded: it has wrong shapes for norm.weight\n"
    assert "use" not in rows
    torch.save({"conv1.weight": torch.ones(3), "layer1.0.conv1.weight": torch.ones(3)}, path)
    rows, error = inspected(capsys, path, code=2)
    assert rows["tensors"].startswith("2 (2 float32)")
    assert "is not a VOLO: " in error
    assert "looks like a ResNet" in error


def test_list_has_a_row_for_each_published_checkpoint(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["weights", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(WEIGHTS) + len(shipped_weights()) + 3
    assert "…" not in "".join(lines)
    row = next(line for line in lines if line.startswith("volo_d4_448.sail_in1k")).split()
    assert row[1:-1] == ["448", "193.41M", "197.13", "86.8", "86.788", "1.15", "apache-2.0"]
    assert row[-1] in ("yes", "no")
    row = next(line for line in lines if line.startswith("volo_tiny_32.cifar10")).split()
    assert (row[1], row[-2:]) == ("32", ["apache-2.0", "shipped"])


def test_weights_of_the_package_are_not_fetched(capsys):
    for name in ("volo_tiny_32.cifar10", "volo_tiny_32", "volo_tiny"):
        assert main(["weights", "fetch", name]) == 0
        assert "volo_tiny_32.cifar10 comes with the package: " in capsys.readouterr().out


def test_convert_reports_the_written_folder(tmp_path, peer, capsys):
    torch.save(peer.state_dict(), tmp_path / "a.pth")
    assert main(["weights", "convert", str(tmp_path / "a.pth"), str(tmp_path / "out"), "--to", "volo"]) == 0
    assert (
        capsys.readouterr().out == f"0.98 M parameters are in {tmp_path / 'out'}, a folder that every command of "
        "this package reads\n"
    )
    assert main(["weights", "convert", str(tmp_path / "a.pth"), str(tmp_path / "x"), "--to", "tim"]) == 2
    assert "did you mean 'timm'" in capsys.readouterr().err


def test_actions_are_listed_and_misspelled_ones_corrected(capsys):
    assert main(["weights"]) == 0
    assert all(action in capsys.readouterr().out for action in ("inspect",))
    assert main(["weights", "lits"]) == 2
    assert "did you mean 'list'" in capsys.readouterr().err
