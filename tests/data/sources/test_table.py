"""Tables of paths and labels: reading, and the errors for invalid ones."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from volo.data import DataSource, open_data, open_splits, open_validation_data
from volo.data.sources.table import USUAL_COLUMNS, read_table


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
    lambda text: text == text.strip() and not text.startswith("/") and text not in (".", "..")
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
        expected.setdefault(path.parent / image, (label, split))
    if len(expected) == len(rows):
        assert {row.path: (row.label, row.split) for row in read_table(path)} == expected


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
