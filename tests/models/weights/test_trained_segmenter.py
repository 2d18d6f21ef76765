"""Saving, loading and sharing of a trained segmentation model."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard, constants
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_hub import COMMIT, running_hub
from torch.testing import assert_close

import volo
from volo.models import TrainedSegmenter, create_segmenter, load_segmenter, save_model, save_segmenter, task_of

COLORS = ((0, 0, 0), (255, 128, 0), (1, 2, 3))
KNOWN = {
    "class_names": ("road", "sky", "tree"),
    "class_colors": COLORS,
    "ignore_index": 255,
    "preprocessing": {"size": (64, 96), "mean": (0.5, 0.5, 0.5)},
    "short_side": 120,
}


@pytest.fixture
def model():
    return create_segmenter("volo_micro_32", num_classes=3, img_size=(64, 96), decoder_channels=16).eval()


@pytest.fixture
def folder(model, tmp_path):
    (tmp_path / "run").mkdir()
    save_segmenter(tmp_path / "run", model.config, model.state_dict(), **KNOWN)
    return tmp_path / "run"


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_load_segmenter_reads_a_saved_model(model, folder):
    trained = load_segmenter(folder)
    assert not trained.model.training
    images = torch.randn(1, 3, 50, 70)
    with torch.no_grad():
        assert_close(trained.model(images), model(images))
    assert (trained.class_names, trained.class_colors) == (KNOWN["class_names"], COLORS)
    assert (trained.ignore_index, trained.short_side) == (255, 120)
    assert trained.preprocessing == {"size": [64, 96], "mean": [0.5, 0.5, 0.5]}
    assert task_of(folder) == "segmentation"


def test_half_precision_is_widened(model, folder):
    weights = load_file(folder / "model.safetensors")
    halved = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    save_file(halved, folder / "model.safetensors")
    loaded = load_segmenter(folder).model.state_dict()
    assert_close(loaded, model.state_dict(), rtol=1e-3, atol=1e-4)


def test_a_model_of_the_other_task_is_an_error(folder, tmp_path):
    with pytest.raises(ValueError, match=r"is a segmentation model, not a classifier; use .* or volo\.load_segmenter"):
        volo.load_model(folder)
    with pytest.raises(ValueError, match="is a segmentation model, not a classifier"):
        volo.create_model("volo_micro_32", pretrained=folder)
    classifier = volo.create_model("volo_micro_32", num_classes=3)
    (tmp_path / "other").mkdir()
    names = KNOWN["class_names"]
    save_model(
        tmp_path / "other",
        classifier.config,
        classifier.state_dict(),
        class_names=names,
        preprocessing={"size": (32, 32)},
    )
    assert "task" not in json.loads((tmp_path / "other/config.json").read_text())  # written as ever
    assert task_of(tmp_path / "other") == task_of(classifier) == "classification"
    with pytest.raises(ValueError, match=r"is not a segmentation model"):
        load_segmenter(tmp_path / "other")


def test_tensors_or_descriptions_that_do_not_fit_are_errors(model, folder):
    weights = load_file(folder / "model.safetensors")
    save_file({name: t for name, t in weights.items() if name != "head.1.bias"}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"does not fit the architecture in config\.json: it lacks head\.1\.bias"):
        load_segmenter(folder)
    save_file({**weights, "more": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="it has 1 unexpected tensors"):
        load_segmenter(folder)
    change(folder, task="detection")
    with pytest.raises(ValueError, match="its task is 'detection'; this volo supports classification and segmentation"):
        load_segmenter(folder)
    change(folder, task="segmentation", segmentation={"num_classes": 3, "decoder": "upernet"})
    with pytest.raises(ValueError, match=r"does not describe a model: .decoder_channels. is missing"):
        load_segmenter(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": "3"}, "segmentation needs at least two classes and at most 1,000,000, not '3'"),
        ({"num_classes": 10**9}, "segmentation needs at least two classes and at most 1,000,000, not 1000000000"),
        ({"decoder": ["upernet"]}, r"unknown decoder \['upernet'\]"),
        ({"decoder_channels": 10**8}, "decoder_channels must be an integer of 1 to 65,536, not 100000000"),
        ({"class_colors": ["#000000"]}, r"class_colors must be 3 colors, not \['#000000'\]"),
        ({"class_colors": ["#000000", "red", "#ffffff"]}, "a color must be #rrggbb or three numbers"),
        ({"class_colors": [[0, 0, 0]] * 3}, "class_colors must be"),
        ({"class_colors": 7}, "class_colors must be"),
        ({"ignore_index": float("inf")}, "ignore_index must be an integer from 0 to 65,?535, not inf"),
        ({"ignore_index": None}, "ignore_index must be an integer from 0 to 65,?535, not None"),
        ({"short_side": 10**9}, "short_side must be .*16,384 pixels, not 1000000000"),
        ({"short_side": "large"}, "short_side must be .*16,384 pixels, not 'large'"),
    ],
)
def test_a_description_of_other_types_or_sizes_is_one_line(folder, changes, message):
    described = json.loads((folder / "config.json").read_text())["segmentation"]
    change(folder, segmentation=described | changes)
    with pytest.raises(ValueError, match=rf"^\S*config\.json does not describe a model: .*{message}[^\n]*$"):
        load_segmenter(folder)


def test_weights_that_are_not_finite_are_refused_and_named(folder):
    weights = load_file(folder / "model.safetensors")
    weights["head.1.bias"][0] = torch.nan
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"values that are not finite in head\.1\.bias \(1 of \d+ tensors\)"):
        load_segmenter(folder)


def test_the_number_of_names_and_colors_must_be_the_number_of_classes(model, tmp_path):
    with pytest.raises(ValueError, match="3 classes need as many names and colors, not 2 and 3"):
        save_segmenter(tmp_path, model.config, model.state_dict(), **{**KNOWN, "class_names": ("road", "sky")})
    assert not list(tmp_path.iterdir())


# Saving and sharing


@pytest.fixture
def trained(model):
    return TrainedSegmenter(model=model, **KNOWN)


def assert_same(loaded, trained):
    images = torch.randn(1, 3, 50, 70, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert_close(loaded.model(images), trained.model(images), rtol=0, atol=0)
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    assert not loaded.model.training
    assert loaded.model.config == trained.model.config
    assert (loaded.class_names, loaded.class_colors) == (trained.class_names, trained.class_colors)
    assert (loaded.ignore_index, loaded.short_side) == (trained.ignore_index, trained.short_side)
    assert loaded.preprocessing == json.loads(json.dumps(trained.preprocessing))


def test_a_saved_folder_gives_the_same_model(trained, tmp_path):
    trained.save_pretrained(tmp_path / "a" / "streets")
    files = sorted(path.name for path in (tmp_path / "a" / "streets").iterdir())
    assert files == [".volo-folder", "README.md", "config.json", "model.safetensors"]
    assert_same(load_segmenter(tmp_path / "a" / "streets"), trained)


def test_the_card_describes_a_segmentation_model(trained, tmp_path):
    folder = tmp_path / "streets"
    results = {"images": 1200, "miou": 0.5128, "pixel_accuracy": 0.9, "top1": 0.7, "iou": {"road": 0.8}}
    trained.save_pretrained(folder, results=results, license="apache-2.0", notes="## Data\n\nStreets.")
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "volo"
    assert card.data.pipeline_tag == "image-segmentation"
    assert card.data.tags == ["volo", "vision-outlooker", "semantic-segmentation"]
    assert card.data.metrics == ["mean_iou", "accuracy"]
    scores = [(result.metric_type, result.metric_name, result.metric_value) for result in card.data.eval_results]
    assert scores == [("mean_iou", "mean IoU", 0.5128), ("accuracy", "pixel accuracy", 0.9)]
    assert {result.task_type for result in card.data.eval_results} == {"image-segmentation"}
    assert {result.dataset_name for result in card.data.eval_results} == {"1,200 images"}
    text = card.text
    assert text.strip().startswith("# streets\n")
    assert "segments images, with the decoder upernet: 3 classes,\ncrops of 64×96 pixels, " in text
    assert "\nOn 1,200 images: mean IoU 51.28%, pixel accuracy 90.00%.\n" in text
    assert 'volo.Segmenter("streets")' in text
    assert "size (64, 96), mean (0.5, 0.5, 0.5), short_side 120" in text
    assert '["road", "sky", "tree"]' in text
    assert text.endswith("## Data\n\nStreets.")
    assert "top-1" not in text
    assert "Predictor" not in text


def test_without_scores_and_license_the_card_has_no_entries_for_them(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license is card.data.metrics is card.data.eval_results is None
    assert "IoU" not in card.text
    assert "accuracy" not in card.text


def test_the_code_of_the_card_runs(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained.save_pretrained("streets")
    Image.new("RGB", (140, 120)).save("photo.jpg")
    (code,) = re.findall(r"```python\n(.*?)```", Path("streets/README.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(code, {})
    with Image.open("mask.png") as mask:
        assert (mask.mode, mask.size) == ("P", (140, 120))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("road", "sky")}, "class_names must be 3 names, not 2"),
        ({"class_colors": COLORS[:2]}, "3 classes need as many names and colors, not 3 and 2"),
    ],
)
def test_names_or_colors_that_do_not_fit_the_outputs_are_an_error_and_nothing_is_written(
    trained, tmp_path, changes, message
):
    with pytest.raises(ValueError, match=message):
        replace(trained, **changes).save_pretrained(tmp_path / "new" / "folder")
    assert not list(tmp_path.iterdir())


def test_a_model_from_the_hub_is_the_one_that_was_pushed(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # the hub of this test is on this machine
    with running_hub(monkeypatch, tmp_path / "hub") as hub:
        url = trained.push_to_hub("me/streets", results={"images": 3, "miou": 0.5}, token="hf_secret", message="First")
        assert url == f"{hub.address}/me/streets/commit/{COMMIT}"
        assert sorted(hub.files) == ["README.md", "config.json", "model.safetensors"]
        assert (hub.seen["token"], hub.seen["message"]) == ("Bearer hf_secret", "First")
        card = ModelCard(hub.files["README.md"].decode())
        assert card.text.strip().startswith("# me/streets\n")
        assert 'volo.Segmenter("hf-hub:me/streets")' in card.text
        assert_same(load_segmenter("hf-hub:me/streets"), trained)
        assert task_of("hf-hub:me/streets") == "segmentation"
        with pytest.raises(ValueError, match="is a segmentation model, not a classifier"):
            volo.load_model("hf-hub:me/streets")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # only the cache is left
        hub.files.clear()
        assert_same(load_segmenter(f"hf-hub:me/streets@{COMMIT}"), trained)
        assert volo.Segmenter("hf-hub:me/streets", device="cpu").class_names == KNOWN["class_names"]
        with pytest.raises(ValueError, match=r"^HF_HUB_OFFLINE is set, .* me/streets: unset it"):
            trained.push_to_hub("me/streets")
