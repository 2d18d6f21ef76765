"""Tables of paths and labels: reading, and the errors for invalid ones."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from volo.data import DataSource, open_data, open_splits, open_validation_data
from volo.data.sources.table import USUAL_COLUMNS, read_table
from volo.messages import normalized


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def photos(tmp_path):
    """Create four images in two folders; tables are written beside these."""
    for name in ("a/1.png", "a/2.png", "b/3.png", "b/4.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


PARTED = "path,label,split\na/1.png,cat,train\na/2.png,dog,Training\nb/3.png,dog,val\nb/4.png,cat,valid\n"


# Reading


def test_a_split_column_splits_the_images_and_paths_are_relative_to_the_table(photos, monkeypatch):
    monkeypatch.chdir("/")
    train, val = open_data(str(write(photos / "photos.csv", PARTED)))
    assert list(train.paths) == [photos / "a/1.png", photos / "a/2.png"]
    assert list(val.paths) == [photos / "b/3.png", photos / "b/4.png"]
    assert train.class_names == val.class_names == ("cat", "dog")
    assert (list(train.labels), list(val.labels)) == ([0, 1], [1, 0])
    assert val.read(0).size == (4, 4)


def test_without_a_split_column_images_are_split_for_training_or_all_evaluated(photos):
    path = str(write(photos / "photos.csv", "image,label\na/1.png,x\na/2.png,x\nb/3.png,y\nb/4.png,y\n"))
    train, val = open_data(path, val_fraction=0.5)
    assert sorted([*train.paths, *val.paths]) == sorted(photos.rglob("*.png"))
    assert len(train.labels) == len(val.labels) == 2
    assert len(open_validation_data(path).labels) == 4


def test_the_test_split_replaces_a_missing_val_split_and_can_be_chosen(photos):
    text = PARTED.replace("valid", "test")
    path = str(write(photos / "photos.csv", text))
    assert list(open_splits(path)) == ["train", "val", "test"]
    assert open_validation_data(path, split="test").paths == [photos / "b/4.png"]
    assert open_validation_data(path).paths == [photos / "b/3.png"]
    with pytest.raises(ValueError, match="has no split 'tset'; did you mean 'test'"):
        open_validation_data(path, split="tset")
    path = str(write(photos / "tested.csv", PARTED.replace("valid", "test").replace(",val", ",test")))
    assert len(open_data(path)[1].labels) == len(open_validation_data(path).labels) == 2


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["photos.csv", "photos.TSV"])
def test_the_first_line_determines_the_delimiter(photos, delimiter, name):
    path = write(photos / name, PARTED.replace(",", delimiter))
    assert [row.label for row in read_table(path)] == ["cat", "dog", "dog", "cat"]


def test_byte_order_marks_and_windows_line_ends_are_accepted(photos):
    path = photos / "photos.csv"
    path.write_bytes(b"\xef\xbb\xbf" + PARTED.replace("\n", "\r\n").encode() + b"\r\n,,\r\n")
    assert [row.line for row in read_table(path)] == [2, 3, 4, 5]


@pytest.mark.parametrize("image", USUAL_COLUMNS["image_column"])
@pytest.mark.parametrize("label", USUAL_COLUMNS["label_column"])
def test_usual_columns_are_found_in_any_case(photos, image, label):
    path = write(photos / "photos.csv", f"id,{label.upper()},{image.title()}\n7,cat,a/1.png\n")
    (row,) = read_table(path)
    assert (row.path, row.label) == (photos / "a/1.png", "cat")


def test_columns_can_be_named(photos):
    path = str(write(photos / "photos.csv", "label,species,where,use\n1,cat,a/1.png,train\n2,cat,b/3.png,val\n"))
    source = DataSource(image_column="where", label_column="species", split_column="use")
    train, val = open_data(path, source=source)
    assert (train.class_names, train.paths, val.paths) == (("cat",), [photos / "a/1.png"], [photos / "b/3.png"])


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), min_size=1).filter(
    lambda text: text == text.strip() and not text.startswith("/") and text not in (".", "..") and normalized(text)
)


ROWS = st.tuples(CELLS, CELLS, st.sampled_from(["train", "val", "test"]))


@settings(deadline=None, max_examples=50)
@given(st.lists(ROWS, min_size=1, max_size=20))
def test_a_written_table_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("tables") / "photos.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "label", "split"), *rows])
    expected = {}
    for image, label, split in rows:  # names that mean the same path are the next test's
        expected.setdefault(path.parent / image, (normalized(label), split))
    if len(expected) == len(rows):
        assert {row.path: (row.label, row.split) for row in read_table(path)} == expected


def test_the_line_of_excel_names_the_delimiter_and_the_lines_keep_their_numbers(photos):
    for first, delimiter in (("sep=;", ";"), ('"sep=|"', "|"), ("sep=,\r", ",")):
        text = PARTED.replace(",", delimiter)
        path = write(photos / "photos.csv", f"{first}\n{text}")
        assert [(row.line, row.label) for row in read_table(path)] == [(3, "cat"), (4, "dog"), (5, "dog"), (6, "cat")]


def test_a_space_before_a_quote_is_no_part_of_the_cell(photos):
    path = write(photos / "photos.csv", 'path, label\n"a/1.png", "cat"\n"a/2.png",  "big, dog"\n')
    assert [row.label for row in read_table(path)] == ["cat", "big, dog"]
    assert len(open_validation_data(str(path)).labels) == 2


def test_labels_that_no_eye_can_tell_apart_are_one_class(photos):
    labels = ["café", "cafe\u0301", "\u200bcafé\u00a0", "ca\u200bfé"]
    rows = "".join(f"{path},{label}\n" for path, label in zip(("a/1", "a/2", "b/3", "b/4"), labels, strict=True))
    path = write(photos / "photos.csv", "path,label\n" + rows.replace(",", ".png,"))
    assert open_validation_data(str(path)).class_names == ("café",)
    for label in ("\u200b", "\u00a0"):
        write(photos / "photos.csv", f"path,label\na/1.png,{label}\n")
        with pytest.raises(ValueError, match=r"line 2 of .* has no label"):
            read_table(path)


@pytest.mark.parametrize(
    ("column", "words", "splits"),
    [
        ("split", ("train_set", "Training-1", "validation", "dev"), ("train", "train", "val", "val")),
        ("subset", ("TRAIN", "train", "eval", "Test data"), ("train", "train", "test", "test")),
        ("is_valid", ("False", "false", "True", "1"), ("train", "train", "val", "val")),
        ("is_test", ("0", "no", "yes", "TRUE"), ("train", "train", "test", "test")),
        ("is_train", ("True", "1", "False", "0"), ("train", "train", "val", "val")),
    ],
)
def test_usual_words_for_splits_are_understood(photos, column, words, splits):
    rows = "".join(f"{name}.png,x,{word}\n" for name, word in zip(("a/1", "a/2", "b/3", "b/4"), words, strict=True))
    path = write(photos / "photos.csv", f"path,label,{column}\n{rows}")
    assert tuple(row.split for row in read_table(path)) == splits


# Errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column named image or path, its first line has: nothing; set the right one with --image-column"),
        ("photo,label\na/1.png,x\n", r"no column named image or path, its first line has: photo, label; set the righ"),
        ("path,kind\na/1.png,x\n", r"no column named label or class, its first line has: path, kind; set .*--label-c"),
        ("path,label\n", "has no rows below its first line"),
        ("path,label\na/1.png,x\na/1.png,y\n", r"names .*a/1\.png twice, on lines 2 and 3; remove one"),
        ("path,label\na/1.png,x\n./a/1.png,x\n", r"names .*a/1\.png twice, on lines 2 and 3"),
        ("path,label\na/1.png,x\nb/../a/1.png,x\n", r"a/1\.png, as .*b/\.\./a/1\.png too, twice, on lines 2 and 3"),
        ("path,label\na/1.png,x\na/2.png,\n", r"line 3 of .* has no label"),
        ("path,label\n,x\n", r"line 2 of .* has no image"),
        ("path,label\na/1.png\n", r"line 2 of .* has 1 cells, its first line 2"),
        ("path,label\na,1.png,x\n", r"line 2 of .* has 3 cells, its first line 2; put names with commas"),
        ("path,label,split\na/1.png,x,trian\n", r"line 2 of .* unknown split 'trian'; did you mean 'train'"),
        ("path,label,split\na/1.png,x,\n", r"line 2 of .* unknown split ''"),
        ("path,label\nc/1.png,x\nc/2.png,x\n", r"none of the 2 files in .* exist, the first is .*c/1\.png; paths must"),
        ("path,label,split\na/1.png,x,val\n", "has no train split, only val"),
        ("path,label,Label\na/1.png,x,y\n", "has 2 columns named 'label'; rename all but one"),
        ("path,path,label\na/1.png,b,y\n", "has 2 columns named 'path'; rename all but one"),
        ("path,label,is_valid,is_test\na/1.png,x,0,1\n", "the columns is_valid and is_test; write one column split"),
        ("path,label,split\na/1.png,x,true\n", r"line 2 of .* unknown split 'true'"),
        (
            "filename, cat, dog\na/1.png, 1, 0\na/2.png, 0, 1\n",
            r"column of 0 and 1 for each class \(cat, dog\), .* not",
        ),
        (
            "version https://git-lfs.github.com/spec/v1\noid",
            "is a Git LFS pointer instead of the table: run git lfs pull",
        ),
        ("path,label\na\\1.png,x\n", r"none .* exist, the first is .*; write / in place of \\"),
        ("path,label\na/1.png,x\na\\2.png,x\n", r"1 of the 2 files in .* do not exist, .* write / in place of \\"),
        ("path,label\nC:\\Users\\me\\1.png,x\na/1.png,x\n", r"1 of the 2 files .*; these are paths of Windows"),
        ("path,label\nhttps://x.org/1.png,x\na/1.png,x\n", r"1 of the 2 files .*; addresses are not downloaded"),
        ("path,label\na/1,x\na/2.png,x\n", r"1 of the 2 files .*; write the ending, too: .*a/1\.png exists"),
        ("path,label\n1.png,x\n2.png,x\n", r"none of the 2 files .*; write the folder, too: .*a/1\.png exists"),
        ("path,label\n1.png,x\n1.png,x\n", r"1\.png twice, .*; write the folder, too: .*a/1\.png exists"),
        ("path,label,split\na/1.png,x,train\na/2.png,y,train\nb/3.png,x,val\n", "val split of .* lacks the classes y,"),
        ("path,label,split\na/1.png,x,train\na/2.png,x,val\nb/3.png,y,val\n", "val split of .* has the classes y,"),
    ],
)
def test_an_invalid_table_is_explained_in_one_line(photos, text, message):
    path = str(write(photos / "photos.csv", text))
    with pytest.raises(ValueError, match=message) as error:
        open_data(path)
    assert path in str(error.value)
    assert "\n" not in str(error.value)


def test_an_image_with_two_paths_may_not_be_in_two_splits(photos, monkeypatch):
    """Otherwise the model would be evaluated on a training image."""
    (photos / "c").symlink_to("a")
    monkeypatch.chdir(photos)
    for other in (photos.resolve() / "a/1.png", "c/1.png"):
        path = write(Path("photos.csv"), f"path,label,split\na/1.png,x,train\n{other},x,val\n")
        with pytest.raises(ValueError, match=r"a/1\.png, as .*1\.png too, twice, on lines 2 and 3; remove one"):
            open_data(str(path))


def test_empty_lines_before_the_header_are_skipped(photos):
    path = write(photos / "photos.csv", "\n\npath;label\na/1.png;x\na/2.png;x\n")
    assert [row.path.name for row in read_table(path)] == ["1.png", "2.png"]


def test_a_missing_column_suggests_the_nearest(photos):
    path = str(write(photos / "photos.csv", PARTED))
    with pytest.raises(ValueError, match="has no column 'lable'; did you mean 'label'"):
        open_data(path, source=DataSource(label_column="lable"))
    with pytest.raises(ValueError, match="has no column 'xyz'; available: path, label, split"):
        open_data(path, source=DataSource(split_column="xyz"))


def test_a_table_of_train_rows_has_no_validation_data(photos):
    path = str(write(photos / "photos.csv", "path,label,split\na/1.png,x,train\na/2.png,x,train\n"))
    with pytest.raises(ValueError, match="has neither a val nor a test split, only train"):
        open_validation_data(path)
    assert [len(side.labels) for side in open_data(path)] == [1, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("pâth,label\n".encode("latin-1"), r"photos\.csv is not UTF-8 \(byte 0xe2 at 1\); save it as UTF-8"),
        ("path,label\n".encode("utf-16"), "is not UTF-8"),
        (b'path,label\n"' + b"a" * 200_000 + b'",x\n', r"photos\.csv is not a table: line 2: field larger"),
    ],
)
def test_a_file_that_is_not_a_table_is_reported(photos, content, message):
    (photos / "photos.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_data(str(photos / "photos.csv"))
