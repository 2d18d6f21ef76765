import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from volo.data import ArrayImages, DataSource, FileImages, with_channels
from volo.data.identity import content_keys, data_root, name_keys, names_below, pixel_keys, sampled


def keys(folder, names, root=None):
    return name_keys(names_below([folder / name for name in names], root or folder)).tolist()


def test_a_file_has_the_same_key_in_every_place_and_unicode_form(tmp_path, monkeypatch):
    names = ["cat/é.png", "dog/1.png"]
    there = keys(tmp_path / "there", names)
    assert len(set(there)) == 2
    assert keys(tmp_path / "elsewhere" / "again", names) == there
    assert keys(Path("relative"), names) == there
    assert keys(Path(), names) == there
    assert keys(tmp_path, [unicodedata.normalize("NFD", name) for name in names]) == there


def test_a_name_that_is_not_utf8_has_a_key(tmp_path):
    assert len(set(keys(tmp_path, [os.fsdecode(b"cat/\xff.png"), os.fsdecode(b"cat/\xfe.png")]))) == 2


def test_files_outside_the_folder_are_named_by_their_absolute_path(tmp_path):
    outside = tmp_path / "photos/1.png"
    assert names_below([outside], tmp_path / "tables") == [str(outside)]


@pytest.mark.parametrize(
    ("root", "base", "names"),
    [
        ("photos", "photos", ["train/1.png", "val/2.png"]),
        ("photos", ".", ["photos/train/1.png", "photos/val/2.png"]),
        ("photos", "photos/train", ["1.png", None]),
        ("photos/../photos", "link", ["train/1.png", "val/2.png"]),
        ("photos", "elsewhere", [None, None]),
        ("photos", "pho", [None, None]),
    ],
)
def test_names_below_another_folder(tmp_path, root, base, names):
    for folder in ("photos/train", "photos/val", "elsewhere", "pho"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    paths = [tmp_path / root / name for name in ("train/1.png", "val/2.png")]
    assert names_below(paths, tmp_path / root, tmp_path / base) == names


def test_images_in_memory_are_known_by_their_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4), dtype=np.uint8)
    images = ArrayImages(pixels, [0] * 5, ("a",))
    expected = pixel_keys(images)
    assert len(set(expected.tolist())) == 5
    reordered = ArrayImages(pixels[::-1], [0] * 5, ("a",))
    assert pixel_keys(with_channels(reordered, 3)).tolist() == expected[::-1].tolist()


def test_content_is_that_of_the_file_and_unreadable_files_have_none(tmp_path):
    for name, text in (("a", b"x" * 5000), ("b", b"x" * 5000), ("c", b"x" * 4999), ("d", b"x" * 2500 + b"y" * 2500)):
        (tmp_path / name).write_bytes(text)
    os.mkfifo(tmp_path / "pipe")
    found = content_keys(tmp_path / name for name in ("a", "b", "c", "d", "pipe", "gone", ""))
    assert found[0] == found[1]
    assert len(set(found[:4].tolist())) == 3
    assert found[4:].tolist() == [0, 0, 0]


def test_content_of_few_images_is_compared_for_all_and_of_many_for_some():
    assert sampled(0).tolist() == []
    assert sampled(3).tolist() == [0, 1, 2]
    assert len(sampled(10**6)) == 1000
    assert (sampled(10**6)[0], sampled(10**6)[-1]) == (0, 10**6 - 1)


def test_the_root_of_a_data_set(tmp_path):
    table = tmp_path / "photos.csv"
    table.write_text("")
    assert data_root(str(tmp_path), DataSource()) == tmp_path
    assert data_root(str(table), DataSource()) == tmp_path
    assert data_root("flowers102", DataSource(root=str(tmp_path / "sets"))) == tmp_path / "sets"


def test_some_images_of_a_set(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "1.png")
    images = FileImages([tmp_path / f"{n}.png" for n in range(4)], [0, 1, 0, 1], ("a", "b"), background="red")
    some = images.taking([3, 1])
    assert ([path.name for path in some.paths], some.labels) == (["3.png", "1.png"], [1, 1])
    assert (some.class_names, some.background) == (("a", "b"), "red")
