"""Bad files of weights: each is an error of one line, runs no code and writes nothing."""

import argparse
import io
import json
import math
import os
import pickle
import re
import struct
import tarfile
import zipfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers import of_authors, timm_from_config, timm_micro
from safetensors.torch import save_file

from volo.cli import main
from volo.models import VARIANTS, create_model, load_model
from volo.models.weights.readers.torch_pickle import read_pickled, read_tensors

NAME = "volo_micro_32"


@pytest.fixture(scope="module")
def state():
    return timm_micro().state_dict()


class RunsCode:
    """Unpickled without care, it makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


class TakesMemory:
    """Unpickled, it takes a terabyte, with a function that PyTorch's restricted unpickler allows."""

    def __reduce__(self):
        return bytearray, (1 << 40,)


class NumberOfAnySize:
    """The same by way of numpy's numbers, which trainers store: here one of two gigabytes."""

    class Kind:
        def __reduce__(self):
            return np.dtype, ("V2000000000",)

    def __reduce__(self):
        return np.float64(0).__reduce__()[0], (self.Kind(),)


def truncated(folder, state, share=0.5):
    path = folder / "a.pth"
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def archive_of(folder, state):
    """The file of an archive, and its content."""
    path = folder / "a.pth"
    torch.save(state, path)
    return path, bytearray(path.read_bytes())


def encrypted(folder, state):
    """An archive whose pickle claims to need a password: bit 0 of its flags, here and in the directory at the end."""
    path, content = archive_of(folder, state)
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    return path


def no_name(folder, state):
    """An archive with a name that is not UTF-8, though its flags say so, before the pickle."""
    path, content = archive_of(folder, state)
    place = content.index(b"data.pkl")
    content = content.replace(b"data.pkl", b"dat\xff.pkl", 1)
    content[7] |= 8
    path.write_bytes(content)
    assert content[place + 3] == 0xFF
    return path


def split_archive(folder, state):
    """One of several archives: a locator before the end of the directory counts two disks."""
    path, content = archive_of(folder, state)
    place = content.rindex(b"PK\x05\x06")
    locator = b"PK\x06\x07" + (0).to_bytes(4, "little") + place.to_bytes(8, "little") + (2).to_bytes(4, "little")
    path.write_bytes(content[:place] + locator + content[place:])
    return path


def truncated_old(folder, state):
    path = folder / "a.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def truncated_safetensors(folder, state):
    path = folder / "a.safetensors"
    save_file(state, path)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def compressed(folder, state):
    """The same archive, compressed: a bomb unpacks from little to much."""
    torch.save({**state, "zeros": torch.zeros(10_000_000)}, folder / "plain.pth")
    path = folder / "a.pth"
    with zipfile.ZipFile(folder / "plain.pth") as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    assert path.stat().st_size < 8_000_000
    (folder / "plain.pth").unlink()
    return path


def overlapping(folder, state):
    """Its directory claims a terabyte for one entry: 2**40 in a ZIP64 field."""
    path = folder / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("a/data/0", b"0" * 64)
        archive.filelist[-1].file_size = archive.filelist[-1].compress_size = 1 << 40
    return path


def petabytes(folder, state):
    """Its pickle claims a storage of 2**50 floats over 4 stored ones."""
    torch.save({"patch_embed.proj.weight": torch.zeros(4)}, folder / "plain.pth")
    path = folder / "a.pth"
    with zipfile.ZipFile(folder / "plain.pth") as plain, zipfile.ZipFile(path, "w") as archive:
        for entry in plain.infolist():
            content = plain.read(entry)
            if entry.filename.endswith("data.pkl"):
                for end in (b"t", b"\x85"):  # of the storage's description, of the tensor's shape
                    assert content.count(b"K\x04" + end) == 1
                    content = content.replace(b"K\x04" + end, b"\x8a\x07" + (1 << 50).to_bytes(7, "little") + end)
            archive.writestr(entry.filename, content)
    (folder / "plain.pth").unlink()
    return path


def expanded(folder, state):
    """One stored number that claims to be a terabyte of them."""
    path = folder / "a.pth"
    torch.save({**state, "pos_embed": torch.zeros(1).expand(1, 1 << 19, 1 << 19, 128)}, path)
    return path


def pickled(what):
    def make(folder, state):
        path = folder / "a.pth"
        torch.save({**of_authors(timm_micro()), "callback": what(folder)}, path)
        return path

    return make


def pickled_old(what):
    def make(folder, state):
        path = folder / "a.pth"
        torch.save({"callback": what(folder)}, path, _use_new_zipfile_serialization=False)
        return path

    return make


def plain_pickle(folder, state):
    path = folder / "a.pkl"
    path.write_bytes(pickle.dumps(RunsCode(folder / "ran"), protocol=2))
    return path


def lying_header(folder, state):
    path = folder / "a.safetensors"
    header = json.dumps({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    path.write_bytes(struct.pack("<Q", 1 << 60) + header + bytes(16))
    return path


def lying_offsets(folder, state):
    path = folder / "a.safetensors"
    header = json.dumps({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    return path


def resnet(folder, state):
    path = folder / "a.pth"
    torch.save(timm.create_model("resnet18", num_classes=10).state_dict(), path)
    return path


def looping(folder, state):
    path = folder / "a.pth"
    path.symlink_to(folder / "b.pth")
    (folder / "b.pth").symlink_to(path)
    return path


def written(name, content):
    def make(folder, state):
        path = folder / name
        path.write_bytes(content)
        return path

    return make


def folder_alone(folder, state):
    (folder / "empty").mkdir()
    return folder / "empty"


def pipe(folder, state):
    os.mkfifo(folder / "a.pth")
    return folder / "a.pth"


def lacking(folder, state):
    path = folder / "a.pth"
    torch.save({name: tensor for name, tensor in state.items() if not name.startswith("network.2.0.mlp")}, path)
    return path


def having_more(folder, state):
    path = folder / "a.pth"
    torch.save({**state, "network.2.0.gamma": torch.ones(3)}, path)
    return path


def misshapen(folder, state):
    path = folder / "a.pth"
    torch.save({**state, "norm.weight": torch.ones(3)}, path)
    return path


def two_models(folder, state):
    path = folder / "a.pth"
    torch.save({f"{who}.{name}": tensor for who in ("teacher", "student") for name, tensor in state.items()}, path)
    return path


def quantized(folder, state):
    path = folder / "a.pth"
    torch.save({name: tensor.to(torch.int8) for name, tensor in state.items()}, path)
    return path


BAD = [
    (truncated, r"is a damaged zip archive|is damaged|not a readable pickle"),
    (encrypted, r"is a damaged zip archive: .*encrypted"),
    (no_name, r"is a damaged zip archive: .*can't decode byte 0xff"),
    (split_archive, "is a damaged zip archive: zipfiles that span multiple disks are not supported"),
    (truncated_old, "is damaged"),
    (truncated_safetensors, "is not a valid safetensors file"),
    (compressed, r"a/data\.pkl in it is compressed|is compressed, which could fill the memory; nothing was read"),
    (overlapping, "it claims 1,099,511,.* bytes and has"),
    (petabytes, "is damaged"),
    (expanded, r"pos_embed claims [\d,]+ bytes, more than the file stores of it"),
    (pickled(lambda folder: RunsCode(folder / "ran")), r"holds posix\.mkdir, which could run code: nothing was loaded"),
    (pickled_old(lambda folder: RunsCode(folder / "ran")), r"holds posix\.mkdir, which could run code"),
    (plain_pickle, r"holds posix\.mkdir, which could run code"),
    (pickled(lambda folder: TakesMemory()), r"holds builtins\.bytearray"),
    (pickled_old(lambda folder: TakesMemory()), r"holds builtins\.bytearray"),
    (pickled(lambda folder: NumberOfAnySize()), "it holds numpy's 'V2000000000', which is not a number"),
    (pickled(lambda folder: argparse.ArgumentParser), r"holds argparse\.ArgumentParser, which could run code"),
    (lying_header, "is not a valid safetensors file"),
    (lying_offsets, "is not a valid safetensors file"),
    (
        resnet,
        r"a\.pth is not a VOLO: it has no patch_embed\.conv\.0\.weight, and looks like a ResNet "
        r"\(the first of its 122 tensors: ",
    ),
    (looping, "cannot be read: Too many levels of symbolic links"),
    (written("a.pth", b""), "is empty"),
    (written("a.pth", b"hello " * 20), "is not a file of weights: it is of an unknown format"),
    (written("a.pth", b"<!DOCTYPE html><html>not found</html>"), "it is a web page or XML"),
    (written("a.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"), "a Git LFS pointer"),
    (written("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(100)), "is a damaged HDF5 file"),
    (written("gone/../nothing.pth", b""), "cannot be read"),
    (folder_alone, r"empty is not a trained model: .*config\.json does not exist; give a run folder or a file$"),
    (pipe, "is not a regular file"),
    (
        lacking,
        r"looks like volo_micro .* but lacks network\.2\.0\.mlp\.fc1\.weight, network\.2\.0\.mlp\.fc1\.bias and 2 more",
    ),
    (having_more, r"but has unexpected network\.2\.0\.gamma"),
    (misshapen, r"but has wrong shapes for norm\.weight"),
    (two_models, "holds 2 models, 'teacher.', 'student.'; save one of them alone"),
    (quantized, r"holds torch\.int8 weights; those of a VOLO are floating point"),
]


def made(make, folder, state):
    try:
        return make(folder, state)
    except FileNotFoundError:
        return folder / "nothing.pth"


@pytest.mark.parametrize(("make", "message"), BAD, ids=[f"{make.__name__}-{i}" for i, (make, _) in enumerate(BAD)])
def test_a_bad_file_is_one_line_and_exit_code_2_and_nothing_runs_or_is_written(tmp_path, state, make, message, capsys):
    path = made(make, tmp_path, state)
    before = sorted(item.name for item in tmp_path.iterdir())
    for load in (lambda: load_model(path), lambda: create_model(NAME, pretrained=path)):
        with pytest.raises(ValueError, match=message) as error:
            load()
        assert len(str(error.value).splitlines()) == 1
        assert path.name in str(error.value)
        assert "weights_only" not in str(error.value)
    assert main(["weights", "convert", str(path), str(tmp_path / "out"), "--to", "volo"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("volo weights: ")
    assert sorted(item.name for item in tmp_path.iterdir()) == before


def tar_of_old_pytorch(folder):
    with tarfile.open(folder / "a.pt", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            entry, content = tarfile.TarInfo(name), pickle.dumps(RunsCode(folder / "ran"))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


HOSTILE = {
    "zip": lambda folder: torch.save({"a": RunsCode(folder / "ran")}, folder / "a.pt"),
    "old": lambda folder: torch.save([RunsCode(folder / "ran")], folder / "a.pt", _use_new_zipfile_serialization=False),
    "unknown class": lambda folder: torch.save({"a": deque([1])}, folder / "a.pt"),
    "plain pickle": lambda folder: (folder / "a.pt").write_bytes(pickle.dumps(RunsCode(folder / "ran"), protocol=2)),
    "protocol 0": lambda folder: (folder / "a.pt").write_bytes(pickle.dumps(RunsCode(folder / "ran"), protocol=0)),
    "numbers": lambda folder: (folder / "a.pt").write_bytes(b"\x80\x02" + bytes(range(40, 200))),
    "tar": tar_of_old_pytorch,
    "text": lambda folder: (folder / "a.pt").write_bytes(b"hello"),
    "empty": lambda folder: (folder / "a.pt").write_bytes(b""),
}


@pytest.mark.parametrize("write", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("read", [read_pickled, read_tensors])
def test_no_message_passes_on_the_advice_to_load_without_restriction(tmp_path, write, read):
    write(tmp_path)
    with pytest.raises(ValueError, match=r"^/.*/a\.pt (holds|is) ") as error:
        read(tmp_path / "a.pt")
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert not re.search("weights_only|trust|re-running|arbitrary code|file an issue", message, re.IGNORECASE)
    assert not (tmp_path / "ran").exists()


def test_threads_read_files_with_harmless_objects_at_the_same_time(tmp_path):
    torch.save({"a": torch.ones(2), "args": argparse.Namespace(lr=1.0)}, tmp_path / "a.pt")
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda _: read_pickled(tmp_path / "a.pt"), range(200)))
    assert all(content["args"].lr == 1.0 for content in read)


# Numbers that are not finite


def spoiled(state, value, *names, dtype=torch.float32):
    """The weights in a dtype, with the last number of each named tensor replaced."""
    weights = {key: tensor.clone().to(dtype) if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    for name in names:
        weights[name].view(-1)[-1] = value
    return weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused_and_named(tmp_path, state, value, dtype):
    weights = spoiled(state, value, "network.2.0.mlp.fc1.bias", dtype=dtype)
    save_file(weights, tmp_path / "a.safetensors")
    torch.save(weights, tmp_path / "a.pth")
    message = (
        r"^the weights of .* have values that are not finite in network\.2\.0\.mlp\.fc1\.bias \(1 of \d+ tensors\); "
        "download or train them again$"
    )
    with pytest.raises(ValueError, match=message):
        create_model(NAME, pretrained=weights)
    for file in ("a.safetensors", "a.pth"):
        for load in (load_model, lambda source: create_model(NAME, pretrained=source)):
            with pytest.raises(ValueError, match=message):
                load(tmp_path / file)


def test_few_of_many_bad_tensors_are_named(state):
    names = [name for name, tensor in state.items() if name.endswith(".weight")][:7]
    with pytest.raises(ValueError, match=rf"in {re.escape(', '.join(names[:5]))} and 2 more \(7 of \d+ tensors\)"):
        create_model(NAME, pretrained=spoiled(state, math.nan, *names))


def test_values_too_large_for_float32_are_refused(state):
    with pytest.raises(ValueError, match=r"not finite in norm\.bias"):
        create_model(NAME, pretrained=spoiled(state, 1e300, "norm.bias", dtype=torch.float64))


def test_large_values_whose_sum_overflows_are_loaded(state):
    weights = {**state, "norm.bias": torch.full_like(state["norm.bias"], 3e38)}
    assert torch.equal(create_model(NAME, pretrained=weights).norm.bias, weights["norm.bias"])


def test_damaged_heads_that_are_replaced_do_no_harm(state):
    model = create_model(NAME, pretrained=spoiled(state, math.nan, "head.weight", "aux_head.bias"), num_classes=3)
    assert model.head.weight.isfinite().all()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_an_unreadable_file_is_an_error(tmp_path, state):
    path = tmp_path / "a.pth"
    torch.save(state, path)
    path.chmod(0)
    root = os.geteuid() == 0  # who reads everything: another user has to try
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(ValueError, match="cannot be read: Permission denied"):
            load_model(path)
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {**{f"module.{k}": v for k, v in w.items()}, "head.bias": w["head.bias"]}, "has head.bias twice"),
        (lambda w: {**w, "_orig_mod.head.bias": w["head.bias"]}, "has head.bias twice, once under a wrapper's name"),
        (lambda w: {"model": w, "state_dict": w}, "has weights in state_dict and in model; save one of them alone"),
    ],
)
def test_two_tensors_of_the_same_name_are_an_error(state, change, message):
    with pytest.raises(ValueError, match=message):
        create_model(NAME, pretrained=change(state))


def test_a_token_head_without_a_class_head_is_left_out_which_is_logged(state, caplog):
    given = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    with pytest.raises(ValueError, match="has only a token head, the requested model 10 classes; "):
        create_model(NAME, pretrained=given)
    create_model(NAME, pretrained=given, num_classes=0)
    assert "only a token head left out, as requested" in caplog.text


def test_a_git_lfs_pointer_is_recognized_under_the_usual_file_name_too(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    with pytest.raises(ValueError, match="a Git LFS pointer instead of the weights: run git lfs pull"):
        create_model(NAME, pretrained=path)


def test_d5_weights_into_d1_are_an_error_that_names_d5(tmp_path):
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in timm_from_config(VARIANTS["volo_d5_448"]).state_dict().items()}
    # Names and shapes are all that is looked at before the error: one value for all, stored once.
    content = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match=r"more than the file stores"):
        create_model("volo_d1_224", pretrained=content)
    slim = timm_micro(num_classes=3).state_dict()
    with pytest.raises(
        ValueError,
        match=r"is volo_micro at 32x32 pixels, 3 classes \(dims 64/128, blocks 2/1/1/1\), not the requested model "
        r"\(dims \(192, 384\), .*\); create_model\('volo_micro_32', pretrained=…\) loads it$",
    ):
        create_model("volo_d1_224", pretrained=slim)


@pytest.mark.slow
def test_real_d5_weights_into_d1_are_an_error_that_names_d5(tmp_path):
    path = tmp_path / "d5.pth"
    torch.save(create_model("volo_d5_448", num_classes=0).state_dict(), path)
    with pytest.raises(
        ValueError, match=r"is volo_d5 at 448x448 pixels, .*create_model\('volo_d5_448', pretrained=…\)"
    ):
        create_model("volo_d1_224", pretrained=path)


def test_21_classes_into_the_models_own_number_are_an_error_with_a_solution(tmp_path):
    weights = timm_micro(num_classes=21).state_dict()
    with pytest.raises(
        ValueError, match="has heads of 21 classes, the requested model 10 classes; give num_classes=21 to keep"
    ):
        create_model(NAME, pretrained=weights)
    assert create_model(NAME, pretrained=weights, num_classes=21).config.num_classes == 21


def test_a_description_of_other_class_counts_is_an_error(tmp_path, state):
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "x", "label_names": ["a", "b"]}))
    with pytest.raises(ValueError, match=r"has 10 classes, but config\.json names 2"):
        load_model(tmp_path)


@cache
def saved(old: bool) -> bytes:
    """A file of ``torch.save``, the same for all examples: in the old form its length depends on addresses."""
    file = io.BytesIO()
    torch.save({"x": torch.ones(3), "epoch": 1}, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


@pytest.mark.parametrize("old", [False, True])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_with_broken_bytes_loads_or_is_one_line(tmp_path, old, data):
    """Whatever is broken, the only error is ValueError: no crash, no other exception."""
    path = tmp_path / "a.pth"
    content = bytearray(saved(old))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with pytest.raises(ValueError, match=r"a\.pth") as error:
        load_model(path)
    assert len(str(error.value).splitlines()) == 1


def test_unknown_sources_are_errors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"volo_d1_225 is not a file or folder, and no weights .* did you mean 'volo_d1_224'"
    ):
        load_model("volo_d1_225")
    with pytest.raises(ValueError, match="no weights are published as 'volo_d0_224'"):
        create_model("volo_d0_224", pretrained=True)
    with pytest.raises(ValueError, match=r"no weights are published as 'volo_d1_224\.sail_in22k'"):
        create_model("volo_d1_224.sail_in22k")
    with pytest.raises(ValueError, match="holds no tensors"):
        load_model({})
    with pytest.raises(ValueError, match=r"norm\.weight is not a plain tensor"):
        load_model({"norm.weight": torch.ones(3).to_sparse()})
    assert not list(Path().iterdir())
