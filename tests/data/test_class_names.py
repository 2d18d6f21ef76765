import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volo.data.class_names import doubtful_names, file_or_names, find_classes
from volo.messages import normalized


def test_a_file_names_and_a_tuple(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("cat\ndog\n")
    assert file_or_names(str(path)) == path
    assert file_or_names("cat, dog") == file_or_names("[cat,dog]") == file_or_names(("cat", "dog")) == ("cat", "dog")


def test_one_word_that_is_not_a_file_is_an_error():
    with pytest.raises(ValueError, match=r"there is no classes file nix; give a text file .* cat,dog"):
        file_or_names("nix")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cafe\u0301", "café"),
        ("\u200bcat\u200b ", "cat"),
        ("c\u00a0at", "c at"),
        ("\ufeffca\u2060t\u00ad", "cat"),
        ("Cat", "Cat"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        (
            "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
            "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        ),
        ("\u200f\u200b", ""),
    ],
)
def test_names_lose_what_cannot_be_seen_and_nothing_else(name, expected):
    assert normalized(name) == expected


@given(st.text())
def test_a_normalized_name_stays_as_it_is(name):
    once = normalized(name)
    assert normalized(once) == once
    assert normalized(f" \u200b{unicodedata.normalize('NFD', name)}\u00a0") == once


def test_classes_are_found_by_what_can_be_seen_and_exactly_where_a_model_has_both():
    assert find_classes(["café", "dog", "Dog"], ["dog", "cafe\u0301"]) == [1, 0, None]
    both = ["cat", "cat\u200b"]
    assert find_classes(["cat", "cat\u200b"], both) == [0, 1]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ("CAT", "Cat", "dog"),
            "'CAT', 'Cat' differ only in upper and lower case; if they are one class, give them one",
        ),
        (("1", "1.0", "2"), "'1', '1.0' are the same number; if they are one class"),
        (("007", "7"), "'007', '7' are the same number"),
        (("NaN", "x"), "'NaN' may stand for missing labels, but count as classes; leave their images out, or rename"),
        (("#N/A", "None", "cat"), "'#N/A', 'None' may stand for missing labels"),
        (("cat", "cat|dog"), "'cat|dog' may name several classes, but count as classes of their own; an image has one"),
        (("cat", "cat, dog", "dog"), "'cat, dog' may name several classes"),
        (("['cat']", "['dog']"), "may name several classes"),
        (
            tuple(f"{number / 8}" for number in range(20)),
            "all 20 classes are numbers, such as '0.0'; if they are measur",
        ),
        (tuple(f"{number}" for number in range(60)), "all 60 classes are numbers"),
    ],
)
def test_names_that_may_not_be_meant_are_described(names, words):
    (line,) = doubtful_names(names, images=100)
    assert words in line


@pytest.mark.parametrize(
    "names",
    [
        ("cat", "dog"),
        tuple(map(str, range(10))),
        ("T-shirt/top", "Dress"),
        ("cat", "cat & mouse"),
        ("a/b", "a/c", "d"),
        ("infinity", "nano", "none of these"),
    ],
)
def test_ordinary_names_raise_no_doubts(names):
    assert doubtful_names(names, images=100) == []
