"""Finding image files by what a person writes."""

import os

import pytest

from volo.data import find_images


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the tests stand: images at two depths, and a file that is none."""
    for name in ("b.png", "a.JPG", "notes.txt", "sub/c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*names: str) -> list[str]:
    return [path.as_posix() for path in find_images(names)]


def test_a_folder_stands_for_all_images_below_it(folder):
    assert found(".") == ["a.JPG", "b.png", "sub/c.webp"]


def test_a_pattern_stands_for_the_images_that_match(folder):
    assert found("*") == ["a.JPG", "b.png"]
    assert found("**/*.[pw]*") == ["b.png", "sub/c.webp"]


def test_an_absolute_pattern_works_too(folder):
    assert find_images([os.path.join(folder, "*.png")]) == [folder / "b.png"]  # noqa: PTH118


def test_a_named_file_is_taken_whatever_its_ending_and_order_is_kept(folder):
    assert found("notes.txt", "b.png", "sub") == ["notes.txt", "b.png", "sub/c.webp"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.png", "gone.png is neither a file, a folder nor a pattern that matches"),
        ("*.bmp", "bmp is neither a file, a folder nor a pattern that matches"),
        ("empty", "empty has no images in it"),
    ],
)
def test_a_name_that_stands_for_nothing_is_an_error(folder, name, message):
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        find_images(["b.png", name])
