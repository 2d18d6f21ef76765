"""The weights inside the package: complete, small, and loaded without a download."""

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from torch.testing import assert_close

from volo.inference import Predictor
from volo.models import VARIANTS, create_model, load_model, save_model
from volo.models.weights.identify import identify
from volo.models.weights.published import shipped_weights, weights_name

NAME = "volo_tiny_32.cifar10"
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CLOTHES = tuple(f"clothes {number}" for number in range(10))


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_package_contains_one_model():
    assert list(shipped_weights()) == [NAME]


@pytest.mark.parametrize("name", shipped_weights())
def test_the_files_are_small_of_16_bits_and_fit_the_size_they_are_named_after(name):
    folder = shipped_weights()[name]
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert (folder / "model.safetensors").stat().st_size <= 8_000_000
    weights = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()} == {torch.float16}
    assert all(tensor.isfinite().all() for tensor in weights.values())
    model = name.partition(".")[0]
    identity = identify(weights, described=load_model(folder).model.config)
    assert identity.names[0] == model
    assert identity.config.img_size == VARIANTS[model].img_size


def test_the_card_has_all_sections():
    card = ModelCard.load(shipped_weights()[NAME] / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.eval_results[0].metric_name == "top-1 accuracy"
    headings = ("Data", "Recipe", "Scores", "Training curve", "Confusion matrix", "Calibration", "Limits", "License")
    assert all(f"\n## {heading}" in card.text for heading in headings)


def test_every_name_of_the_weights_gives_the_same_model_in_32_bits_without_a_log_line(caplog):
    trained = load_model(NAME)
    assert trained.class_names == CIFAR
    assert {parameter.dtype for parameter in trained.model.parameters()} == {torch.float32}
    expected = trained.model(images())
    for model in (
        create_model("volo_tiny_32", pretrained=NAME),
        create_model("volo_tiny_32", pretrained=True),
        create_model(NAME, pretrained=True),
        load_model("volo_tiny_32").model,
        load_model(shipped_weights()[NAME]).model,
        Predictor(NAME).model,
    ):
        assert_close(model.eval()(images()), expected, rtol=0, atol=0)
    assert not caplog.records


def test_heads_of_as_many_other_classes_are_replaced_and_gray_is_the_sum_of_the_colors(caplog):
    tuned = create_model("volo_tiny_32", pretrained=NAME, class_names=CLOTHES, in_chans=1).state_dict()
    before = load_file(shipped_weights()[NAME] / "model.safetensors")
    for head in ("head.weight", "aux_head.weight"):
        assert tuned[head].shape == before[head].shape
        assert not torch.equal(tuned[head], before[head].float())
    assert_close(tuned["norm.weight"], before["norm.weight"].float(), rtol=0, atol=0)
    stem = "patch_embed.conv.0.weight"
    assert_close(tuned[stem], before[stem].float().sum(dim=1, keepdim=True))
    (message,) = caplog.messages
    assert message.endswith(
        "first convolution adapted from 3 to 1 channels; heads of 10 other classes replaced by fresh ones of 10"
    )


def test_heads_of_the_same_classes_are_kept(caplog):
    model = create_model("volo_tiny_32", pretrained=NAME, class_names=CIFAR)
    assert_close(model.eval()(images()), load_model(NAME).model(images()), rtol=0, atol=0)
    assert not caplog.records


def test_heads_of_classes_whose_names_differ_in_what_cannot_be_seen_are_kept(tmp_path, caplog):
    model = create_model("volo_micro_32", num_classes=2)
    names = ("cafe\u0301", "dog\u200b")
    save_model(tmp_path, model.config, model.state_dict(), class_names=names, preprocessing={"size": (32, 32)})
    again = create_model("volo_micro_32", pretrained=tmp_path, class_names=("café", "dog"))
    assert torch.equal(again.head.weight, model.head.weight)
    assert not caplog.records


def test_heads_of_a_thousand_classes_are_kept_whatever_their_names(tmp_path, caplog):
    model = create_model("volo_micro_32", num_classes=1000)
    names = tuple(f"n{number:08d}" for number in range(1000))
    save_model(tmp_path, model.config, model.state_dict(), class_names=names, preprocessing={"size": (32, 32)})
    again = create_model("volo_micro_32", pretrained=tmp_path, class_names=tuple(map(str, range(1000))))
    assert torch.equal(again.head.weight, model.head.weight)
    assert not caplog.records


def test_class_names_set_the_number_of_classes_of_fresh_weights_too():
    assert create_model("volo_micro_32", class_names=("a", "b", "c")).num_classes == 3


def test_a_misspelled_name_gives_the_nearest():
    assert weights_name("volo_tiny") == NAME
    for wrong in (lambda: load_model("volo_tiny_32.cifar"), lambda: create_model("volo_tiny_32.cifar")):
        with pytest.raises(ValueError, match=r"did you mean 'volo_tiny_32\.cifar10'"):
            wrong()
