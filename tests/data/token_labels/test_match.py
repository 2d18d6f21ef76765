"""Matching token labels with images; reading and converting the authors' files."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from volo.data import (
    AugmentConfig,
    EpochSampler,
    FileImages,
    ImageError,
    Preprocessing,
    TrainImages,
    TrainTransform,
    open_data,
    open_token_labels,
    open_training_data,
    train_loader,
)
from volo.data.classification.label_map import LabelMap
from volo.data.token_labels.author_files import write_label_file
from volo.data.token_labels.convert import folder_to_store, store_to_folder
from volo.data.token_labels.listing import list_images
from volo.data.token_labels.match import check_store
from volo.data.token_labels.store import StoreInfo, TokenLabelStore
from volo.data.token_labels.writer import TokenLabelWriter, create_store


@pytest.fixture
def photos(tmp_path):
    """Three classes of four images, no val folder."""
    return make_photos(tmp_path / "photos", 4)


def make_photos(root, count):
    for gray, name in enumerate(("blue", "green", "red")):
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("L", (40, 36), 40 * gray + number).convert("RGB").save(root / name / f"{number:02d}.png")
    return root


def make_store(path, images, data, *, unreadable=(), pending=()):
    """Write a store in which all scores of an image are its index, and all classes are 0 and 1."""
    listing = list_images(images, str(data))
    count = len(listing.names)
    info = StoreInfo(
        teacher="t", preprocessing={}, class_names=images.class_names, count=count, grid=(2, 3), top_k=2,
        fingerprint=listing.fingerprint(),
    )  # fmt: skip
    create_store(path, info, listing)
    with TokenLabelWriter(path) as writer:
        for index in range(count):
            if index in unreadable:
                writer.mark_unreadable(index)
            elif index not in pending:
                classes = np.broadcast_to([0, 1], (1, 2, 3, 2))
                writer.write([index], np.full((1, 2, 3, 2), index, np.float16), classes)
    return path


def test_the_labels_of_a_split_are_found_by_name(photos, tmp_path):
    store = make_store(tmp_path / "labels", open_training_data(str(photos)), photos)
    train, val = open_data(str(photos), val_fraction=0.25, seed=1)
    names = TokenLabelStore(store).names()
    for images in (train, val):
        labels = open_token_labels(str(store), images, str(photos))
        for index, path in enumerate(images.paths):
            assert names[int(labels.read(index).scores[0, 0, 0])] == str(path.relative_to(photos))


def test_a_data_set_that_was_moved_keeps_its_labels(photos, tmp_path):
    store = make_store(tmp_path / "labels", open_training_data(str(photos)), photos)
    moved = shutil.move(photos, tmp_path / "elsewhere")
    open_token_labels(str(store), open_training_data(str(moved)), str(moved))


def test_names_do_not_depend_on_the_working_directory(photos, tmp_path, monkeypatch):
    images = open_training_data(str(photos))
    expected = list_images(images, str(photos)).names
    assert expected[0] == "blue/00.png"
    monkeypatch.chdir(tmp_path)
    assert list_images(open_training_data("photos"), "photos").names == expected
    # A table lies beside the folder; a data set that is named by a word has no folder of that name.
    (tmp_path / "table.csv").touch()
    assert list_images(images, str(tmp_path / "table.csv")).names == [f"photos/{name}" for name in expected]
    assert list_images(images, "flowers102").names == expected


def test_classes_of_an_older_store_may_differ_in_what_cannot_be_seen(photos, tmp_path):
    images = open_training_data(str(photos))
    older = replace(images, class_names=tuple(f"{name}\u200b" for name in images.class_names))
    store = make_store(tmp_path / "labels", older, photos)
    assert check_store(TokenLabelStore(store), images, str(photos))[0] == []


def test_changes_of_the_data_are_reported(photos, tmp_path):
    images = open_training_data(str(photos))
    store = make_store(tmp_path / "labels", images, photos, pending=(2,))
    Image.new("RGB", (99, 99)).save(photos / "blue" / "01.png")
    shutil.copy(photos / "red" / "00.png", photos / "red" / "new.png")
    (photos / "green" / "03.png").unlink()
    problems, states = check_store(TokenLabelStore(store), open_training_data(str(photos)), str(photos))
    assert problems == [
        "1 images are not in the store: red/new.png",
        "1 images are of another file size than when they were labeled: blue/01.png",
        "1 images are not labeled yet (resume with volo label): blue/02.png",
        "1 images are in the store but not in the data: green/03.png",
    ]
    assert states == {"labeled": 11, "cannot be read": 0, "not labeled yet": 1}
    with pytest.raises(ValueError, match=r"does not fit .*: 1 images are not in the store: red/new.png; .*blue/01.png"):
        open_token_labels(str(store), open_training_data(str(photos)), str(photos))


def test_labels_of_other_classes_are_refused(photos, tmp_path):
    images = open_training_data(str(photos))
    store = make_store(tmp_path / "labels", images, photos)
    other = FileImages(images.paths, images.labels, ("blue", "lime", "red"))
    with pytest.raises(ValueError, match=r"class 1 is 'green' in the store and 'lime' in the data"):
        open_token_labels(str(store), other, str(photos))
    more = FileImages(images.paths, images.labels, (*images.class_names, "yellow"))
    with pytest.raises(ValueError, match="it has 3 classes, the data have 4"):
        open_token_labels(str(store), more, str(photos))
    swapped = FileImages(images.paths, [2 - label for label in images.labels], images.class_names)
    with pytest.raises(ValueError, match=r"8 images are of another class than when they were labeled: blue/00.png"):
        open_token_labels(str(store), swapped, str(photos))


def test_labels_of_another_data_set_are_refused(photos, tmp_path):
    store = make_store(tmp_path / "labels", open_training_data(str(photos)), photos)
    other = make_photos(tmp_path / "other", 6)
    with pytest.raises(ValueError, match=r"6 images are not in the store: blue/04.png, blue/05.png, green/04.png"):
        open_token_labels(str(store), open_training_data(str(other)), str(other))
    with pytest.raises(ValueError, match=r"there are no token labels at .*; make them with: volo label"):
        open_token_labels(str(tmp_path / "nowhere"), open_training_data(str(photos)), str(photos))


def loaded(images, labels, workers=0):
    transform = TrainTransform(AugmentConfig(), Preprocessing(size=(16, 16)))
    sampler = EpochSampler(len(images.labels), seed=3)
    return list(train_loader(TrainImages(images, transform, 3, labels), sampler, batch_size=4, workers=workers))


def test_batches_carry_the_labels_of_their_images(photos, tmp_path):
    images = open_training_data(str(photos))
    store = make_store(tmp_path / "labels", images, photos)
    batches = loaded(images, open_token_labels(str(store), images, str(photos)))
    plain = loaded(images, None)
    assert len(batches) == 3
    for batch, without in zip(batches, plain, strict=True):
        assert torch.equal(batch.images, without.images)  # the labels draw nothing
        assert without.tokens is None
        assert batch.tokens.scores.shape == (4, 2, 3, 2)
        assert (batch.tokens.scores.dtype, batch.tokens.classes.dtype) == (torch.float16, torch.int32)
        for row, index in enumerate(batch.indices):  # zero where augmentation brought something from outside
            assert set(batch.tokens.scores[row].unique().tolist()) <= {0.0, float(index)}
        assert (batch.tokens.boxes >= 0).all()
        assert (batch.tokens.boxes[:, :2] + batch.tokens.boxes[:, 2:] <= 1 + 1e-6).all()


def test_worker_processes_change_nothing(photos, tmp_path):
    images = open_training_data(str(photos))
    labels = open_token_labels(str(make_store(tmp_path / "labels", images, photos)), images, str(photos))
    for one, two in zip(loaded(images, labels), loaded(images, labels, workers=2), strict=True):
        for mine, theirs in zip(one.tokens, two.tokens, strict=True):
            assert torch.equal(mine, theirs)


def test_an_image_without_labels_is_replaced_and_reported(photos, tmp_path):
    images = open_training_data(str(photos))
    store = make_store(tmp_path / "labels", images, photos, unreadable=(5,))
    batches = loaded(images, open_token_labels(str(store), images, str(photos)))
    assert 5 not in torch.cat([batch.indices for batch in batches])
    problems = [problem for batch in batches for problem in batch.problems]
    assert len(problems) == 1
    assert "green/01.png has no token labels: volo label could not read it" in problems[0]


def test_the_authors_files_are_read_and_converted_both_ways(photos, tmp_path):
    images = open_training_data(str(photos))
    store = make_store(tmp_path / "labels", images, photos, unreadable=(7,))
    folder, back = tmp_path / "maps", tmp_path / "back"
    assert store_to_folder(TokenLabelStore(store), images, folder, str(photos)) == 11
    assert not (folder / "green" / "03.pt").exists()
    with pytest.raises(ValueError, match=r"1 images are without a label file: green/03.png"):
        open_token_labels(str(folder), images, str(photos))
    seventh = LabelMap(np.full((2, 3, 2), 7, np.float16), np.ones((2, 3, 2), np.uint8))
    write_label_file(folder / "green" / "03.pt", seventh)
    direct = open_token_labels(str(folder), images, str(photos))
    assert folder_to_store(folder, images, back, str(photos)) == 12
    converted = open_token_labels(str(back), images, str(photos))
    for index in range(12):
        assert (direct.read(index).scores == index).all()
        np.testing.assert_array_equal(direct.read(index).scores, converted.read(index).scores)
        np.testing.assert_array_equal(direct.read(index).classes, converted.read(index).classes)
    with pytest.raises(ValueError, match="exists; choose another --output"):
        folder_to_store(folder, images, back, str(photos))


def test_label_files_of_several_shapes_are_refused(photos, tmp_path):
    images, folder = open_training_data(str(photos)), tmp_path / "maps"
    for index, path in enumerate(images.paths):
        shape = (3, 3, 2) if index == 8 else (2, 2, 2)
        labels = LabelMap(np.ones(shape, np.float16), np.zeros(shape, np.uint8))
        write_label_file(folder / path.parent.name / f"{path.stem}.pt", labels)
    with pytest.raises(ImageError, match=r"red/00.pt differs from the first file: it is \(3, 3, 2\), not \(2, 2, 2\)"):
        folder_to_store(folder, images, tmp_path / "labels", str(photos))
    assert not (tmp_path / "labels").exists()


def test_names_with_dots_get_their_own_files_and_shared_files_are_refused(tmp_path):
    photos, folder = tmp_path / "v1.0", tmp_path / "maps"
    for name in ("a.b.jpg", "a.c.jpg"):
        for label in ("x.1", "x.2"):
            (photos / label).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(photos / label / name)
            labels = LabelMap(np.ones((2, 2, 1), np.float16), np.zeros((2, 2, 1), np.uint8))
            write_label_file(folder / label / name.replace(".jpg", ".pt"), labels)
    images = open_training_data(str(photos))
    assert open_token_labels(str(folder), images, str(photos)).files == [
        "x.1/a.b.pt", "x.1/a.c.pt", "x.2/a.b.pt", "x.2/a.c.pt"
    ]  # fmt: skip
    Image.new("RGB", (8, 8)).save(photos / "x.1" / "a.b.png")
    with pytest.raises(ValueError, match=r"x\.1/a\.b\.jpg and x\.1/a\.b\.png would share the label file x\.1/a\.b\.pt"):
        open_token_labels(str(folder), open_training_data(str(photos)), str(photos))


def test_float16_indices_hold_2048_classes(tmp_path):
    images = FileImages([], [], tuple(f"{number:05}" for number in range(2049)))
    with pytest.raises(ValueError, match="exact for at most 2048 classes, not for 2049"):
        open_token_labels(str(tmp_path), images, "photos")


def test_images_that_are_not_in_files_keep_their_names():
    listing = list_images(open_training_data("fashion-mini"), "fashion-mini")
    assert listing.names[:2] == ["#0", "#1"]
    assert set(listing.sizes.tolist()) == {-1}
