"""Sharing of a trained classifier: saving, uploading to a local hub, and loading from it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard, constants
from tiny_hub import COMMIT, running_hub

import volo
from volo.models import TrainedModel, create_model, from_pretrained, load_model

NAMES = ("ant", "Ohrwurm", "蜂 ```")
RESULTS = {"images": 2000, "top1": 0.8925, "top5": None, "loss": 0.3, "intervals": {}}


@pytest.fixture(scope="module")
def trained() -> TrainedModel:
    torch.manual_seed(0)
    model = create_model("volo_micro_32", num_classes=3).eval()
    settings = {"size": [32, 32], "crop_pct": 0.9, "interpolation": "bicubic"}
    return TrainedModel(model=model, class_names=NAMES, preprocessing=settings)


def assert_same(loaded: TrainedModel, trained: TrainedModel) -> None:
    assert (loaded.class_names, loaded.preprocessing) == (trained.class_names, trained.preprocessing)
    assert loaded.model.config == trained.model.config
    assert not loaded.model.training
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name


# Folders


def test_a_saved_folder_gives_the_same_model_bit_for_bit(trained, tmp_path):
    trained.save_pretrained(tmp_path / "a" / "insects")
    assert sorted(path.name for path in (tmp_path / "a" / "insects").iterdir()) == [
        ".volo-folder",
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    for load in (from_pretrained, load_model):
        assert_same(load(tmp_path / "a" / "insects"), trained)


def test_the_card_describes_a_classifier(trained, tmp_path):
    folder = tmp_path / "insects"
    trained.save_pretrained(folder, results=RESULTS, license="apache-2.0")
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.library_name == "volo"
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_name, result.metric_value) == ("accuracy", "top-1 accuracy", 0.8925)
    assert result.dataset_name == "2,000 images"
    assert "\nOn 2,000 images: top-1 accuracy 89.25%.\n" in card.text
    assert "3 classes,\n32×32 pixels, 0.9" in card.text
    assert "size [32, 32], crop_pct 0.9, interpolation bicubic" in card.text
    assert json.dumps(NAMES, ensure_ascii=False) in card.text
    assert str(tmp_path) not in card.text


def test_the_three_lines_of_the_card_run(trained, tmp_path, monkeypatch, capsys):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    trained.save_pretrained("insects")
    Image.new("RGB", (40, 30)).save("photo.jpg")
    (code,) = re.findall(r"```python\n(.*?)```", Path("insects/README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(list(filter(None, code.splitlines()))) == 3
    exec(code, {})
    assert capsys.readouterr().out.strip() in NAMES


def test_without_scores_and_license_the_card_has_no_entries_for_them(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license is card.data.metrics is card.data.eval_results is None
    assert "accuracy" not in card.text


def test_names_that_do_not_fit_the_outputs_are_an_error_and_nothing_is_written(trained, tmp_path):
    wrong = TrainedModel(model=trained.model, class_names=("ant",), preprocessing=trained.preprocessing)
    with pytest.raises(ValueError, match="class_names must be 3 names, not 1"):
        wrong.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_could_steer_a_reader_is_escaped_in_the_card(trained, tmp_path):
    names = ("cat\x1b]52;c;cm0=\x07", "\u202egnp.\x9bexe", "tag\U000e0041 蜂")
    replace(trained, class_names=names).save_pretrained(tmp_path / "a\u202eb", notes="## Data\n\nPhotos.")
    text = (tmp_path / "a\u202eb" / "README.md").read_text(encoding="utf-8")
    assert all(character.isprintable() or character == "\n" for character in text)
    assert r"# a\u202eb" in text
    assert json.loads(re.search(r"```json\n(.*)\n```", text)[1]) == list(names)
    assert "蜂" in text
    assert load_model(tmp_path / "a\u202eb").class_names == names


def test_a_name_that_no_file_can_hold_is_one_line_and_nothing_is_written(trained, tmp_path):
    with pytest.raises(ValueError, match=r"^the name of class 2, '\\udcff', is not valid Unicode text; rename it$"):
        replace(trained, class_names=("ant", "bee", "\udcff")).save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


# The hub


@pytest.fixture(autouse=True)
def online(monkeypatch):
    """Ignore HF_HUB_OFFLINE: the hub of these tests is local."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with running_hub(monkeypatch, tmp_path / "hub") as server:
        yield server


def test_a_model_from_the_hub_is_the_one_that_was_pushed(trained, hub, monkeypatch):
    url = trained.push_to_hub("me/insects", results=RESULTS, private=True, token="hf_secret", message="First")
    assert url == f"{hub.address}/me/insects/commit/{COMMIT}"
    assert sorted(hub.files) == ["README.md", "config.json", "model.safetensors"]
    assert (hub.seen["organization"], hub.seen["name"]) == ("me", "insects")
    assert hub.seen.get("private") or hub.seen.get("visibility") == "private"  # the client's word, by version
    assert (hub.seen["token"], hub.seen["message"]) == ("Bearer hf_secret", "First")
    card = ModelCard(hub.files["README.md"].decode())
    assert card.text.strip().startswith("# me/insects\n")
    assert 'volo.Predictor("hf-hub:me/insects")' in card.text
    assert_same(from_pretrained("me/insects"), trained)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # from here on out of the cache
    hub.files.clear()
    assert_same(from_pretrained("me/insects", revision=COMMIT), trained)
    assert volo.Predictor("hf-hub:me/insects", device="cpu").class_names == NAMES


def test_a_missing_repository_is_one_line(hub):
    with pytest.raises(
        ValueError, match=r"^there is no folder me/other, and the hub gave an error: me/other does not exist on .*$"
    ):
        from_pretrained("me/other")


def test_offline_uploads_and_uncached_downloads_are_errors_of_one_line(trained, hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        ValueError, match=r"^HF_HUB_OFFLINE is set, .* me/insects: unset it, or call save_pretrained.*$"
    ):
        trained.push_to_hub("me/insects")
    assert not hub.seen
    with pytest.raises(
        ValueError, match=r"^there is no folder me/other, and the hub gave an error: .*not in the cache.*$"
    ):
        from_pretrained("me/other")


def test_an_existing_folder_has_priority_over_the_hub_and_no_revisions(trained, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained.save_pretrained("me/insects")
    assert_same(from_pretrained("me/insects"), trained)
    with pytest.raises(ValueError, match="me/insects has no revision 'v1'"):
        from_pretrained("me/insects", revision="v1")


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, ValueError, "the token has no write access to me/insects: set HF_TOKEN to a token that has"),
        (403, ValueError, "the token has no write access to me/insects"),
        (418, RuntimeError, "the hub rejected me/insects: .*418"),
    ],
)
def test_a_rejected_upload_is_one_line(trained, hub, status, error, message):
    hub.refuses = status
    with pytest.raises(error, match=message) as raised:
        trained.push_to_hub("me/insects", token="hf_wrong")
    assert len(str(raised.value).splitlines()) == 1


def test_an_unreachable_hub_is_one_line(trained, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(RuntimeError, match=r"^me/insects was not uploaded: .*$"):
        trained.push_to_hub("me/insects", token="hf_any")


@pytest.mark.parametrize("name", ["me/in/sects", "me insects", ""])
def test_an_invalid_repository_name_is_one_line(trained, name):
    with pytest.raises(ValueError, match=r"is not a repository name; give org/name$"):
        trained.push_to_hub(name, token="hf_any")
