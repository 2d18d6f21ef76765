"""Folders of images: layouts, the split, and the errors for unsupported layouts."""

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volo.data import DATASETS, DataSource, FileImages, image_extensions, open_data, open_splits, open_validation_data
from volo.data.sources.torchvision_sets import SETS
from volo.data.splits import SPLIT_ALIASES, split_by_class
from volo.skipped import collect_skipped


def grow(root: Path, *files: str) -> Path:
    """Create empty files: opening a folder lists it and reads no image."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def relative(images, root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in images.paths]


def listed(counts: list[int]) -> FileImages:
    """Return a set with ``counts[i]`` paths of class i."""
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    paths = [Path(f"{label}/{number}.png") for number, label in enumerate(labels)]
    return FileImages(paths, labels, tuple(f"class {label}" for label in range(len(counts))))


# Layouts


def test_train_and_val_folders_are_the_splits(tmp_path):
    root = grow(tmp_path, "train/cat/1.jpg", "train/cat/2.jpg", "train/dog/3.jpg", "val/cat/4.jpg", "val/dog/5.jpg")
    train, val = open_data(str(root))
    assert train.class_names == val.class_names == ("cat", "dog")
    assert relative(train, root) == ["train/cat/1.jpg", "train/cat/2.jpg", "train/dog/3.jpg"]
    assert relative(val, root) == ["val/cat/4.jpg", "val/dog/5.jpg"]
    assert (list(train.labels), list(val.labels)) == ([0, 0, 1], [0, 1])
    assert train.channels == val.channels == 3


@pytest.mark.parametrize("train_name", SPLIT_ALIASES["train"])
@pytest.mark.parametrize("val_name", [*SPLIT_ALIASES["val"], *SPLIT_ALIASES["test"]])
def test_the_two_folders_may_have_other_usual_names(tmp_path, train_name, val_name):
    root = grow(tmp_path, f"{train_name}/cat/1.png", f"{val_name}/cat/2.png")
    train, val = open_data(str(root))
    assert relative(train, root) == [f"{train_name}/cat/1.png"]
    assert relative(val, root) == relative(open_validation_data(str(root)), root) == [f"{val_name}/cat/2.png"]


def test_names_of_split_folders_ignore_case(tmp_path):
    root = grow(tmp_path, "Train/cat/1.png", "Train/dog/2.png", "VAL/cat/3.png", "VAL/dog/4.png")
    train, val = open_data(str(root))
    assert train.class_names == val.class_names == ("cat", "dog")
    assert relative(val, root) == ["VAL/cat/3.png", "VAL/dog/4.png"]


def test_val_is_preferred_to_test(tmp_path):
    root = grow(tmp_path, "train/cat/1.png", "test/cat/2.png", "val/cat/3.png")
    assert relative(open_data(str(root))[1], root) == relative(open_validation_data(str(root)), root)
    assert relative(open_validation_data(str(root)), root) == ["val/cat/3.png"]


def test_one_folder_is_split_class_by_class(tmp_path):
    root = grow(tmp_path, *(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(10)))
    train, val = open_data(str(root), val_fraction=0.2, seed=3)
    assert train.class_names == val.class_names == ("cat", "dog")
    assert Counter(train.labels) == {0: 8, 1: 8}
    assert Counter(val.labels) == {0: 2, 1: 2}


def test_a_train_folder_without_a_val_folder_is_split(tmp_path):
    root = grow(tmp_path, *(f"train/{name}/{number}.png" for name in ("cat", "dog") for number in range(4)))
    train, val = open_data(str(root), val_fraction=0.25)
    assert train.class_names == ("cat", "dog")
    assert (len(train.labels), len(val.labels)) == (6, 2)


def test_validation_data_of_an_undivided_folder_are_all_images(tmp_path):
    root = grow(tmp_path, "cat/1.png", "dog/2.png", "dog/3.png")
    assert relative(open_validation_data(str(root)), root) == ["cat/1.png", "dog/2.png", "dog/3.png"]


def test_images_may_be_in_subfolders_and_other_files_are_skipped(tmp_path):
    root = grow(tmp_path, "b/x/y/1.JPG", "b/2.jpeg", "b/notes.txt", "a/deep/3.WebP", "readme.md", "stray.png")
    with collect_skipped() as skipped:
        images = open_validation_data(str(root))
    assert skipped == {root / "stray.png": "beside the class folders (move them into one)"}
    assert images.class_names == ("a", "b")
    labels = dict(zip(relative(images, root), images.labels, strict=True))
    assert labels == {"a/deep/3.WebP": 0, "b/2.jpeg": 1, "b/x/y/1.JPG": 1}


def test_a_name_opens_a_data_set(tmp_path):
    for name in DATASETS.keys() - SETS.keys():
        train, val = open_data(name)
        assert train.class_names == val.class_names == open_validation_data(name).class_names
        assert len(open_validation_data(name).labels) == len(val.labels) < len(train.labels)


def test_hidden_files_and_folders_are_skipped(tmp_path):
    root = grow(tmp_path, "cat/1.png", "cat/._1.png", "cat/.ipynb_checkpoints/1.png", ".git/2.png", "dog/2.png")
    assert relative(open_validation_data(str(root)), root) == ["cat/1.png", "dog/2.png"]


def test_all_readable_formats_are_listed(tmp_path):
    root = grow(tmp_path, "a/1.avif", "a/2.jp2", "a/3.tga", "a/4.gif", "a/5.pdf", "a/6.eps", "a/7.mpg", "b/1.TIFF")
    listed = set(relative(open_validation_data(str(root)), root))
    assert listed - {"a/1.avif"} == {"a/2.jp2", "a/3.tga", "a/4.gif", "b/1.TIFF"}
    assert ("a/1.avif" in listed) == (".avif" in image_extensions())


def test_nested_folders_are_classes_by_their_paths(tmp_path):
    root = grow(tmp_path, "animals/cat/1.png", "animals/cat/old/2.png", "animals/dog/3.png", "tree/4.png", "5.png")
    with pytest.warns(UserWarning, match=r"1 file skipped: 1 beside the class folders .*; .*5\.png"):
        images = open_validation_data(str(root), source=DataSource(nested=True))
    assert images.class_names == ("animals/cat", "animals/cat/old", "animals/dog", "tree")
    assert relative(images, root) == ["animals/cat/1.png", "animals/cat/old/2.png", "animals/dog/3.png", "tree/4.png"]
    assert list(images.labels) == [0, 1, 2, 3]
    with collect_skipped():
        assert open_validation_data(str(root)).class_names == ("animals", "tree")


def test_names_of_folders_that_no_eye_can_tell_apart_are_one_class_and_paths_stay_as_they_are(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    root = grow(
        tmp_path, f"train/{decomposed}/1.png", "train/a/2.png", f"val/{composed}\u00a0/3.png", "val/a\u200b/4.png"
    )
    train, val = open_data(str(root))
    assert train.class_names == val.class_names == ("a", composed)
    assert relative(train, root) == ["train/a/2.png", f"train/{decomposed}/1.png"]
    assert relative(val, root) == ["val/a\u200b/4.png", f"val/{composed}\u00a0/3.png"]
    both = grow(tmp_path / "both", f"{decomposed}/1.png", "b/2.png", f"{composed}/3.png")
    images = open_validation_data(str(both))
    assert (images.class_names, list(images.labels)) == (("b", composed), [0, 1, 1])
    assert [path.name for path in images.paths] == ["2.png", "1.png", "3.png"]


def test_a_folder_whose_name_cannot_be_seen_is_an_error(tmp_path):
    root = grow(tmp_path, "cat/1.png", "\u200b/2.png")
    with pytest.raises(ValueError, match=r"the folder of .*2\.png has a name that cannot be seen; rename it"):
        open_validation_data(str(root))


def test_nested_classes_may_lie_in_train_and_val_folders(tmp_path):
    root = grow(tmp_path, "train/a/b/1.png", "train/c/2.png", "val/a/b/3.png", "val/c/4.png")
    train, val = open_data(str(root), source=DataSource(nested=True))
    assert train.class_names == val.class_names == ("a/b", "c")


def test_a_folder_train_that_holds_images_is_a_class_beside_others(tmp_path):
    assert list(open_splits(str(grow(tmp_path / "two", "train/1.png", "ship/2.png")))) == ["all"]
    train, val = open_data(str(grow(tmp_path / "more", "train/1.png", "train/2.png", "ship/3.png", "ship/4.png")))
    assert train.class_names == val.class_names == ("ship", "train")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_single_split_folder_beside_class_folders_is_an_error(tmp_path, split):
    root = grow(tmp_path, f"{split}/cat/1.png", f"{split}/dog/2.png", "cat/3.png", "emu/x/4.png")
    with pytest.raises(ValueError, match=r"holds class folders, but there are class folders beside it: cat, emu;"):
        open_data(str(root))


def test_a_single_split_folder_beside_folders_without_images_is_a_split(tmp_path):
    root = grow(tmp_path, "train/cat/1.png", "train/cat/2.png", "notes/readme.txt")
    assert [len(side.labels) for side in open_data(str(root))] == [1, 1]
    root = grow(tmp_path / "judged", "test/cat/1.png", "notes/readme.txt")
    assert relative(open_validation_data(str(root)), root) == ["test/cat/1.png"]
    with pytest.raises(ValueError, match="has no train split, only test"):
        open_data(str(root))


def test_a_split_can_be_chosen(tmp_path):
    root = grow(tmp_path, "train/cat/1.png", "val/cat/2.png", "test/cat/3.png")
    for split, name in (("train", "1"), ("val", "2"), ("test", "3"), (None, "2")):
        assert open_validation_data(str(root), split=split).paths[0].stem == name


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_read_permission_is_an_error(tmp_path):
    root = grow(tmp_path, "cat/x/1.png", "dog/2.png")
    (root / "cat/x").chmod(0)
    with pytest.raises(OSError, match="Permission denied"):
        open_data(str(root))


# The split

COUNTS = st.lists(st.integers(2, 40), min_size=1, max_size=6)
FRACTIONS = st.floats(0.01, 0.99)


@settings(deadline=None)
@given(COUNTS, FRACTIONS, st.integers(0, 2**32))
def test_split_by_class_keeps_all_images_and_their_labels(counts, fraction, seed):
    images = listed(counts)
    train, val = split_by_class(images, fraction, seed)
    assert sorted([*train.paths, *val.paths]) == sorted(images.paths)
    for side in (train, val):
        assert [int(path.parent.name) for path in side.paths] == list(side.labels)
        assert side.class_names == images.class_names


@settings(deadline=None)
@given(COUNTS, FRACTIONS, st.integers(0, 2**32))
def test_a_split_holds_out_the_share_of_every_class_and_at_least_one_image_on_either_side(counts, fraction, seed):
    held_out = Counter(split_by_class(listed(counts), fraction, seed)[1].labels)
    for label, count in enumerate(counts):
        assert 1 <= held_out[label] <= count - 1
        # Within half an image of the share, save where that would leave a side without any.
        assert abs(held_out[label] - min(max(fraction * count, 1), count - 1)) <= 0.5


def test_a_split_depends_on_the_seed_alone():
    images = listed([30, 30])
    assert split_by_class(images, 0.5, 7) == split_by_class(images, 0.5, 7)
    assert split_by_class(images, 0.5, 7) != split_by_class(images, 0.5, 8)


def test_the_held_out_images_are_drawn_at_random():
    val = split_by_class(listed([100]), 0.1, 0)[1]
    numbers = [int(path.stem) for path in val.paths]
    assert numbers not in (list(range(10)), list(range(90, 100)))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_fraction_outside_zero_to_one_is_rejected(fraction):
    with pytest.raises(ValueError, match="must lie between 0 and 1, not"):
        split_by_class(listed([4]), fraction, 0)


# Errors


@pytest.mark.parametrize("open_", [open_data, open_validation_data])
def test_the_error_for_a_folder_without_class_folders_shows_the_expected_layout(tmp_path, open_):
    grow(tmp_path, "1.png", "2.png")
    with pytest.raises(ValueError, match="has no class folders, only 2 images; expected") as error:
        open_(str(tmp_path))
    assert f"{tmp_path}/<class>/<image>" in str(error.value)


def test_class_folders_without_images_are_reported(tmp_path):
    grow(tmp_path, "cat/1.png", "dog/notes.txt")
    (tmp_path / "newt").mkdir()
    with pytest.raises(ValueError, match="no images in") as error:
        open_data(str(tmp_path))
    assert f"{tmp_path / 'dog'}, {tmp_path / 'newt'};" in str(error.value)
    assert ".jpg" in str(error.value)
    assert "cat" not in str(error.value)


def test_five_of_many_empty_class_folders_are_reported_and_the_rest_counted(tmp_path):
    for number in range(9):
        (tmp_path / f"class{number}").mkdir()
    with pytest.raises(ValueError, match="class4 and 4 more"):
        open_data(str(tmp_path))


def test_a_class_missing_from_validation_is_reported(tmp_path):
    grow(tmp_path, "train/cat/1.png", "train/dog/2.png", "val/cat/3.png")
    with pytest.raises(ValueError, match="lacks the classes dog, which the train split has") as error:
        open_data(str(tmp_path))
    assert f"the val split of {tmp_path}" in str(error.value)


def test_a_class_that_only_validation_has_is_reported(tmp_path):
    grow(tmp_path, "train/cat/1.png", "valid/cat/2.png", "valid/dog/3.png")
    with pytest.raises(ValueError, match="has the classes dog, which the train split lacks") as error:
        open_data(str(tmp_path))
    assert f"the val split of {tmp_path}" in str(error.value)


def test_a_class_with_one_image_cannot_be_split(tmp_path):
    grow(tmp_path, "cat/1.png", "cat/2.png", "dog/3.png")
    with pytest.raises(ValueError, match="class 'dog' has one image: too few to split"):
        open_data(str(tmp_path))


@pytest.mark.parametrize("open_", [open_data, open_validation_data])
def test_an_unknown_name_suggests_the_nearest_known_one(open_):
    with pytest.raises(
        ValueError, match="no folder, table or data set is named 'fashion_mini'; did you mean 'fashion-m"
    ):
        open_("fashion_mini")


def test_a_name_unlike_all_others_lists_the_known_ones(tmp_path):
    missing = str(tmp_path / "photos")
    with pytest.raises(ValueError, match=r"no folder, table or data set is named .*; available: ") as error:
        open_data(missing)
    assert missing in str(error.value)
    assert all(name in str(error.value) for name in DATASETS)


@pytest.mark.parametrize("open_", [open_data, open_validation_data])
def test_a_file_instead_of_a_folder_is_an_error(tmp_path, open_):
    grow(tmp_path, "photos.zip")
    with pytest.raises(ValueError, match=r"photos\.zip is a file, but not a table \(\.csv, .*\); give a folder of"):
        open_(str(tmp_path / "photos.zip"))


def test_an_unknown_task_is_an_error(tmp_path):
    for open_ in (open_data, open_splits, open_validation_data):
        with pytest.raises(ValueError, match="task must be classification or segmentation, not 'detection'"):
            open_(str(grow(tmp_path, "cat/1.png", "cat/2.png")), task="detection")
