"""Masks, overlays and legends as pictures."""

import numpy as np
import pytest
from PIL import Image

from volo.data import IGNORE, default_colors
from volo.inference.mask_files import MaskFolder, output_names
from volo.inference.mask_pictures import LARGEST, SMALLEST, legend, named_overlay, palette_picture
from volo.inference.segmenter import Segmentation

COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


def test_a_mask_is_stored_with_class_indices_and_a_palette(tmp_path):
    mask = np.random.default_rng(0).integers(0, 3, (30, 20), dtype=np.uint8)
    palette_picture(mask, COLORS).save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as stored:
        assert stored.mode == "P"
        np.testing.assert_array_equal(np.asarray(stored), mask)
        np.testing.assert_array_equal(np.asarray(stored.convert("RGB")), np.array(COLORS, np.uint8)[mask])


def test_an_overlay_blends_photo_and_colors_and_leaves_ignored_pixels():
    photo = Image.new("RGB", (400, 320), (100, 100, 100))
    mask = np.zeros((320, 400), np.uint8)
    mask[:160], mask[:, 200:] = 1, IGNORE
    picture = named_overlay(photo, mask, COLORS, ("a", "b", "c"), opacity=0.4)
    assert picture.width > 400
    assert picture.getpixel((10, 10)) == pytest.approx((60, 162, 60), abs=1)
    assert picture.getpixel((10, 300)) == pytest.approx((162, 60, 60), abs=1)
    assert picture.getpixel((300, 10)) == (100, 100, 100)


@pytest.mark.parametrize(
    ("size", "shown"), [((30, 24), (320, 256)), ((4000, 1000), (2048, 512)), ((500, 400), (500, 400))]
)
def test_large_photos_are_reduced_and_small_ones_enlarged(size, shown):
    assert (LARGEST, SMALLEST) == (2048, 320)
    mask = np.zeros(size[::-1], np.uint8)
    plain = named_overlay(Image.new("RGB", size), mask, COLORS, ("a", "b", "c"), opacity=1)
    pixels = np.asarray(plain)
    assert plain.height == shown[1]
    assert (pixels[:, : shown[0]] == COLORS[0]).all()
    assert not (pixels[:, shown[0] :] == COLORS[0]).all()


def test_a_legend_shows_every_class_and_an_overlay_as_many_as_fit():
    colors = default_colors(150)
    names = tuple(f"a class with a long name, number {n}" for n in range(150))
    several, one = legend(names, colors), legend(names[:3], colors)
    assert several.width > 3 * one.width
    assert {color for _, color in several.getcolors(several.width * several.height)} >= set(colors)
    mask = (np.arange(320 * 320) % 150).astype(np.uint8).reshape(320, 320)
    photo = Image.new("RGB", (320, 320))
    assert named_overlay(photo, mask, colors, names).height == 320
    assert named_overlay(Image.new("RGB", (2000, 10)), mask[:10].repeat(7, 1)[:, :2000], colors, names).height < 60


# Files


def test_files_have_the_names_of_their_images(tmp_path):
    paths = [tmp_path / name for name in ("a/1.jpg", "a/b/1.jpg", "a/2.jpg", "a/2.png")]
    assert list(output_names(paths).values()) == ["1", "b/1", "2.jpg", "2.png"]
    assert output_names([tmp_path / "x/photo.v2.jpg"]) == {tmp_path / "x/photo.v2.jpg": "photo.v2"}
    assert output_names([]) == {}


def segmentation(height=10, width=12):
    mask = np.zeros((height, width), np.uint8)
    mask[:, 0] = 2
    return Segmentation(mask, ("a", "b, c", "d"), COLORS, (1 - 1 / width, 0.0, 1 / width))


def open_folder(folder, paths, **options):
    return MaskFolder(folder, paths, ("a", "b, c", "d"), COLORS, **options)


def test_an_interrupted_folder_of_masks_contains_the_finished_images(tmp_path):
    out, paths = tmp_path / "out", [tmp_path / "a/1.jpg", tmp_path / "a/2.jpg"]

    def interrupted():
        with open_folder(out, paths) as files:
            files.write(paths[0], Image.new("RGB", (12, 10)), segmentation())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert written == ["legend.png", "masks/1.png", "overlays/1.jpg", "shares.csv"]
    lines = (out / "shares.csv").read_text().splitlines()
    assert lines == ['image,a,"b, c",d', f"{paths[0]},0.916667,0.000000,0.083333"]


def test_existing_files_are_replaced_only_with_overwrite(tmp_path):
    out, path = tmp_path / "out", tmp_path / "1.jpg"
    for _ in range(2):
        with open_folder(out, [path], overwrite=True) as files:
            files.write(path, Image.new("RGB", (12, 10)), segmentation())
    with pytest.raises(ValueError, match=r"legend\.png exists already, and 3 more of the files to write; name another"):
        open_folder(out, [path])
    with pytest.raises(ValueError, match=r"is a file; name a folder"):
        open_folder(out / "legend.png", [path])


def test_without_an_image_nothing_is_written(tmp_path):
    with open_folder(tmp_path / "out", [tmp_path / "1.jpg"]):
        pass
    assert list(tmp_path.iterdir()) == []
