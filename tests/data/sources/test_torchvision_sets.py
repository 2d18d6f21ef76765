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

from volo.data import DataSource, open_data, open_splits, open_validation_data
from volo.data.images import ArrayImages, FileImages
from volo.data.sources.torchvision_sets import SETS


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    """Encode an array in the format of MNIST's files."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def opened(name, root, **options):
    return open_data(name, source=DataSource(root=str(root), **options))


def test_every_row_names_a_data_set_of_torchvision():
    for name, entry in SETS.items():
        assert issubclass(getattr(datasets, entry.kind), datasets.VisionDataset), name


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_mnist_and_similar_sets(tmp_path, name, folder):
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    pixels = {"train": noise(6, 28, 28), "t10k": noise(4, 28, 28)[::-1]}
    for split, images in pixels.items():
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx(np.ascontiguousarray(images)))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx(np.arange(len(images), dtype=np.uint8)))
    train, val = opened(name, tmp_path)
    assert (train.channels, list(train.labels), list(val.labels)) == (1, [0, 1, 2, 3, 4, 5], [0, 1, 2, 3])
    assert len(train.class_names) == 10
    np.testing.assert_array_equal(np.asarray(train.read(2)), pixels["train"][2])
    np.testing.assert_array_equal(np.asarray(val.read(3)), pixels["t10k"][3])


def test_cifar_is_color_with_class_names_and_its_checksums_are_checked(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    data = noise(5, 3 * 32 * 32)
    for file in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / file).write_bytes(pickle.dumps({"data": data, "labels": [0, 1, 2, 1, 0]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["cat", "dog", "emu"]}))
    with pytest.raises(ValueError, match="cifar10 is missing or incomplete in"):  # since these are not the real files
        opened("cifar10", tmp_path)
    for lists in ("train_list", "test_list"):
        monkeypatch.setattr(datasets.CIFAR10, lists, [[file, None] for file, _ in getattr(datasets.CIFAR10, lists)])
    monkeypatch.setitem(datasets.CIFAR10.meta, "md5", None)
    train, val = opened("cifar10", tmp_path)
    assert train.class_names == val.class_names == ("cat", "dog", "emu")
    assert (len(train.labels), len(val.labels), train.channels) == (25, 5, 3)
    np.testing.assert_array_equal(np.asarray(val.read(1)), data[1].reshape(3, 32, 32).transpose(1, 2, 0))


def test_svhn_becomes_channels_last_with_digits_as_class_names(tmp_path, monkeypatch):
    pixels = noise(32, 32, 3, 10)
    for split in ("train", "test"):
        savemat(tmp_path / f"{split}_32x32.mat", {"X": pixels, "y": np.arange(1, 11).reshape(-1, 1)})
        monkeypatch.setitem(datasets.SVHN.split_list, split, [*datasets.SVHN.split_list[split][:2], None])
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


def test_food_and_eurosat_are_files_and_data_without_splits_are_split(tmp_path):
    (tmp_path / "food-101/meta").mkdir(parents=True)
    (tmp_path / "food-101/images").mkdir()
    for split in ("train", "test"):
        (tmp_path / f"food-101/meta/{split}.json").write_text(json.dumps({"pie": ["pie/1"], "ham": ["ham/2"]}))
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


def test_a_chosen_split_is_opened_without_loading_the_others(tmp_path):
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    for split in ("train", "t10k"):
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx(np.arange(4, dtype=np.uint8)))
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx(noise(4, 28, 28)))
    (raw / "train-images-idx3-ubyte").write_bytes(gzip.compress(b"not to be opened"))
    source = DataSource(root=str(tmp_path))
    assert list(open_splits("mnist", source=source)) == ["train", "test"]
    assert isinstance(open_validation_data("mnist", source=source), ArrayImages)
    with pytest.raises(ValueError, match="mnist has no split 'val'"):
        open_validation_data("mnist", split="val", source=source)


@pytest.mark.parametrize("name", SETS)
def test_a_missing_data_set_is_one_line_with_both_solutions_and_creates_nothing(tmp_path, name):
    with pytest.raises(ValueError, match=f"^{name} is missing or incomplete in {tmp_path}") as error:
        opened(name, tmp_path)
    assert "--download" in str(error.value)
    assert "--root" in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_failed_download_is_reported(tmp_path, monkeypatch):
    def fail(self):
        raise OSError("no route to host")

    monkeypatch.setattr(datasets.CIFAR10, "download", fail)
    with pytest.raises(RuntimeError, match=f"cannot download cifar10 to {tmp_path}: no route to host"):
        opened("cifar10", tmp_path, download=True)
