"""The store of token labels: reading equals writing, records are whole, damage is reported."""

import errno
import json
import os
import pickle
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from volo.data import ImageError
from volo.data.token_labels.author_files import read_label_file, write_label_file
from volo.data.token_labels.listing import ImageManifest
from volo.data.token_labels.store import LABELED, PENDING, UNREADABLE, StoreInfo, TokenLabelStore
from volo.data.token_labels.writer import TokenLabelWriter, create_store


def listing(count):
    names = [f"class {index % 2}/bild-ü {index}.jpg" for index in range(count)]
    return ImageManifest(names, np.arange(count) + 2**33, np.arange(count, dtype=np.int32) % 2)


def info(count, *, classes=2, grid=(3, 4), top_k=2):
    return StoreInfo(
        teacher="t", preprocessing={"size": [8, 8]}, class_names=tuple(f"c{i}" for i in range(classes)), count=count,
        grid=grid, top_k=top_k, fingerprint=listing(count).fingerprint(),
    )  # fmt: skip


def random_maps(store_info, seed=0):
    rng = np.random.default_rng(seed)
    shape = (store_info.count, *store_info.grid, store_info.top_k)
    return rng.normal(size=shape).astype(np.float16), rng.integers(len(store_info.class_names), size=shape)


def full_store(path, store_info, seed=0):
    create_store(path, store_info, listing(store_info.count))
    scores, classes = random_maps(store_info, seed)
    with TokenLabelWriter(path) as writer:
        writer.write(range(store_info.count), scores, classes)
    return scores, classes


@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(1, 6), classes=st.sampled_from([2, 256, 257, 20_000, 65_537]),
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)), top_k=st.integers(1, 5),
)  # fmt: skip
def test_reading_returns_the_written_values(tmp_path_factory, count, classes, grid, top_k):
    path = tmp_path_factory.mktemp("store") / "labels"
    given_info = info(count, classes=classes, grid=grid, top_k=top_k)
    scores, indices = full_store(path, given_info)
    store = TokenLabelStore(path)
    assert store.info == given_info
    assert store.names() == listing(count).names
    np.testing.assert_array_equal(store.sizes(), listing(count).sizes)
    np.testing.assert_array_equal(store.labels(), listing(count).labels)
    assert (store.states == LABELED).all()
    for index in range(count):
        labels = store.read(index)
        np.testing.assert_array_equal(labels.scores, scores[index])
        np.testing.assert_array_equal(labels.classes, indices[index])
        assert labels.box == (0, 0, 1, 1)


def test_a_record_of_imagenet_takes_6480_bytes_and_the_file_little_more(tmp_path):
    imagenet = info(1000, classes=1000, grid=(18, 18), top_k=5)
    create_store(tmp_path / "labels", imagenet, listing(1000), reserve=False)
    assert imagenet.record_type.itemsize == 6480
    assert 6_480_000 < (tmp_path / "labels").stat().st_size < 6_580_000


def test_only_synced_images_count_as_labeled(tmp_path):
    path, given_info = tmp_path / "labels", info(4)
    create_store(path, given_info, listing(4))
    scores, classes = random_maps(given_info)
    store = TokenLabelStore(path)
    with TokenLabelWriter(path) as writer:
        writer.write([2, 0], scores[[2, 0]], classes[[2, 0]])
        writer.mark_unreadable(3)
        assert store.states.tolist() == [PENDING] * 4
        writer.sync()
        assert store.states.tolist() == [LABELED, PENDING, LABELED, UNREADABLE]
    np.testing.assert_array_equal(store.read(2).scores, scores[2])
    with pytest.raises(ImageError, match="image 1, which is not labeled yet"):
        store.read(1)
    with pytest.raises(ImageError, match="image 3, which could not be read"):
        store.read(3)


def test_after_a_failed_write_only_synced_images_count_as_labeled(tmp_path, monkeypatch):
    path, given_info = tmp_path / "labels", info(3)
    create_store(path, given_info, listing(3))
    scores, classes = random_maps(given_info)

    def full(self, offset, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write():
        with TokenLabelWriter(path) as writer:
            writer.write([0], scores[:1], classes[:1])
            writer.sync()
            monkeypatch.setattr(TokenLabelWriter, "_put", full)
            writer.write([1], scores[1:2], classes[1:2])

    with pytest.raises(OSError, match="No space left"):
        write()
    assert TokenLabelStore(path).states.tolist() == [LABELED, PENDING, PENDING]


def test_a_full_disk_is_reported_at_once_and_leaves_no_file(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(ValueError, match=r"no space for .*labels: it needs 0\.01 GB and .* GB are free"):
            create_store(tmp_path / "labels", info(2000, classes=300, grid=(18, 18), top_k=5), listing(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_many_processes_read_one_store(tmp_path):
    scores, _ = full_store(tmp_path / "labels", info(32))
    store = TokenLabelStore(tmp_path / "labels")

    class Records(torch.utils.data.Dataset):
        def __len__(self):
            return 32

        def __getitem__(self, index):
            return torch.from_numpy(store.read(index).scores)

    read = torch.cat(list(DataLoader(Records(), batch_size=4, num_workers=2)))
    torch.testing.assert_close(read, torch.from_numpy(scores))


def test_pickling_a_store_keeps_only_its_path(tmp_path):
    scores, _ = full_store(tmp_path / "labels", info(3))
    packed = pickle.dumps(TokenLabelStore(tmp_path / "labels"))
    assert len(packed) < 1000
    np.testing.assert_array_equal(pickle.loads(packed).read(1).scores, scores[1])


def test_damage_is_reported(tmp_path):
    path = tmp_path / "labels"
    full_store(path, info(5))
    whole = path.read_bytes()
    for content, reason in (
        (b"not one", "not a store of token labels"),
        (b"", "not a store of token labels"),
        (whole[:8] + b"\x07" + whole[9:], "format version 7; this volo reads 1"),
        (whole[:-1], "is truncated: it has .* of .* bytes"),
        (whole[:20] + b"?" + whole[21:], "damaged header"),
        (whole[:100], "damaged header|truncated"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=reason):
            TokenLabelStore(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sections": {}}, "the section states must have an offset and a length, not None"),
        ({"sections": [1]}, "the section states must have an offset and a length, not None"),
        ({"sections": {"states": ["0", 1]}}, r"the section states must have an offset and a length, not \['0', 1\]"),
        ({"sections": {"states": [-1, 1]}}, "the section states must have an offset"),
        ({"sections": {"states": [0, 2]}}, "the section states must have 1 bytes, not 2"),
        ({"more": 1}, "it must have the fields teacher, .* and sections"),
        ({"count": 1.5}, r"count must be the number of images, not 1\.5"),
        ({"count": 2**70}, "count must be the number of images"),
        ({"class_names": [1, 2]}, r"class_names must be a list of texts, not \(1, 2\)"),
        ({"class_names": "ab"}, "class_names must be a list of texts, not 'ab'"),
        ({"grid": True}, "grid must be two numbers of cells, not True"),
        ({"grid": [3, 4, 5]}, "grid must be two numbers of cells"),
        ({"top_k": 0}, "top_k must be a number of classes, not 0"),
        ({"teacher": {"a": [[]]}}, "teacher must be of type str"),
        ({"preprocessing": 1}, "preprocessing must be of type dict, not 1"),
    ],
)
def test_a_damaged_header_is_reported(tmp_path, changes, message):
    path = tmp_path / "labels"
    full_store(path, info(1))
    whole = path.read_bytes()
    length = int.from_bytes(whole[12:16], "little")
    text = json.dumps({**json.loads(whole[16 : 16 + length]), **changes}).encode()
    path.write_bytes(whole[:12] + len(text).to_bytes(4, "little") + text + whole[16 + length :])
    with pytest.raises(ValueError, match=rf"labels has a damaged header \({message}.*\); label the images again"):
        TokenLabelStore(path)


def test_a_header_that_claims_gigabytes_takes_no_memory(tmp_path):
    path = tmp_path / "labels"
    full_store(path, info(1))
    whole = path.read_bytes()
    path.write_bytes(whole[:12] + b"\xff\xff\xff\xff" + whole[16:])
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, before[1]))
    try:
        with pytest.raises(ValueError, match="labels has a damaged header"):
            TokenLabelStore(path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_more_names_than_images_are_damage(tmp_path):
    path = tmp_path / "labels"
    full_store(path, info(2))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"bild", b"b\0ld"))
    with pytest.raises(ValueError, match="labels is damaged: it has 4 names of 2 images; label the images again"):
        TokenLabelStore(path).names()


@pytest.mark.parametrize(("part", "value"), [("classes", 2), ("scores", np.nan), ("scores", np.inf)])
def test_labels_of_no_class_or_without_a_score_are_damage(tmp_path, part, value):
    path, given_info = tmp_path / "labels", info(2)
    create_store(path, given_info, listing(2))
    scores, classes = random_maps(given_info)
    {"scores": scores, "classes": classes}[part][1, 0, 0, 0] = value
    with TokenLabelWriter(path) as writer:
        writer.write(range(2), scores, classes)
    store = TokenLabelStore(path)
    np.testing.assert_array_equal(store.read(0).scores, scores[0])
    with pytest.raises(ImageError, match="labels has damaged token labels of image 1; label the images again"):
        store.read(1)


def test_the_fingerprint_depends_on_names_sizes_and_labels():
    one = listing(3)
    others = [
        replace(one, names=[*one.names[:2], "x"]),
        replace(one, sizes=one.sizes + 1),
        replace(one, labels=1 - one.labels),
    ]
    assert len({each.fingerprint() for each in (one, *others)}) == 4
    assert one.fingerprint() == listing(3).fingerprint()


def test_the_authors_files_are_read_and_written(tmp_path):
    """(2, k, h, w): values first, then indices."""
    values = torch.stack([torch.arange(24.0).reshape(2, 3, 4), torch.arange(24).reshape(2, 3, 4).flip(0)]).half()
    path = tmp_path / "n01" / "a.pt"
    path.parent.mkdir()
    torch.save(values, path)
    labels = read_label_file(path, 24)
    assert labels.scores.shape == (3, 4, 2)
    assert labels.scores[1, 2].tolist() == values[0, :, 1, 2].tolist()
    assert labels.classes[1, 2].tolist() == values[1, :, 1, 2].tolist()
    write_label_file(tmp_path / "n02" / "b.pt", labels)
    again = torch.load(tmp_path / "n02" / "b.pt", weights_only=True)
    assert again.dtype == torch.float16
    torch.testing.assert_close(again, values)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (torch.zeros(3, 5, 2, 2).half(), r"must be \(2, k, h, w\) float16, not \(3, 5, 2, 2\)"),
        ({"a": 1}, "not dict"),
        (torch.full((2, 1, 2, 2), 9.0).half(), "classes must be in 0–4"),
        (torch.full((2, 1, 2, 2), torch.nan).half(), "be finite"),
        (Evil(), r"cannot read the token labels: .*a\.pt holds posix\.mkdir, which could run code"),
        (
            torch.zeros(1).half().expand(2, 9, 1000, 1000),
            "its tensor claims 36,000,000 bytes, more than the file stores",
        ),
    ],
)
def test_a_file_that_is_not_a_label_map_is_refused_and_never_executed(tmp_path, monkeypatch, content, reason):
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ImageError, match=reason):
        read_label_file(tmp_path / "a.pt", 5)
    assert not (tmp_path / "pwned").exists()


def test_a_missing_or_broken_label_file_is_reported(tmp_path):
    (tmp_path / "b.pt").write_bytes(b"PK broken")
    for name in ("a.pt", "b.pt"):
        with pytest.raises(ImageError, match=f"^cannot read the token labels: .*{name}[^\n]*$"):
            read_label_file(tmp_path / name, 5)
