"""Saving and loading of a trained model: the stored files, the errors for damaged files, and no partial files."""

import json
import os
import re
from dataclasses import asdict, replace

import pytest
import torch
from torch.testing import assert_close

from volo.files import atomic_write
from volo.models import create_model, load_model, save_model
from volo.models.weights import model_folder as weights_module
from volo.models.weights.model_folder import MODEL_CONFIG_FILE, WEIGHTS_FILE, read_description

NAMES = ("ant", "Ohrwurm", "蜂")
PREPROCESSING = {"size": [32, 32], "crop_pct": 0.9, "interpolation": "bicubic", "mean": [0.5], "std": [0.25]}


def micro(seed: int = 0):
    """Return a small model whose tensors all differ from those of a fresh one."""
    torch.manual_seed(seed)
    model = create_model("volo_micro_32", num_classes=3, in_chans=1, drop_path_rate=0.1).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor), alpha=0.1)
    return model


def save(folder, model, **changes):
    settings = {"class_names": NAMES, "preprocessing": PREPROCESSING, **changes}
    save_model(folder, model.config, model.state_dict(), **settings)


@pytest.fixture(scope="module")
def model():
    return micro()


@pytest.fixture
def folder(tmp_path, model):
    save(tmp_path, model)
    return tmp_path


def describe(folder, **changes) -> None:
    """Change the description in ``folder``; None removes a key."""
    path = folder / MODEL_CONFIG_FILE
    description = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({key: value for key, value in description.items() if value is not None}))


def error_of(folder, file: str) -> str:
    """Return the error message of loading, one line that begins with the file."""
    with pytest.raises(ValueError, match=f"^{re.escape(str(folder / file))} ") as error:
        load_model(folder)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    return message


# There and back


def test_a_loaded_model_equals_the_saved_one_bit_for_bit(folder, model):
    loaded = load_model(folder)
    assert loaded.class_names == NAMES
    assert loaded.preprocessing == PREPROCESSING
    assert loaded.model.config == model.config
    assert loaded.model.state_dict().keys() == model.state_dict().keys()
    for name, tensor in loaded.model.state_dict().items():
        assert tensor.dtype == model.state_dict()[name].dtype
        assert torch.equal(tensor, model.state_dict()[name]), name


@pytest.mark.parametrize(
    "settings",
    [
        {"img_size": (36, 50)},  # no whole number of tokens
        {"mlp_ratio": 2.7},  # no whole number of hidden units
        {"heads": (1, 8)},
        {"dims": (64, 208), "heads": (2, 13)},
        {"outlook_kernel": 1},
        {"outlook_stride": 3},
        {"class_depth": 1},
    ],
)
def test_a_model_of_any_settings_is_loaded_as_saved(tmp_path, settings):
    model = create_model("volo_micro_32", num_classes=3, **settings).eval()
    save(tmp_path, model)
    images = torch.randn(2, 3, 36, 50)
    for loaded in (
        load_model(tmp_path).model,
        create_model("volo_micro_32", pretrained=tmp_path, num_classes=3, **settings),
    ):
        assert loaded.config == model.config
        assert_close(loaded.eval()(images), model(images), rtol=0, atol=0)


@pytest.mark.parametrize("settings", [{"heads": (2, 8)}, {"outlook_stride": 1}])
def test_the_description_determines_the_settings_that_no_shape_shows(tmp_path, settings):
    model = create_model("volo_micro_32", num_classes=3, **settings)
    save(tmp_path, model)
    with pytest.raises(ValueError, match=r"is a VOLO of a custom size .*, not the requested model \((heads|outlook)"):
        create_model("volo_micro_32", num_classes=3, pretrained=tmp_path)


def test_a_loaded_model_is_in_evaluation_mode_and_gives_the_same_logits(folder, model):
    loaded = load_model(folder).model
    images = torch.randn(2, 1, 32, 32)
    assert not any(module.training for module in loaded.modules())
    assert_close(loaded(images), model(images), rtol=0, atol=0)


def test_an_image_size_of_partial_tokens_is_kept(tmp_path):
    odd = create_model("volo_micro_32", num_classes=3, img_size=(31, 45))
    save(tmp_path, odd)
    assert load_model(tmp_path).model.config.img_size == (31, 45)


def test_the_folder_holds_two_files_and_the_description_is_readable(folder, model):
    assert sorted(path.name for path in folder.iterdir()) == [MODEL_CONFIG_FILE, WEIGHTS_FILE]
    description = json.loads((folder / MODEL_CONFIG_FILE).read_text(encoding="utf-8"))
    assert description["format_version"] == 1
    assert description["class_names"] == list(NAMES)
    assert description["architecture"]["dims"] == list(model.config.dims)


def test_the_source_may_be_the_folder_or_its_weights_as_path_or_text(folder):
    for path in (folder / WEIGHTS_FILE, str(folder), str(folder / WEIGHTS_FILE)):
        assert load_model(path).class_names == NAMES


def test_weights_in_another_layout_are_stored_alike(tmp_path, model):
    turned = {
        name: tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        for name, tensor in model.state_dict().items()
    }
    save_model(tmp_path, model.config, turned, class_names=NAMES, preprocessing=PREPROCESSING)
    for name, tensor in load_model(tmp_path).model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


# What is missing or damaged


def test_a_folder_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"/gone cannot be read: No such file or directory$"):
        load_model(tmp_path / "gone")


@pytest.mark.parametrize("file", [MODEL_CONFIG_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(ValueError, match=f"is not a trained model: {re.escape(str(folder / file))} does not exist"):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b'{"format_version": 1,', b"hello", b"[]", b"null", b"{}", b"\xff\xfe\x00"])
def test_an_invalid_description_is_an_error(folder, content):
    (folder / MODEL_CONFIG_FILE).write_bytes(content)
    assert "is not a description of a volo model: " in error_of(folder, MODEL_CONFIG_FILE)


@pytest.mark.parametrize("version", [0, 2, 99, "1"])
def test_another_version_asks_for_an_upgrade(folder, version):
    describe(folder, format_version=version)
    message = error_of(folder, MODEL_CONFIG_FILE)
    assert f"has format version {version!r}; this volo reads version 1; upgrade volo" in message


@pytest.mark.parametrize("key", ["architecture", "class_names", "preprocessing"])
def test_a_description_that_lacks_a_part_is_an_error(folder, key):
    describe(folder, **{key: None})
    assert f"does not describe a model: '{key}'" in error_of(folder, MODEL_CONFIG_FILE)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dims": [64]}, "dims must be 2 positive integers"),
        ({"dims": 64}, "64"),
        ({"depth": [1, 1, 1, 1]}, "unknown model argument 'depth'; did you mean 'depths'"),
        ({"patch_size": 3}, "patch_size must be even"),
        ({"depths": [10**7, 1, 1, 1]}, "depths must be 4 positive integers up to 100, not (10000000, 1, 1, 1)"),
        ({"depths": [1, 1, 1, 10**9]}, "depths must be 4 positive integers up to 100, not (1, 1, 1, 1000000000)"),
        ({"class_depth": 10**8}, "class_depth must be a positive integer up to 100, not 100000000"),
        ({"dims": [10**9, 10**9]}, "dims must be 2 positive integers up to 65,536"),
        ({"heads": [True, 2]}, "heads must be 2 positive integers up to 1,024, not (True, 2)"),
        ({"img_size": [10**6, 32]}, "img_size must be 2 positive integers up to 16,384"),
        ({"img_size": [32, float("inf")]}, "img_size must be 2 positive integers up to 16,384, not (32, inf)"),
        ({"stem_width": 10**6}, "stem_width must be a positive integer up to 16,384"),
        ({"in_chans": 10**6}, "in_chans must be a positive integer up to 1,024"),
        ({"patch_size": 10**6}, "patch_size must be a positive integer up to 1,024"),
        ({"outlook_kernel": 999}, "outlook_kernel must be a positive integer up to 31"),
        ({"outlook_stride": 10**9}, "outlook_stride must be a positive integer up to 64"),
        ({"num_classes": 10**12}, "num_classes must be an integer from 0 to 1,000,000, not 1000000000000"),
        ({"mlp_ratio": 1e9}, "mlp_ratio must be a positive number up to 64, not 1000000000.0"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio must be a positive number up to 64, not nan"),
        ({"init_std": 10**300}, "init_std must be None or a positive number up to 10, not 1000000"),
        ({"drop_path_rate": float("nan")}, "drop_path_rate must lie in [0, 1), not nan"),
        ({"drop_path_outlookers": 1}, "drop_path_outlookers must be True or False, not 1"),
        ({"x" * 10**6: 1}, "unknown model argument 'xxxxxxx"),
    ],
)
def test_an_impossible_architecture_is_an_error_before_anything_is_built(folder, model, changes, reason, monkeypatch):
    monkeypatch.setattr("volo.models.weights.identify.VOLO", None)
    describe(folder, architecture={**asdict(model.config), **changes})
    message = error_of(folder, MODEL_CONFIG_FILE)
    assert "does not describe a model: " in message
    assert reason in message
    assert len(message) < 1000


def test_the_largest_architecture_is_compared_with_the_weights_without_its_memory(folder, model):
    largest = {"dims": [65536, 65536], "heads": [1024, 1024], "stem_width": 16384, "mlp_ratio": 64.0}
    describe(folder, architecture={**asdict(model.config), **largest, "depths": [100] * 4, "class_depth": 100})
    assert "does not fit the architecture in config.json: it lacks " in error_of(folder, WEIGHTS_FILE)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": []}, "the architecture must be settings by name, not []"),
        ({"architecture": 7}, "the architecture must be settings by name, not 7"),
        ({"preprocessing": [1]}, "preprocessing must be settings by name, not [1]"),
        ({"preprocessing": {"size": [32, float("inf")]}}, "size must be a height and a width of 1 to 16,384 pixels"),
        ({"preprocessing": {"size": [32, 32], "mean": [0.5, None]}}, "mean must be a number from -1e+06 to 1e+06"),
        ({"preprocessing": {"size": [32, 32], "mean": [float("nan")]}}, "mean must be a number from -1e+06 to 1e+06"),
        ({"preprocessing": {"size": [32, 32], "mean": [1e308]}}, "mean must be a number from -1e+06 to 1e+06"),
        ({"preprocessing": {"size": [32, 32], "std": [1e-320]}}, "std must be a number from 1e-06 to 1e+06"),
        ({"preprocessing": {"size": [32, 32], "std": [0.0]}}, "std must be a number from 1e-06 to 1e+06"),
        ({"preprocessing": {"size": [32, 32], "crop_pct": 1e-9}}, "crop_pct must be a number from 0.1 to 10"),
        ({"class_names": ["a", "b", 3]}, "class_names must be a list of texts, not ['a', 'b', 3]"),
        ({"class_names": [["a"], "b", "c"]}, "class_names must be a list of texts, not [['a'], 'b', 'c']"),
        ({"class_names": {"a": 1}}, "class_names must be a list of texts, not {'a': 1}"),
        ({"class_names": ["a", "b", "c" * 10**7]}, "the name of class 2 has 10,000,000 characters; 1,000 are allowed"),
        ({"class_names": ["a", "b", "\udcff"]}, r"the name of class 2, '\udcff', is not valid Unicode text; rename it"),
        ({"task": ["segmentation"]}, "its task is ['segmentation']"),
        ({"task": "segmentation", "segmentation": [[1, 2]]}, "segmentation must be settings by name, not [[1, 2]]"),
    ],
)
def test_a_description_of_other_types_is_one_line(folder, changes, reason):
    describe(folder, **changes)
    message = error_of(folder, MODEL_CONFIG_FILE)
    assert f"does not describe a model: {reason}" in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, '{"format_version": 1, "x": ' + "[" * 900 + "]" * 900]
)
def test_a_deeply_nested_description_is_an_error(folder, text):
    (folder / MODEL_CONFIG_FILE).write_text(text)
    assert "is not a description of a volo model: " in error_of(folder, MODEL_CONFIG_FILE)


def test_a_description_of_a_hundred_megabytes_is_not_read(folder):
    with (folder / MODEL_CONFIG_FILE).open("wb") as file:
        file.truncate(100 * 2**20)
    assert error_of(folder, MODEL_CONFIG_FILE).endswith("it is larger than 64 MiB")


def test_control_characters_in_class_names_are_kept(folder):
    names = ["cat\x1b]0;title\x07", "two\nlines", "\u202egnp.exe"]
    describe(folder, class_names=names)
    assert load_model(folder).class_names == tuple(names)


TIMM = {
    "architecture": "volo_d1_224",
    "pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 0.9},
    "label_names": ["ant", "bee"],
}


def test_timms_description_is_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**TIMM, "label_names": None, "id2label": {"1": 7, "0": "ant"}}))
    description = read_description(tmp_path / "config.json")
    assert description.writer == "timm"
    assert description.class_names == ("ant", "7")
    assert description.preprocessing == {"crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.5] * 3, "size": [32, 32]}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pretrained_cfg": [1]}, "pretrained_cfg must be settings by name, not [1]"),
        ({"pretrained_cfg": {"input_size": 3}}, "input_size must be channels, height and width, not 3"),
        ({"pretrained_cfg": {"input_size": [3, 32]}}, "input_size must be channels, height and width, not [3, 32]"),
        ({"pretrained_cfg": {"input_size": [3, 1e9, 32]}}, "size must be a height and a width of 1 to 16,384"),
        ({"pretrained_cfg": {"mean": [float("nan")] * 3}}, "mean must be a number from"),
        ({"pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5]}}, "mean and std must have a number for each channel"),
        ({"pretrained_cfg": {"crop_pct": None}}, "crop_pct must be a number from 0.1 to 10, not None"),
        ({"label_names": "cats"}, "label_names must be a list of texts, not 'cats'"),
        ({"label_names": [["ant"], "bee"]}, "class_names must be a list of texts, not [['ant'], 'bee']"),
        ({"label_names": ["\ud800", "bee"]}, r"the name of class 0, '\ud800', is not valid Unicode text"),
        ({"label_names": None, "id2label": {"zero": "ant"}}, "invalid literal for int"),
        ({"label_names": None, "id2label": {"0": {}}}, "class_names must be a list of texts, not [{}]"),
    ],
)
def test_timms_description_of_other_types_is_one_line(tmp_path, changes, reason):
    (tmp_path / "config.json").write_text(json.dumps({**TIMM, **changes}))
    with pytest.raises(ValueError, match=r"config\.json does not describe a model: ") as error:
        read_description(tmp_path / "config.json")
    assert reason in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_names_that_no_file_can_hold_are_an_error_and_leave_the_old_model(folder, model):
    before = contents(folder)
    with pytest.raises(ValueError, match=r"the name of class 1, '\\ud800', is not valid Unicode text; rename it"):
        save(folder, model, class_names=("ant", "\ud800", "cat"))
    assert contents(folder) == before


def test_an_empty_weights_file_is_an_error(folder):
    (folder / WEIGHTS_FILE).write_bytes(b"")
    assert error_of(folder, WEIGHTS_FILE).endswith("is empty")


@pytest.mark.parametrize("content", [b"hello", b"no safetensors at all\n" * 100])
def test_a_file_that_is_not_safetensors_is_an_error(folder, content):
    (folder / WEIGHTS_FILE).write_bytes(content)
    assert "is not a valid safetensors file: " in error_of(folder, WEIGHTS_FILE)


@pytest.mark.parametrize("share", [0.0001, 0.5, 0.999])
def test_a_truncated_weights_file_is_an_error(folder, share):
    data = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(data[: max(1, int(share * len(data)))])
    assert "is not a valid safetensors file: " in error_of(folder, WEIGHTS_FILE)


def test_a_pickled_file_is_never_loaded(folder, model):
    torch.save(model.state_dict(), folder / WEIGHTS_FILE)
    assert "is not a valid safetensors file: " in error_of(folder, WEIGHTS_FILE)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"num_classes": 4}, "has wrong shapes for aux_head.bias"),
        ({"in_chans": 3}, "has wrong shapes for patch_embed.conv.0.weight"),
        ({"depths": (2, 1, 1, 2)}, "lacks network.4.1."),
        ({"depths": (1, 1, 1, 1)}, "has unexpected network.0.1."),
        ({"num_classes": 0}, "has unexpected aux_head.bias"),
    ],
)
def test_weights_of_another_architecture_are_an_error(folder, model, changes, problem):
    config = replace(model.config, **changes)
    describe(folder, architecture=asdict(config), class_names=[str(number) for number in range(config.num_classes)])
    message = error_of(folder, WEIGHTS_FILE)
    assert f"does not fit the architecture in config.json: it {problem}" in message
    assert message.endswith(
        "its shapes are those of volo_micro at 32x32 pixels, 3 classes (dims 64/128, blocks 2/1/1/1)"
    )


@pytest.mark.parametrize("names", [["ant", "bee"], ["ant", "bee", "cat", "dog"], "abc"])
def test_class_names_that_do_not_fit_the_outputs_are_an_error(folder, names):
    describe(folder, class_names=names)
    error_of(folder, MODEL_CONFIG_FILE)


# Nothing half-written


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_saving_again_replaces_the_model(folder):
    other = micro(seed=1)
    save(folder, other, class_names=("x", "y", "z"))
    loaded = load_model(folder)
    assert loaded.class_names == ("x", "y", "z")
    assert torch.equal(loaded.model.head.weight, other.head.weight)
    assert len(contents(folder)) == 2


def test_a_failure_while_weights_are_written_leaves_the_old_model(folder, monkeypatch):
    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("disk full")

    before = contents(folder)
    monkeypatch.setattr(weights_module, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save(folder, micro(seed=1))
    assert contents(folder) == before


def test_a_failure_while_the_first_model_is_written_leaves_nothing(tmp_path, model, monkeypatch):
    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(weights_module, "save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, model)
    assert contents(tmp_path) == {}


def test_a_description_that_cannot_be_stored_leaves_the_old_model(folder):
    before = contents(folder)
    with pytest.raises(TypeError, match="JSON"):
        save(folder, micro(seed=1), preprocessing={"size": object()})
    assert contents(folder) == before


def test_a_file_is_replaced_once_all_is_written(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert path.read_text() == "old"
    assert contents(tmp_path) == {"file.txt": b"new"}


def test_an_exception_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half():
        with atomic_write(path) as temporary:
            temporary.write_text("ne")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_half()
    assert contents(tmp_path) == {"file.txt": b"old"}


def test_two_writers_do_not_share_a_temporary(tmp_path):
    with atomic_write(tmp_path / "file.txt") as first, atomic_write(tmp_path / "file.txt") as second:
        assert first != second


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0o002, 0o664)])
def test_files_follow_the_umask(tmp_path, model, umask, mode):
    before = os.umask(umask)
    try:
        save(tmp_path, model)
        assert os.umask(umask) == umask  # and it is left as it was
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {mode}
