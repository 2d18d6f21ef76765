"""Reading one image, and the sets of labeled images."""

import io
import os
import re
import struct
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from volo.data import (
    ArrayImages,
    FileImages,
    ImageError,
    image_extensions,
    load_upright,
    open_data,
    read_image,
    with_channels,
)
from volo.data import images as images_module
from volo.data.images import Converted

ORIENTATION = 0x0112


#: Orientation → the operation that makes the stored image upright.
UPRIGHT = {
    1: lambda stored: stored,
    2: ImageOps.mirror,
    3: lambda stored: stored.rotate(180),
    4: ImageOps.flip,
    5: lambda stored: stored.transpose(Image.Transpose.TRANSPOSE),
    6: lambda stored: stored.rotate(-90, expand=True),
    7: lambda stored: stored.transpose(Image.Transpose.TRANSVERSE),
    8: lambda stored: stored.rotate(90, expand=True),
}


def picture(height: int = 24, width: int = 40) -> np.ndarray:
    """A smooth picture without any symmetry, (H, W, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([5 * x, 9 * y, 200 - 3 * x - 2 * y], axis=-1).astype(np.uint8)


@pytest.fixture
def colors(tmp_path):
    path = tmp_path / "colors.png"
    Image.fromarray(picture()).save(path)
    return path


def wave(height: int, width: int) -> np.ndarray:
    """A picture of smooth waves of 40 pixels and more, (H, W, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 9 + y / 31), np.sin(y / 8), np.cos(x / 23 - y / 12)]
    return (128 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


# Smaller versions


@pytest.mark.parametrize("ending", ["jpg", "png"])
@pytest.mark.parametrize(("factor", "size"), [(1.0, (480, 320)), (1.9, (480, 320)), (2.5, (240, 160)), (8.9, (60, 40))])
def test_an_image_is_read_at_a_smaller_size_if_allowed(tmp_path, ending, factor, size):
    path, asked = tmp_path / f"wave.{ending}", []
    Image.fromarray(wave(320, 480)).save(path, quality=95)
    small = read_image(path, shrink=lambda full: asked.append(full) or factor)
    assert asked == [(480, 320)]
    assert small.size == size
    expected = np.asarray(read_image(path).resize(size, Image.Resampling.BOX)).astype(int)
    assert np.abs(np.asarray(small) - expected).mean() < 1.5
    if factor < 2:
        np.testing.assert_array_equal(np.asarray(small), expected)


@pytest.mark.parametrize("orientation", [3, 6])
def test_shrink_gets_the_size_of_the_upright_image(tmp_path, orientation):
    path, asked, exif = tmp_path / "turned.jpg", [], Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(wave(320, 480)).save(path, exif=exif)
    small = read_image(path, shrink=lambda full: asked.append(full) or 4.0)
    assert asked == [(320, 480) if orientation == 6 else (480, 320)]
    assert small.size == tuple(side // 4 for side in asked[0])


# Formats and modes


def test_png_pixels_come_back_unchanged(colors):
    assert read_image(colors).mode == "RGB"
    np.testing.assert_array_equal(np.asarray(read_image(colors)), picture())
    np.testing.assert_array_equal(np.asarray(read_image(str(colors))), picture())


def test_jpeg_pixels_come_back_nearly_unchanged(tmp_path):
    path = tmp_path / "picture.jpg"
    Image.fromarray(picture()).save(path, quality=98, subsampling=0)
    difference = np.asarray(read_image(path)).astype(int) - picture()
    assert np.abs(difference).max() <= 4


def test_color_read_as_gray_is_its_luma(colors):
    gray = read_image(colors, channels=1)
    assert gray.mode == "L"
    np.testing.assert_allclose(np.asarray(gray), picture() @ [0.299, 0.587, 0.114], atol=0.51)


def test_gray_read_as_color_has_three_equal_channels_and_converts_back_exactly(tmp_path):
    gray = picture()[..., 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    color = read_image(tmp_path / "gray.png")
    np.testing.assert_array_equal(np.asarray(color), np.repeat(gray[..., None], 3, axis=-1))
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "gray.png", channels=1)), gray)
    np.testing.assert_array_equal(np.asarray(color.convert("L")), gray)


def over(colors: np.ndarray, alpha: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """Blend colors (…, 3) with a background by their alpha (…), 0–255."""
    share = alpha[..., None] / 255
    return colors * share + np.asarray(background) * (1 - share)


@pytest.mark.parametrize(
    ("background", "values"), [(None, (255, 255, 255)), ("black", (0, 0, 0)), ("#204060", (32, 64, 96))]
)
@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_the_background_replaces_transparency(tmp_path, background, values, ending):
    alpha = np.linspace(0, 255, 24 * 40).reshape(24, 40).astype(np.uint8)
    path = tmp_path / f"clear.{ending}"
    Image.fromarray(np.dstack([picture(), alpha])).save(path, **({"lossless": True} if ending == "webp" else {}))
    read = np.asarray(read_image(path, **({"background": background} if background else {})))
    if ending == "webp":  # which does not keep the colors of what cannot be seen
        alpha, read = alpha[1:], read[1:]
    np.testing.assert_allclose(read, over(picture()[-len(alpha) :], alpha, values), atol=1)


def test_four_channels_keep_the_transparency(tmp_path):
    pixels = np.dstack([picture(), picture()[..., 0]])
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    Image.fromarray(picture()).save(tmp_path / "solid.png")
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "clear.png", 4)), pixels)
    solid = np.asarray(read_image(tmp_path / "solid.png", 4))
    np.testing.assert_array_equal(solid, np.dstack([picture(), np.full((24, 40), 255, np.uint8)]))


@pytest.mark.parametrize(
    ("ending", "transparency", "alpha"),
    [
        ("png", None, [255] * 4),
        ("png", 1, [255, 0, 255, 255]),
        ("png", b"\x00\x80\xff\xff", [0, 128, 255, 255]),
        ("gif", None, [255] * 4),
        ("gif", 1, [255, 0, 255, 255]),
    ],
)
def test_palettes_and_their_transparency_are_converted(tmp_path, ending, transparency, alpha):
    palette = np.array([[250, 10, 0], [0, 200, 30], [9, 8, 7], [40, 0, 255]], np.uint8)
    indices = np.arange(24).reshape(4, 6).astype(np.uint8) % 4
    image = Image.frombytes("P", (6, 4), indices.tobytes())
    image.putpalette(palette.tobytes())
    path = tmp_path / f"palette.{ending}"
    image.save(path, **({} if transparency is None else {"transparency": transparency}))
    with Image.open(path) as stored:
        assert stored.mode == "P"
    expected = over(palette, np.array(alpha), (255, 255, 255))[indices]
    np.testing.assert_allclose(np.asarray(read_image(path)), expected, atol=1)


def test_gray_with_transparency_and_a_color_named_transparent(tmp_path):
    gray, alpha = picture()[..., 0], picture()[..., 1]
    Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)]).save(tmp_path / "la.png")
    expected = over(np.repeat(gray[..., None], 3, axis=2), alpha, (255, 255, 255))
    np.testing.assert_allclose(np.asarray(read_image(tmp_path / "la.png")), expected, atol=1)
    np.testing.assert_allclose(np.asarray(read_image(tmp_path / "la.png", 1)), expected[..., 0], atol=1)
    key = tuple(int(value) for value in picture()[3, 4])
    Image.fromarray(picture()).save(tmp_path / "key.png", transparency=key)
    expected = np.where((picture() == key).all(axis=2, keepdims=True), 255, picture())
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "key.png")), expected)


def test_black_and_white_becomes_0_and_255(tmp_path):
    bits = picture()[..., 0] > 100
    Image.fromarray(bits).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "bits.png", channels=1)), bits * np.uint8(255))


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, channels):
    deep = (np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    read = np.asarray(read_image(tmp_path / "deep.png", channels)).reshape(64, 64, -1)[..., 0]
    np.testing.assert_allclose(read, deep / 257, atol=1)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda stored: stored),
        (2, lambda stored: stored[:, ::-1]),
        (3, lambda stored: stored[::-1, ::-1]),
        (4, lambda stored: stored[::-1]),
        (5, lambda stored: stored.swapaxes(0, 1)),
        (6, lambda stored: np.rot90(stored, -1)),
        (7, lambda stored: stored[::-1, ::-1].swapaxes(0, 1)),
        (8, lambda stored: np.rot90(stored, 1)),
    ],
)
def test_exif_orientation_is_applied(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(picture()).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "turned.png")), upright(picture()))


def test_the_exif_orientation_is_applied_only_once(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(picture()).save(tmp_path / "turned.png", exif=exif)
    once = read_image(tmp_path / "turned.png")
    np.testing.assert_array_equal(np.asarray(load_upright(once, 3)), np.asarray(once))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "avif", "mpo", "tif"])
def test_the_size_before_decoding_and_every_way_to_open_a_file_agree(tmp_path, ending, mode):
    """Pillow itself rotates some formats when it decodes them, and some versions give the rotated size before.

    Gray TIFFs are mapped into memory, and a Pillow that gives the rotated size before scrambles them.
    """
    if f".{ending}" not in image_extensions():
        pytest.skip("not built into this Pillow")
    path = tmp_path / f"turned.{ending}"
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        stored = Image.fromarray(wave(24, 40)).convert(mode)
        more = {"save_all": True, "append_images": [stored]} if ending == "mpo" else {}
        stored.save(path, exif=exif, quality=100, **more)
        asked = []
        read = read_image(path, shrink=lambda size, asked=asked: asked.append(size) or 1.0)
        assert asked == [read.size] == [(24, 40) if orientation > 4 else (40, 24)]
        expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(path.read_bytes()))).convert("RGB"))
        np.testing.assert_array_equal(np.asarray(read), expected)
        if ending == "tif":
            np.testing.assert_array_equal(expected, np.asarray(UPRIGHT[orientation](stored).convert("RGB")))
        loaded = Image.open(io.BytesIO(path.read_bytes()))
        loaded.load()
        for image in (Image.open(path), loaded, Image.open(io.BytesIO(path.read_bytes()))):
            np.testing.assert_array_equal(np.asarray(load_upright(image, 3)), expected)


def test_a_tiff_whose_size_pillow_does_not_rotate_in_advance_is_read_alike(tmp_path, monkeypatch):
    """As by older versions of Pillow."""
    path, setup, asked = tmp_path / "turned.tif", TiffImageFile._setup, []

    def older(image):
        setup(image)
        image._size = image.tag_v2[256], image.tag_v2[257]

    Image.fromarray(picture()).save(path, tiffinfo={ORIENTATION: 6})
    monkeypatch.setattr(TiffImageFile, "_setup", older)
    monkeypatch.setattr(TiffImageFile, "load_prepare", lambda image: ImageFile.load_prepare(image))
    read = read_image(path, shrink=lambda size: asked.append(size) or 1.0)
    assert asked == [read.size] == [(24, 40)]
    np.testing.assert_array_equal(np.asarray(read), np.rot90(picture(), -1))


def test_the_orientation_is_applied_despite_unusual_metadata(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x011A] = 6, 72.0
    odd = exif.tobytes().replace(b"\x01\x1a", b"\x01\x1d")  # a resolution where a page's name belongs
    Image.fromarray(picture()).save(tmp_path / "odd.jpg", exif=odd)
    with Image.open(tmp_path / "odd.jpg") as stored, pytest.raises(AttributeError):
        ImageOps.exif_transpose(stored)
    assert read_image(tmp_path / "odd.jpg").size == (24, 40)


# Colors


def gamma_profile(gamma: float) -> bytes:
    """An RGB profile with sRGB's primaries and another curve: sRGB's own with its three curves replaced."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    (count,) = struct.unpack_from(">I", data, 128)
    for entry in range(132, 132 + 12 * count, 12):
        tag, offset, size = struct.unpack_from(">4sII", data, entry)
        if tag in (b"rTRC", b"gTRC", b"bTRC"):
            struct.pack_into(">II", data, entry + 4, len(data), len(curve))
        elif tag == b"desc":
            data[offset + 8 : offset + size] = bytes(data[offset + 8 : offset + size]).replace(
                b"s\0R\0G\0B", b"l\0i\0n\0e"
            )
    data += curve
    struct.pack_into(">I", data, 0, len(data))
    return bytes(data)


def srgb_of_linear(values: np.ndarray) -> np.ndarray:
    """Source: IEC 61966-2-1."""
    linear = values / 255
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return 255 * curved


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_an_embedded_profile_is_converted_to_srgb(tmp_path, ending):
    path = tmp_path / f"linear.{ending}"
    flat = np.full((16, 16, 3), (40, 120, 200), np.uint8)
    Image.fromarray(flat).save(path, icc_profile=gamma_profile(1.0), **({"quality": 95} if ending != "tif" else {}))
    np.testing.assert_allclose(np.asarray(read_image(path)), srgb_of_linear(flat), atol=5)


def test_a_profile_leaves_transparency_alone(tmp_path):
    pixels = np.dstack([picture(), picture()[..., 0]])
    Image.fromarray(pixels).save(tmp_path / "clear.png", icc_profile=gamma_profile(1.0))
    read = np.asarray(read_image(tmp_path / "clear.png", 4))
    np.testing.assert_array_equal(read[..., 3], pixels[..., 3])
    np.testing.assert_allclose(read[..., :3], srgb_of_linear(picture()), atol=2)


def test_srgb_itself_and_a_broken_profile_change_nothing(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number, profile in enumerate((srgb, b"no profile at all", gamma_profile(1.0)[:300])):
        path = tmp_path / f"{number}.png"
        Image.fromarray(picture()).save(path, icc_profile=profile)
        np.testing.assert_array_equal(np.asarray(read_image(path)), picture())


def test_a_profile_made_for_another_mode_is_ignored(tmp_path):
    Image.fromarray(picture()[..., 0]).save(tmp_path / "gray.png", icc_profile=gamma_profile(1.0))
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "gray.png", 1)), picture()[..., 0])


def test_cmyk_jpegs_keep_their_colors(tmp_path):
    """Pillow stores them inverted with an Adobe marker, as print software does."""
    path = tmp_path / "print.jpg"
    flat = np.full((16, 16, 3), (200, 90, 30), np.uint8)
    Image.fromarray(flat).convert("CMYK").save(path, quality=98)
    with Image.open(path) as stored:
        assert stored.mode == "CMYK"
        assert "adobe" in stored.info
    np.testing.assert_allclose(np.asarray(read_image(path)), flat, atol=4)


# Kinds of files


@pytest.mark.parametrize(
    "ending", ["avif", "bmp", "gif", "ico", "jp2", "pcx", "png", "ppm", "qoi", "tga", "tif", "webp"]
)
def test_kinds_of_files_that_pillow_reads(tmp_path, ending):
    if f".{ending}" not in image_extensions():
        pytest.skip("not built into this Pillow")
    path = tmp_path / f"picture.{ending.upper()}"
    flat = np.full((32, 32, 3), (200, 90, 30), np.uint8)
    Image.fromarray(flat).save(path)
    np.testing.assert_allclose(np.asarray(read_image(path)), flat, atol=4)


def test_the_first_frame_of_a_file_is_read(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "green")]
    for ending in ("gif", "tif", "png", "webp"):
        path = tmp_path / f"many.{ending}"
        frames[0].save(
            path, save_all=True, append_images=frames[1:], **({"lossless": True} if ending == "webp" else {})
        )
        assert read_image(path).getpixel((3, 3)) == (255, 0, 0)


def test_heif_is_read_by_its_plug_in_with_any_file_extension(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    flat = np.full((64, 64, 3), (200, 90, 30), np.uint8)
    buffer = io.BytesIO()
    heif.from_pillow(Image.fromarray(flat)).save(buffer)
    for name in ("phone.heic", "renamed.jpg"):
        (tmp_path / name).write_bytes(buffer.getvalue())
        np.testing.assert_allclose(np.asarray(read_image(tmp_path / name)), flat, atol=4)
    assert ".heic" in image_extensions()


def test_the_error_for_heif_names_the_missing_plug_in(tmp_path, monkeypatch):
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(images_module, "_register_heif", images_module._register_heif.__wrapped__)
    with pytest.raises(ImageError, match=r"not an image that Pillow can read; for HEIF: pip install pillow-heif$"):
        read_image(tmp_path / "phone.heic")


def test_floating_point_pixels_are_an_error(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ImageError, match=r"float\.tif: its pixels are floating-point numbers"):
        read_image(tmp_path / "float.tif")


# Files that cannot be read


def unreadable(path, reason: str) -> str:
    """The pattern of the message about ``path``."""
    return f"^cannot read image {re.escape(str(path))}: {reason}"


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "tif"])
def test_the_error_for_a_truncated_file_contains_its_path(tmp_path, ending):
    path = tmp_path / f"half.{ending}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    cut(path, 0.5)
    with pytest.raises(ImageError, match=unreadable(path, ".")):
        read_image(path)


def test_the_error_for_a_corrupt_file_contains_its_path(colors):
    data = bytearray(colors.read_bytes())
    middle = data.index(b"IDAT") + 12
    data[middle : middle + 20] = bytes(20)
    colors.write_bytes(data)
    with pytest.raises(ImageError, match=unreadable(colors, ".")):
        read_image(colors)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "the file is empty$"), (b"no image\n" * 50, "not an image that Pillow can read$")]
)
def test_the_error_for_a_file_that_is_not_an_image_contains_its_path(tmp_path, content, reason):
    path = tmp_path / "text.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=unreadable(path, reason)):
        read_image(path)


def test_a_missing_file_and_a_folder_are_errors(tmp_path):
    with pytest.raises(ImageError, match=unreadable(tmp_path / "gone.png", "No such file or directory$")):
        read_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match=unreadable(tmp_path, ".")):
        read_image(tmp_path)


def bitmap_header(width: int, height: int) -> bytes:
    """A BMP of that size by its header, without any pixels."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def test_an_image_of_too_many_pixels_is_rejected_by_its_header(tmp_path):
    path = tmp_path / "huge.bmp"
    path.write_bytes(bitmap_header(20_000, 10_000))
    reason = r"Image size \(200000000 pixels\) exceeds limit of 178956970 pixels; --max-pixels raises it"
    with pytest.raises(ImageError, match=unreadable(path, reason)):
        read_image(path)


@pytest.mark.parametrize("allowed", [959, 960])
def test_the_limit_of_pixels_can_be_set(colors, allowed):
    if allowed == 960:
        assert read_image(colors, max_pixels=960).size == (40, 24)
    else:
        with pytest.raises(ImageError, match=r"\(960 pixels\) exceeds limit of 959 pixels; --max-pixels raises it"):
            read_image(colors, max_pixels=959)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_limit_above_pillows_raises_that_of_pillow(colors, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 40 // 3)
    with pytest.raises(ImageError, match=r"\(960 pixels\) exceeds limit of 640 pixels; --max-pixels raises it"):
        read_image(colors, max_pixels=640)
    assert Image.MAX_IMAGE_PIXELS == 320
    assert read_image(colors, max_pixels=961).size == (40, 24)


def test_pillows_warnings_do_not_prevent_reading_and_the_filters_stay_as_they_are(colors, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 40 - 1)
    before = list(warnings.filters)
    with pytest.warns(Image.DecompressionBombWarning):
        assert read_image(colors, max_pixels=2 * 24 * 40 - 2).size == (40, 24)
    assert warnings.filters == before


@pytest.mark.skipif(sys.platform != "linux", reason="a file system that takes any bytes as names")
def test_names_that_are_not_text_are_shown_escaped(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\n.png"))
    Image.fromarray(picture()).save(path)
    assert read_image(path).size == (40, 24)
    name = FileImages([path], [0], ("one",)).name(0)
    assert name.endswith("/caf\\xe9\\n.png")
    name.encode("utf-8")
    path.write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"caf\\xe9\\n\.png: not an image"):
        read_image(path)


# Sets of images


def test_files_are_read_by_index_and_their_name_is_the_path(colors):
    images = FileImages([colors], [0], ("one",))
    assert images.name(0) == str(colors)
    np.testing.assert_array_equal(np.asarray(images.read(0)), picture())


def test_arrays_are_gray_or_color_by_their_shape():
    color, gray = picture()[None], picture()[None, ..., 1]
    for array, channels, mode in ((color, 3, "RGB"), (gray, 1, "L")):
        images = ArrayImages(array, [0], ("one",))
        assert (images.channels, images.read(0).mode, images.name(0)) == (channels, mode, "#0")
        np.testing.assert_array_equal(np.asarray(images.read(0)), array[0])


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_images_are_converted_and_keep_names_and_labels(channels, mode):
    array = picture()[None] if channels == 1 else picture()[None, ..., 0]
    images = ArrayImages(array, [4], ("a", "b", "c", "d", "e"))
    converted = with_channels(images, channels)
    assert isinstance(converted, Converted)
    assert converted.channels == channels
    assert (converted.labels, converted.class_names) == (images.labels, images.class_names)
    assert converted.name(0) == "#0"
    assert converted.read(0).mode == mode
    np.testing.assert_array_equal(np.asarray(converted.read(0)), np.asarray(images.read(0).convert(mode)))


def test_images_with_the_right_channels_are_not_wrapped():
    images = ArrayImages(picture()[None], [0], ("one",))
    assert with_channels(images, 3) is images


# The embedded data set


@pytest.fixture(scope="module")
def fashion():
    return open_data("fashion-mini")


def test_fashion_mini_has_equal_classes_of_gray_images(fashion):
    for images, per_class in zip(fashion, (1000, 200), strict=True):
        assert images.images.shape == (10 * per_class, 28, 28)
        assert images.images.dtype == np.uint8
        assert images.channels == 1
        assert np.bincount(images.labels).tolist() == [per_class] * 10
        assert len(images.class_names) == len(set(images.class_names)) == 10
        assert (images.read(0).mode, images.read(0).size) == ("L", (28, 28))


def test_fashion_mini_shares_no_image_between_training_and_validation(fashion):
    train, val = ({image.tobytes() for image in images.images} for images in fashion)
    assert not train & val


def test_fashion_mini_labels_belong_to_the_images(fashion):
    train, val = fashion
    flat = train.images.reshape(len(train.labels), -1).astype(np.float32)
    centers = np.stack([flat[np.asarray(train.labels) == label].mean(axis=0) for label in range(10)])
    distances = ((val.images.reshape(-1, 1, 784) - centers) ** 2).mean(axis=-1)
    assert (distances.argmin(axis=1) == np.asarray(val.labels)).mean() > 0.6
