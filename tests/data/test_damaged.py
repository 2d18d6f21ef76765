"""Files that other programs show although something is wrong with them, and files that end too early."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from volo.data import ImageError, read_image
from volo.data.read_notes import notes_of, summarize_notes

NO_END = "although the end marker is missing; the picture is complete"
LEADING = "although blank bytes come before the beginning"
LARGE = "without a text or color profile that takes too much memory"


def picture(kind: str = "RGB") -> Image.Image:
    """Smooth colors with noise, without any flat area."""
    y, x = np.mgrid[0:96, 0:128]
    noise = np.random.default_rng(0).integers(0, 20, (96, 128, 3))
    pixels = np.stack([x, 2 * y, 200 - x // 2 - y // 2], axis=-1) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(kind)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(path, content, **options):
    path.write_bytes(content)
    return read_image(path, **options)


def kinds(image):
    return [note.kind for note in notes_of(image)]


JPEGS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "full color": {"subsampling": 0},
    "optimized": {"optimize": True},
    "restarts": {"restart_marker_blocks": 4},
}


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("shrink", [None, lambda size: 4.0])
def test_a_jpeg_without_its_end_marker_is_read_and_one_without_more_is_not(tmp_path, options, mode, shrink):
    path, content = tmp_path / "a.jpg", encoded(picture(mode), "JPEG", quality=90, **options)
    whole = read(path, content, shrink=shrink)
    assert kinds(whole) == []
    for cut in (1, 2):  # half the marker, and the marker
        ended = read(path, content[:-cut], shrink=shrink)
        np.testing.assert_array_equal(np.asarray(ended), np.asarray(whole))
        assert kinds(ended) == [NO_END]
    for share in (0.9, 0.7, 0.5):
        with pytest.raises(ImageError, match=r"a\.jpg: image file is truncated$"):
            read(path, content[: int(len(content) * share)])
    assert kinds(read(path, content + bytes(5000))) == []  # what follows the end belongs to other programs


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("shrink", [None, lambda size: 8.0])
def test_a_jpeg_that_ends_before_its_picture_does_is_truncated_even_with_an_end_marker(tmp_path, mode, shrink):
    content = encoded(picture(mode), "JPEG", quality=90)
    for share in (0.4, 0.6, 0.8):
        with pytest.raises(ImageError, match="truncated"):
            read(tmp_path / "a.jpg", content[: int(len(content) * share)] + b"\xff\xd9", shrink=shrink)


def test_a_small_jpeg_whose_header_claims_a_large_picture_is_truncated(tmp_path):
    content = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    start = content.index(b"\xff\xc0")
    struct.pack_into(">HH", content, start + 5, 2000, 3000)
    with pytest.raises(ImageError, match="truncated"):
        read(tmp_path / "a.jpg", bytes(content))


def test_gray_pictures_are_complete(tmp_path):
    """The decoder fills what is missing with the same gray."""
    for mode, color in (("RGB", (128, 128, 128)), ("L", 128), ("CMYK", (127, 127, 127, 127))):
        flat = Image.new(mode, (70, 50), color)
        for options in JPEGS.values():
            assert kinds(read(tmp_path / "a.jpg", encoded(flat, "JPEG", **options))) == []


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_blank_bytes_before_the_beginning_are_skipped(tmp_path, kind):
    content = encoded(picture(), kind)
    expected = np.asarray(read(tmp_path / "a", content))
    for blanks in (b"\n", b"\r\n", b"\0" * 20):
        image = read(tmp_path / "a", blanks + content)
        np.testing.assert_array_equal(np.asarray(image), expected)
        assert kinds(image) == [LEADING]
    with pytest.raises(ImageError, match="not an image"):
        read(tmp_path / "a", b"x" + content)


def with_text(content: bytes, *, after_pixels: bool, kind: bytes, size: int, count: int = 1) -> bytes:
    """A PNG with ``count`` text chunks that unpack to ``size`` bytes."""
    keyword = {b"zTXt": b"key\0\0", b"iTXt": b"key\0\1\0\0\0", b"tEXt": b"key\0"}[kind]
    data = keyword + (zlib.compress(bytes(size)) if kind != b"tEXt" else b"x" * size)
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    place = content.index(b"IEND" if after_pixels else b"IDAT") - 4
    return content[:place] + count * chunk + content[place:]


@pytest.mark.parametrize("after_pixels", [False, True])
@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"tEXt"])
def test_large_texts_in_a_png_are_left_out(tmp_path, after_pixels, kind):
    path, content = tmp_path / "a.png", encoded(picture(), "PNG")
    for size, count, large in ((1000, 1, False), (3 << 20, 1, kind != b"tEXt"), (1 << 20, 70, True)):
        image = read(path, with_text(content, after_pixels=after_pixels, kind=kind, size=size, count=count))
        np.testing.assert_array_equal(np.asarray(image), np.asarray(picture()))
        assert kinds(image) == [LARGE] * large


def test_a_large_color_profile_in_a_png_is_left_out(tmp_path):
    for size, large in ((1000, False), (2_000_000, True)):
        image = read(tmp_path / "a.png", encoded(picture(), "PNG", icc_profile=bytes(size)))
        np.testing.assert_array_equal(np.asarray(image), np.asarray(picture()))
        assert kinds(image) == [LARGE] * large


def test_the_orientation_of_a_png_with_large_texts_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(picture(), "PNG", exif=exif)
    image = read(tmp_path / "a.png", with_text(content, after_pixels=False, kind=b"zTXt", size=3 << 20))
    assert image.size == (96, 128)
    assert kinds(image) == [LARGE]


def test_a_progressive_jpeg_of_many_scans_is_not_decoded(tmp_path):
    content = encoded(picture(), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    path = tmp_path / "a.jpg"
    path.write_bytes(content[:-2] + 120 * content[last:-2] + b"\xff\xd9")
    with pytest.raises(ImageError, match=r"progressive JPEG of 1\d\d scans; 100 are allowed; save it again"):
        read_image(path)


def test_pillows_settings_stay_as_they_are(tmp_path):
    before = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY, Image.MAX_IMAGE_PIXELS
    read(tmp_path / "a.png", encoded(picture(), "PNG", icc_profile=bytes(2_000_000)))
    assert before == (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY, Image.MAX_IMAGE_PIXELS)


# Depth


@pytest.mark.parametrize(
    ("values", "largest"),
    [((0, 4095), 4095), ((0, 1023), 1023), ((0, 16383), 16383), ((0, 65535), None), ((0, 20000), None), ((0, 0), None)],
)
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_that_are_hardly_used_are_noted(tmp_path, values, largest, ending):
    path = tmp_path / f"deep.{ending}"
    Image.fromarray(np.linspace(*values, 600).astype(np.uint16).reshape(20, 30)).save(path)
    assert [note.largest for note in notes_of(read_image(path))] == ([] if largest is None else [largest])
    image = read_image(path, channels=1)
    assert np.asarray(image).max() == values[1] // 257  # how values are read stays as it is


def test_colors_of_sixteen_bits_that_are_hardly_used_are_noted(tmp_path):
    """Pillow keeps the high byte of each value."""
    for top, largest in ((4095, [4095]), (65535, [])):
        rows = np.linspace(0, top, 8 * 5 * 3).astype(">u2").reshape(8, 15)
        content = encoded(Image.new("RGB", (5, 8)), "PNG")
        header = struct.pack(">IIBBBBB", 5, 8, 16, 2, 0, 0, 0)
        data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))

        def chunk(kind, body):
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

        path = tmp_path / "deep.png"
        path.write_bytes(content[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
        assert [note.largest for note in notes_of(read_image(path))] == largest


@pytest.mark.parametrize(
    ("values", "words"), [((0, 255), "nearly black"), ((-5, 60000), "cut off"), ((0, 70000), "off")]
)
def test_values_of_32_bits_beyond_the_range_or_far_below_it_are_noted(tmp_path, values, words):
    path = tmp_path / "wide.tif"
    Image.fromarray(np.linspace(*values, 600).astype(np.int32).reshape(20, 30)).save(path)
    (kind,) = kinds(read_image(path))
    assert words in kind


def test_notes_survive_rotation_and_shrinking_and_are_summarized(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(picture(), "JPEG", quality=90, exif=exif)[:-2]
    image = read(tmp_path / "a.jpg", content, shrink=lambda size: 3.0, channels=1)
    assert kinds(image) == [NO_END]
    (note,) = notes_of(image)
    lines = summarize_notes([("b.jpg", note), ("a.jpg", note), ("a.jpg", note)])
    assert lines == [f"2 images read {NO_END}: a.jpg, b.jpg"]
