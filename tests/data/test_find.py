"""Search for image files by paths, folders and patterns."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from volo.data import find, find_images, listed_images, open_splits
from volo.data.find import images_below
from volo.skipped import collect_skipped


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
        (b"\xef\xbb\xbfa.png\nb.png\n", ["a.png", "b.png"]),
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


# Photos that are not read


def skipped_below(folder):
    with collect_skipped() as skipped:
        images = list(images_below(folder))
    return images, {path.name: reason for path, reason in skipped.items()}


def test_photos_that_cannot_be_read_are_noted_with_what_would_read_them(tmp_path, monkeypatch):
    monkeypatch.setattr(find, "image_extensions", lambda: {".jpg", ".png"})  # without plug-ins, whatever is installed
    for name in ("1.jpg", "2.HEIC", "3.dng", "a/4.jxl", "5.jpg_large", "6.avif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "IMG_7").write_bytes(b"\xff\xd8\xff\xe0 and so on")
    others = ("notes.txt", "labels.csv", "x.json", "Thumbs.db", ".hidden.heic", "README", "clip.mov", "x.jpg.txt")
    for name in others:
        (tmp_path / name).write_text("no photo")
    images, skipped = skipped_below(tmp_path)
    assert images == [tmp_path / "1.jpg"]
    assert skipped == {
        "2.HEIC": ".heic (pip install pillow-heif)",
        "3.dng": ".dng (raw photos of a camera; convert them to JPEG or TIFF)",
        "4.jxl": ".jxl (convert them to JPEG or PNG)",
        "5.jpg_large": ".jpg_large (rename them to end in .jpg)",
        "6.avif": ".avif (update Pillow, which reads AVIF from version 11.3 on)",
        "IMG_7": "without an ending (rename them, such as to x.jpg)",
    }


@pytest.mark.parametrize("ending", ["png", "gif", "webp", "tif", "jpg"])
def test_a_photo_without_an_ending_is_recognized_by_its_first_bytes(tmp_path, ending):
    Image.new("RGB", (9, 9)).save(tmp_path / f"x.{ending}")
    (tmp_path / f"x.{ending}").rename(tmp_path / "x")
    assert skipped_below(tmp_path) == ([], {"x": "without an ending (rename them, such as to x.jpg)"})


def test_a_listing_that_is_not_finished_notes_nothing(tmp_path):
    (tmp_path / "1.jpg").touch()
    (tmp_path / "2.dng").touch()
    with collect_skipped() as skipped:
        assert next(images_below(tmp_path)).name == "1.jpg"
    assert not skipped


def test_a_folder_or_pattern_of_other_photos_alone_is_an_error_with_what_would_read_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name in ("1.nef", "2.nef"):
        Path("photos", name).touch()
    for name in ("photos", "photos/*"):
        with pytest.raises(
            ValueError, match=r"(has no images in it|pattern that matches), only 2 \.nef \(raw photos of"
        ):
            find_images([name])


def test_a_pattern_notes_the_photos_that_it_matches(tmp_path):
    (tmp_path / "1.jpg").touch()
    (tmp_path / "2.nef").touch()
    with collect_skipped() as skipped:
        assert find_images([f"{tmp_path}/*"]) == [tmp_path / "1.jpg"]
    assert list(skipped) == [tmp_path / "2.nef"]


def test_a_pattern_passes_a_folder_whose_name_looks_like_one(tmp_path):
    for name in ("b[1]/x/1.jpg", "b1/x/2.jpg", "*/3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert find_images([f"{tmp_path}/b[1]/x/*.jpg"]) == [tmp_path / "b[1]/x/1.jpg"]
    assert find_images([f"{tmp_path}/b[1]/**/*.jpg"]) == [tmp_path / "b[1]/x/1.jpg"]
    assert find_images([f"{tmp_path}/[b]1/*/*.jpg"]) == [tmp_path / "b1/x/2.jpg"]
    assert find_images([f"{tmp_path}/*/*.jpg"]) == [tmp_path / "*/3.jpg"]


def test_listing_asks_nothing_about_each_file(tmp_path, monkeypatch):
    for number in range(50):
        (tmp_path / "cat").mkdir(exist_ok=True)
        for place in (tmp_path, tmp_path / "cat"):
            (place / f"{number}.jpg").touch()
    asked = []
    for name in ("stat", "lstat"):
        original = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda path, *rest, original=original, **kw: asked.append(path) or original(path, *rest, **kw)
        )
    with collect_skipped():
        assert len(open_splits(str(tmp_path))["all"]().labels) == 50
        assert len(find_images([f"{tmp_path}/*.jpg"])) == 50
        assert len(find_images([str(tmp_path)])) == 100
    assert asked
    assert not [path for path in asked if Path(path).stem.isdecimal()]
