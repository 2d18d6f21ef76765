"""The lines of docs/weights.md run as they stand there."""

import json
import re
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from peers import of_authors, timm_from_config, write_keras
from safetensors.torch import save_file

import volo
from volo.models import VARIANTS, save_model
from volo.models.weights.convert import outlook_attention_layer

PAGE = Path(__file__).parents[2] / "docs" / "weights.md"
LINES = re.findall(r"^\| .* \| `((?:volo|timm|outlook).*)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
FETCHING = ("pretrained=True", "hf-hub:", "https:")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with every file that the page names, D1 with few classes where any number does."""
    folder = tmp_path_factory.mktemp("weights")
    peer = timm_from_config(VARIANTS["volo_d1_224"])
    state = peer.state_dict()
    torch.save(state, folder / "d1_224_84.2.pth.tar")
    torch.save(of_authors(peer, averaged=peer), folder / "trained.pth.tar")
    save_file(state, folder / "timm_d1.safetensors")
    write_keras(folder / "volo_d1_224_imagenet.h5", state, heads=(6, 12), whole=False)
    (folder / "wrapper").mkdir()
    save_file({f"timm_model.{name}": tensor for name, tensor in state.items()}, folder / "wrapper/model.safetensors")
    (folder / "wrapper/config.json").write_text(json.dumps({"architecture": "volo_d1_224"}))
    run = folder / "runs/photos"
    (run / "checkpoints").mkdir(parents=True)
    small = volo.create_model("volo_micro_32")
    described = {"class_names": tuple("abcdefghij"), "preprocessing": {"size": [32, 32]}}
    save_model(run, small.config, small.state_dict(), **described)
    names = {f"model.{name}": tensor for name, tensor in small.state_dict().items()}
    torch.save({"state_dict": names, "current_model_state": names}, run / "checkpoints/best.ckpt")
    return folder


def test_the_page_has_a_line_for_every_source():
    assert len(LINES) == 16


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_page_runs(files, monkeypatch, tmp_path, line):
    monkeypatch.chdir(files)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    weights = timm.models.volo.OutlookAttention(192, 6).state_dict()
    names = {"volo": volo, "timm": timm, "outlook_attention_layer": outlook_attention_layer, "layer_weights": weights}
    in_the_package = 'create_model("volo_tiny_32"' in line
    if any(word in line for word in FETCHING) and not in_the_package:
        with pytest.raises(ValueError, match="is not in the cache"):
            eval(line, names)
    else:
        assert eval(line, names)
