"""Search for image files by paths, folders and patterns."""

import io
import os
from pathlib import Path

import pytest

from volo.data import find_images, listed_images


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Make the current folder one with images at two depths and a file that is not an image."""
    for name in ("b.png", "a.JPG", "notes.txt", "sub/c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*names: str) -> list[str]:
    return [path.as_posix() for path in find_images(names)]


def test_a_folder_gives_all_images_below_it(folder):
    assert found(".") == ["a.JPG", "b.png", "sub/c.webp"]


def test_a_pattern_gives_the_matching_images(folder):
    assert found("*") == ["a.JPG", "b.png"]
    assert found("**/*.[pw]*") == ["b.png", "sub/c.webp"]


def test_an_absolute_pattern_works_too(folder):
    assert find_images([os.path.join(folder, "*.png")]) == [folder / "b.png"]  # noqa: PTH118


def test_files_keep_their_order_and_may_have_any_extension(folder):
    assert found("notes.txt", "b.png", "sub") == ["notes.txt", "b.png", "sub/c.webp"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.png", "gone.png is neither a file, a folder nor a pattern that matches"),
        ("*.bmp", "bmp is neither a file, a folder nor a pattern that matches"),
        ("empty", "empty has no images in it"),
    ],
)
def test_a_path_without_images_is_an_error(folder, name, message):
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        find_images(["b.png", name])


def stream(data: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"a.png\nb c.png\n", ["a.png", "b c.png"]),
        (b"a.png\r\n\r\nb.png", ["a.png", "b.png"]),
        (b"a\nb.png\0c.png\0", ["a\nb.png", "c.png"]),
        ("ä\u2028ö.png\n".encode(), ["ä\u2028ö.png"]),
        (b"caf\xe9.png\n", [os.fsdecode(b"caf\xe9.png")]),
        (b"gone [1]*.png\n", ["gone [1]*.png"]),
    ],
)
def test_a_stream_lists_files_by_line_or_by_nul(data, names):
    assert listed_images(stream(data)) == [Path(name) for name in names]


@pytest.mark.parametrize("data", [b"", b"\n\r\n", b"\0\0"])
def test_a_stream_without_paths_is_an_error(data):
    with pytest.raises(ValueError, match="standard input holds no paths"):
        listed_images(stream(data))


def test_a_closed_stream_is_an_error():
    closed = stream(b"a.png")
    closed.close()
    for none in (None, closed):
        with pytest.raises(ValueError, match="standard input is closed"):
            listed_images(none)
