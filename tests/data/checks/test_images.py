"""The check of labeled images: its counts and findings for images with known faults."""

import json

import numpy as np
import pytest
from PIL import Image

from volo.data import open_splits
from volo.data.checks.contact_sheet import THUMBNAIL, Tile, contact_sheet, thumbnail_of
from volo.data.checks.images import MOST_EXAMPLES, check_images


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((60, 40), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """A train split of ten cats and a dog, a val split of both; with copies, a truncated file and a text file."""
    root = tmp_path_factory.mktemp("faulty")
    for part, name in (("train", "cat"), ("train", "dog"), ("val", "cat"), ("val", "dog")):
        (root / part / name).mkdir(parents=True)
    for number in range(10):
        picture(number).save(root / f"train/cat/{number}.png")
    picture(20).save(root / "train/dog/0.png")
    picture(3).save(root / "val/dog/same.bmp")
    picture(5).resize((90, 60)).save(root / "val/cat/near.jpg", quality=70)
    picture(30).save(root / "val/cat/half.jpg")
    half = root / "val/cat/half.jpg"
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    (root / "train/cat/text.jpg").write_text("no image")
    return root


@pytest.fixture(scope="module")
def report(faulty):
    return check_images({part: opener() for part, opener in open_splits(str(faulty)).items()})


def test_images_are_counted_by_class_and_split(report):
    assert report.counts == {"cat": {"train": 11, "val": 2}, "dog": {"train": 1, "val": 1}}
    assert report.imbalance == 11
    assert "strong imbalance: the largest class has 11 times as many images as the smallest" in report.findings()


def test_unreadable_files_are_reported_with_the_reason(report):
    text, half = report.unreadable
    assert (text.split, text.label) == ("train", "cat")
    assert text.problem.endswith("text.jpg: not an image that Pillow can read")
    assert "half.jpg: " in half.problem
    assert "truncated" in half.problem.lower()
    assert {text.problem, half.problem} <= set(report.findings())


def test_the_same_pixels_in_another_file_are_an_exact_duplicate(report):
    (group,) = report.exact
    assert [name.rpartition("/")[2] for name, *_ in group.images] == ["3.png", "same.bmp"]
    assert (group.across, group.conflict) == (True, True)
    assert any(line.startswith("exact duplicates (across splits, labels differ): ") for line in report.findings())


def test_a_picture_scaled_and_recompressed_is_a_near_duplicate(report):
    (group,) = report.near
    assert [name.rpartition("/")[2] for name, *_ in group.images] == ["5.png", "near.jpg"]
    assert (group.across, group.conflict) == (True, False)


def test_sizes_and_kinds_are_of_readable_images(report):
    assert report.sizes() == {"width": [60, 60, 90], "height": [40, 40, 60], "pixels": [2400, 2400, 5400]}
    assert report.to_dict()["kinds"] == {"PNG RGB": 11, "BMP RGB": 1, "JPEG RGB": 1}


def test_the_report_is_json_that_has_everything(report):
    values = json.loads(json.dumps(report.to_dict()))
    assert values["images"] == 15
    assert values["counts"] == report.counts
    assert len(values["unreadable"]) == 2
    assert values["exact_duplicates"][0]["images"][1]["class"] == "dog"
    assert values["findings"] == report.findings()


def test_worker_processes_find_the_same(report, faulty):
    again = check_images({part: opener() for part, opener in open_splits(str(faulty)).items()}, workers=2)
    assert again.to_dict() == report.to_dict()


def test_sound_data_have_no_findings_and_arrays_can_be_checked():
    seen = []
    val = open_splits("fashion-mini")["val"]()
    report = check_images({"val": val}, on_image=seen.append)
    assert sum(seen) == len(val.labels) == sum(row["val"] for row in report.counts.values())
    assert report.to_dict()["kinds"] == {"array": 2000}
    assert not [line for line in report.findings() if "duplicates" not in line]


def test_a_class_without_images_in_a_split_is_a_finding(tmp_path):
    for number, name in enumerate(("train/a/1.png", "train/b/2.png", "val/a/3.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(tmp_path / name)
    report = check_images({part: opener() for part, opener in open_splits(str(tmp_path)).items()})
    assert "the val split has no images of b" in report.findings()


def test_every_class_has_a_contact_sheet_with_images_of_all_splits(report):
    sheets = report.contact_sheets()
    assert list(sheets) == ["cat", "dog"]
    # Two rows of eight for 13 cats, the two bad ones as well; four columns at least.
    assert sheets["cat"].height > 2 * THUMBNAIL
    assert sheets["dog"].size[0] < sheets["cat"].size[0]
    assert np.asarray(sheets["dog"]).std() > 20


def test_the_contact_sheet_shows_images_at_even_steps():
    images = open_splits("fashion-mini")["val"]()
    shown = [image.thumbnail is not None for image in check_images({"val": images}).images]
    for label in range(10):
        places = np.flatnonzero(np.asarray(shown) & (np.asarray(images.labels) == label))
        assert len(places) == MOST_EXAMPLES


def test_a_contact_sheet_grows_with_its_tiles():
    sheet = contact_sheet(
        "a title " * 60, [Tile(thumbnail_of(picture(0)), ("a very long name of a file.png", "val"))] * 9
    )
    empty = contact_sheet("none", [Tile(None, ("broken.png",))])
    assert sheet.height > 2 * THUMBNAIL
    assert THUMBNAIL < empty.height < 2 * THUMBNAIL


@pytest.mark.parametrize("size", [(1, 1), (5000, 3), (28, 28), (300, 400)])
def test_thumbnails_fit_their_square(size):
    assert max(thumbnail_of(Image.new("RGB", size)).size) == THUMBNAIL
