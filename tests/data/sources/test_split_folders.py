"""Recognition of splits among folders, by their names and by what they hold; what may be two things is an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volo.data import DataSource, open_data, open_splits
from volo.data.splits import SPLIT_ALIASES, split_within
from volo.skipped import collect_skipped


def grow(root, *folders):
    """Create folders with three empty files each; a file is created as it is named."""
    for folder in folders:
        for number in range(3):
            path = root / folder if folder.endswith((".png", ".csv")) else root / folder / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return str(root)


def read(root, **source):
    """Return split → names of its classes, and reason → number of skipped files."""
    with collect_skipped() as skipped:
        splits = {
            split: images().class_names for split, images in open_splits(root, source=DataSource(**source)).items()
        }
    return splits, sorted(skipped.values())


def with_classes(*folders):
    return [f"{folder}/{name}" for folder in folders for name in ("cat", "dog")]


CLASSES = ("cat", "dog")


@pytest.mark.parametrize(
    ("train", "other", "split"),
    [
        ("training_set", "test_set", "test"),
        ("seg_train", "seg_test", "test"),
        ("train_images", "val_images", "val"),
        ("TrainData", "TestData", "test"),
        ("Train set", "Validation set", "val"),
        ("train-2024", "dev.2024", "val"),
        ("TRAIN", "EVAL", "test"),
        ("train", "evaluation", "test"),
        ("train/train", "test/test", "test"),
        ("my_train/my_train", "my_test/my_test", "test"),
    ],
)
def test_usual_names_of_splits_are_recognized(tmp_path, train, other, split):
    root = grow(tmp_path, *with_classes(train, other))
    assert read(root) == ({"train": CLASSES, split: CLASSES}, [])


@pytest.mark.parametrize("name", ["training_set", "Train set", "train2", "2012train", "XMLTrain", "train.v2", "TRAIN"])
def test_a_word_is_bounded_by_separators_digits_or_capitals(name):
    assert split_within(name) == "train"


@pytest.mark.parametrize("name", ["trainer", "contest", "éval", "valley", "evaluated", "train_val", "traindata", ""])
def test_other_words_are_no_splits(name):
    assert split_within(name) is None


@given(st.sampled_from([(split, word) for split, words in SPLIT_ALIASES.items() for word in words]), st.text("-_. 7"))
def test_every_alias_is_found_between_separators(split_and_word, ends):
    split, word = split_and_word
    for name in (word, word.upper(), word.title()):
        assert split_within(f"{ends}{name}{ends}") == split
        assert split_within(f"{name}Data") == split


def test_two_folders_of_one_split_are_an_error(tmp_path):
    for number, (one, two) in enumerate([("Train", "train"), ("train", "train2")]):
        root = grow(tmp_path / str(number), *with_classes(one, two, "val"))
        with pytest.raises(ValueError, match=rf"{one} and .*{two} both look like the train split; join them, or move"):
            open_splits(root)
    root = grow(tmp_path / "val", *with_classes("train", "val", "validation"))
    with pytest.raises(ValueError, match=r"val and .*validation both look like the val split"):
        open_splits(root)


def test_splits_in_the_class_folders_are_read(tmp_path):
    root = grow(tmp_path, "cat/train", "cat/val", "dog/train", "dog/val", "dog/val/deep")
    assert read(root) == ({"train": CLASSES, "val": CLASSES}, [])
    train, val = open_data(root)
    assert [path.parent.name for path in train.paths] == ["train"] * 6
    assert (list(train.labels), list(val.labels)) == ([0] * 3 + [1] * 3, [0] * 3 + [1] * 6)
    assert read(root, nested=False) == ({"all": CLASSES}, [])
    assert read(root, nested=True)[0]["all"][:2] == ("cat/train", "cat/val")


def test_splits_in_some_folders_only_are_an_error(tmp_path):
    for name, folders in {
        "some": ("cat", "ship/train", "ship/val"),
        "two": with_classes("a/train", "a/val", "b/train", "b/val"),
        "wrapped": (*with_classes("a/a/train", "a/a/valid"), "test/test"),
        "doubled": ("a/train", "a/val", "a/valid", "b/train", "b/val"),
    }.items():
        root = grow(tmp_path / name, *folders)
        with pytest.raises(ValueError, match=r"holds split folders \(train, val.*give it itself, or .* --nested false"):
            open_splits(root)


def test_unlabeled_images_of_a_split_are_left_out_and_counted(tmp_path):
    root = grow(tmp_path, *with_classes("train"), "test")
    assert read(root) == ({"train": CLASSES}, ["in a split without class folders"] * 3)
    with collect_skipped():
        assert [len(images.labels) for images in open_data(root, val_fraction=0.34)] == [4, 2]
    root = grow(tmp_path / "set", *with_classes("a_train/a_train"), "a_test/a_test")
    assert read(root) == ({"train": CLASSES}, ["in a split without class folders"] * 3)


def test_images_beside_certain_splits_are_left_out_and_counted(tmp_path):
    root = grow(tmp_path, *with_classes("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred")
    assert read(root) == ({"train": CLASSES, "test": CLASSES}, ["in folders beside those of the splits"] * 3)
    root = grow(tmp_path / "copy", *with_classes("train", "val", "copy/train", "copy/val"))
    assert read(root) == ({"train": CLASSES, "val": CLASSES}, ["in folders beside those of the splits"] * 12)
    root = grow(tmp_path / "cover", *with_classes("train", "val"), "cover.png")
    assert read(root) == ({"train": CLASSES, "val": CLASSES}, ["beside the folders of the splits"])


def test_splits_without_any_class_folders_are_an_error_and_never_classes(tmp_path):
    root = grow(tmp_path / "words", "train_images", "test_images")
    with pytest.raises(ValueError, match=r"test_images, train_images .* look like splits, but have no class folders"):
        open_splits(root)
    assert read(root, nested=False)[0] == {"all": ("test_images", "train_images")}
    root = grow(tmp_path / "whole", "train", "test", "train/labels.csv")
    with pytest.raises(ValueError, match=r"has no class folders, only 3 images; .* or a table .*train/labels\.csv"):
        open_data(root)


@pytest.mark.parametrize("nested", [None, True, False])
def test_classes_with_the_name_of_a_split_in_them_stay_classes(tmp_path, nested):
    root = grow(tmp_path, "training shoes", "test_tube", "boots")
    assert read(root, nested=nested) == ({"all": ("boots", "test_tube", "training shoes")}, [])


def test_names_of_splits_with_folders_in_them_may_be_classes_and_are_an_error(tmp_path):
    root = grow(tmp_path / "three", "training shoes/a", "test_tube/b", "boots")
    with pytest.raises(ValueError, match=r"test_tube looks like a split, .* beside it: boots; .* add --nested false"):
        open_splits(root)
    assert read(root, nested=False)[0] == {"all": ("boots", "test_tube", "training shoes")}
    assert read(root, nested=True)[0] == {"all": ("boots", "test_tube/b", "training shoes/a")}
    root = grow(tmp_path / "two", "training shoes/a", "test_tube/b")
    with pytest.raises(ValueError, match=r"test_tube \(b\) and .* \(a\) look like splits, but have no class in common"):
        open_splits(root)
    assert read(root, nested=True)[0] == {"all": ("test_tube/b", "training shoes/a")}


def test_folders_that_hold_only_folders_of_the_same_names_are_an_error_that_tells_how_to_choose(tmp_path):
    root = grow(tmp_path, "Apple/sick", "Apple/well", "Grape/sick", "Grape/well")
    message = r"Apple, Grape .* may be classes, or hold them: if sick, well are .*; if Apple, .* add --nested false"
    with pytest.raises(ValueError, match=message):
        open_splits(root)
    assert read(root, nested=False) == ({"all": ("Apple", "Grape")}, [])
    assert read(root, nested=True)[0] == {"all": ("Apple/sick", "Apple/well", "Grape/sick", "Grape/well")}


def test_one_equal_folder_or_different_ones_in_each_class_stay_images_of_the_class(tmp_path):
    root = grow(tmp_path, "Apple/images", "Grape/images", "Plum/images", "Plum/more")
    assert read(root) == ({"all": ("Apple", "Grape", "Plum")}, [])
    assert read(grow(tmp_path / "one", "cat/indoors", "cat/outdoors")) == ({"all": ("cat",)}, [])


def test_a_folder_unpacked_one_level_too_deep_is_an_error_that_names_the_right_one(tmp_path):
    root = grow(tmp_path / "photos", *with_classes("photos"), "__MACOSX/photos/cat")
    with pytest.raises(ValueError, match=r"if cat, dog are the classes, give .*photos/photos; if photos is one"):
        open_data(root)
    assert read(f"{root}/photos") == ({"all": CLASSES}, [])


def test_folders_of_systems_and_of_volo_are_no_classes(tmp_path):
    root = grow(tmp_path, *CLASSES, "@eaDir/cat", "__MACOSX", "report/sheets")
    (tmp_path / "report/.volo-folder").touch()
    assert read(root) == ({"all": CLASSES}, ["in folders that volo wrote (name one to read it)"] * 3)
    (tmp_path / "report").rename(tmp_path / "cat/report")
    assert read(root) == ({"all": CLASSES}, ["in folders that volo wrote (name one to read it)"] * 3)
