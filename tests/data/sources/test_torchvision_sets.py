"""torchvision's data sets, from files in its own layouts; nothing is downloaded."""

import gzip
import json
import pickle
import struct

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from volo.data import DataSource, open_data, open_parts, open_validation_data
from volo.data.images import ArrayImages, FileImages
from volo.data.sources.torchvision_sets import SETS


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    """The format of MNIST's files."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def opened(name, root, **options):
    return open_data(name, source=DataSource(root=str(root), **options))


def test_every_row_names_a_data_set_of_torchvision():
    for name, entry in SETS.items():
        assert issubclass(getattr(datasets, entry.kind), datasets.VisionDataset), name


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_mnist_and_its_kin(tmp_path, name, folder):
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    pixels = {"train": noise(6, 28, 28), "t10k": noise(4, 28, 28)[::-1]}
    for part, images in pixels.items():
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(np.ascontiguousarray(images)))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(len(images), dtype=np.uint8)))
    train, val = opened(name, tmp_path)
    assert (train.channels, list(train.labels), list(val.labels)) == (1, [0, 1, 2, 3, 4, 5], [0, 1, 2, 3])
    assert len(train.class_names) == 10
    np.testing.assert_array_equal(np.asarray(train.read(2)), pixels["train"][2])
    np.testing.assert_array_equal(np.asarray(val.read(3)), pixels["t10k"][3])


def test_cifar_is_color_with_class_names_and_heeds_torchvisions_checksums(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    data = noise(5, 3 * 32 * 32)
    for file in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / file).write_bytes(pickle.dumps({"data": data, "labels": [0, 1, 2, 1, 0]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["cat", "dog", "emu"]}))
    with pytest.raises(ValueError, match="cifar10 is not, or not whole, in"):  # since these are not the real files
        opened("cifar10", tmp_path)
    for lists in ("train_list", "test_list"):
        monkeypatch.setattr(datasets.CIFAR10, lists, [[file, None] for file, _ in getattr(datasets.CIFAR10, lists)])
    monkeypatch.setitem(datasets.CIFAR10.meta, "md5", None)
    train, val = opened("cifar10", tmp_path)
    assert train.class_names == val.class_names == ("cat", "dog", "emu")
    assert (len(train.labels), len(val.labels), train.channels) == (25, 5, 3)
    np.testing.assert_array_equal(np.asarray(val.read(1)), data[1].reshape(3, 32, 32).transpose(1, 2, 0))


def test_svhn_is_turned_to_channels_last_and_its_digits_are_the_names(tmp_path, monkeypatch):
    pixels = noise(32, 32, 3, 10)
    for part in ("train", "test"):
        savemat(tmp_path / f"{part}_32x32.mat", {"X": pixels, "y": np.arange(1, 11).reshape(-1, 1)})
        monkeypatch.setitem(datasets.SVHN.split_list, part, [*datasets.SVHN.split_list[part][:2], None])
    train, _ = opened("svhn", tmp_path)
    assert train.class_names == tuple("0123456789")
    assert list(train.labels) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    np.testing.assert_array_equal(np.asarray(train.read(4)), pixels[..., 4])


def test_pets_are_read_from_their_files(tmp_path):
    base = tmp_path / "oxford-iiit-pet"
    for folder in ("images", "annotations"):
        (base / folder).mkdir(parents=True)
    rows = ["Abyssinian_1 1 1 1", "great_pyrenees_7 2 2 1"]
    for file in ("trainval", "test"):
        (base / f"annotations/{file}.txt").write_text("\n".join(rows) + "\n")
    pixels = noise(8, 9, 4)
    for row in rows:
        Image.fromarray(pixels).save(base / "images" / f"{row.split()[0]}.jpg", "PNG")
    train, val = opened("oxford-pets", tmp_path)
    assert isinstance(train, FileImages)
    assert train.class_names == val.class_names == ("Abyssinian", "Great Pyrenees")
    assert train.paths[1] == base / "images/great_pyrenees_7.jpg"
    assert (train.read(0).mode, train.read(0).size) == ("RGB", (9, 8))


def test_food_and_eurosat_are_files_too_and_what_has_no_parts_is_split(tmp_path):
    (tmp_path / "food-101/meta").mkdir(parents=True)
    (tmp_path / "food-101/images").mkdir()
    for part in ("train", "test"):
        (tmp_path / f"food-101/meta/{part}.json").write_text(json.dumps({"pie": ["pie/1"], "ham": ["ham/2"]}))
    train, _ = opened("food101", tmp_path)
    assert dict(zip(train.labels, train.paths, strict=True))[1] == tmp_path / "food-101/images/pie/1.jpg"
    assert train.class_names == ("ham", "pie")
    for name in ("Forest/1.jpg", "Forest/2.jpg", "River/1.jpg", "River/2.jpg"):
        path = tmp_path / "eurosat/2750" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    train, val = opened("eurosat", tmp_path)
    assert train.class_names == val.class_names == ("Forest", "River")
    assert len(train.labels) == len(val.labels) == 2


def test_a_part_can_be_asked_for_and_the_others_are_not_loaded(tmp_path):
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(4, dtype=np.uint8)))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(noise(4, 28, 28)))
    (raw / "train-images-idx3-ubyte").write_bytes(gzip.compress(b"not to be opened"))
    source = DataSource(root=str(tmp_path))
    assert list(open_parts("mnist", source=source)) == ["train", "test"]
    assert isinstance(open_validation_data("mnist", source=source), ArrayImages)
    with pytest.raises(ValueError, match="mnist has no part 'val'"):
        open_validation_data("mnist", part="val", source=source)


@pytest.mark.parametrize("name", SETS)
def test_what_is_not_there_is_one_line_with_both_ways_on_and_nothing_is_made(tmp_path, name):
    with pytest.raises(ValueError, match=f"^{name} is not, or not whole, in {tmp_path}") as error:
        opened(name, tmp_path)
    assert "--download" in str(error.value)
    assert "--root" in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_download_that_fails_is_a_failure_that_says_so(tmp_path, monkeypatch):
    def fail(self):
        raise OSError("no route to host")

    monkeypatch.setattr(datasets.CIFAR10, "download", fail)
    with pytest.raises(RuntimeError, match=f"cannot download cifar10 to {tmp_path}: no route to host"):
        opened("cifar10", tmp_path, download=True)
