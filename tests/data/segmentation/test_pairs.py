"""Folders of images with masks in every layout, and the errors for invalid ones."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import COLORS, NAMES, make_scenes, save_mask, scene

from volo.data import (
    IGNORE,
    DataSource,
    MaskError,
    holds_masks,
    inspect_masks,
    open_data,
    open_splits,
    open_validation_data,
    with_channels,
)


def put(image, mask, pixels, indices, kind="gray"):
    """Write one image and its mask."""
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(image)
    save_mask(indices, mask, kind)


def put_values(root, names, values):
    """Write pairs of 4×3 pixels: (image, mask) below ``root``, the masks holding ``values``."""
    for image, mask in names:
        indices = np.resize(np.array(values, np.uint8), (3, 4))
        put(root / image, root / mask, np.zeros((3, 4, 3), np.uint8), indices)
    return str(root)


def opened(path, **source):
    splits = open_splits(str(path), task="segmentation", source=DataSource(**source))
    return {split: opener() for split, opener in splits.items()}


# Layouts


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images/train/{}.png", "masks/train/{}.png"),
        ("train/images/{}.png", "train/masks/{}.png"),
        ("Training/Images/{}.png", "Training/Labels/{}_mask.png"),
        ("train/img/deep/er/{}.jpg", "train/annotations/deep/er/{}.png"),
    ],
)
def test_split_folders_may_be_outside_or_inside_the_two_folders(tmp_path, images, masks):
    for name in ("a", "b.c"):
        pixels, indices = scene(np.random.default_rng(len(name)))
        put(tmp_path / images.format(name), tmp_path / masks.format(name), pixels, indices)
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    assert holds_masks(str(tmp_path))
    splits = opened(tmp_path)
    assert list(splits) == ["train"]
    assert [path.stem for path in splits["train"].image_paths] == ["a", "b.c"]
    assert [path.name for path in splits["train"].mask_paths] == [
        Path(masks).name.format(name) for name in ("a", "b.c")
    ]
    for number, name in enumerate(("a", "b.c")):
        np.testing.assert_array_equal(splits["train"].read_mask(number), scene(np.random.default_rng(len(name)))[1])


def test_without_splits_some_pairs_are_held_out(tmp_path):
    root = make_scenes(tmp_path, parts=(("", 10),))
    assert list(opened(root)) == ["all"]
    train, val = open_data(str(root), task="segmentation", val_fraction=0.3, seed=1)
    assert (len(train), len(val)) == (7, 3)
    assert {*train.image_paths, *val.image_paths} == set(opened(root)["all"].image_paths)
    assert all(a.name == b.name for a, b in zip(val.image_paths, val.mask_paths, strict=True))
    again = open_data(str(root), task="segmentation", val_fraction=0.3, seed=1)
    other = open_data(str(root), task="segmentation", val_fraction=0.3, seed=2)
    assert again[1].image_paths == val.image_paths != other[1].image_paths
    with pytest.raises(ValueError, match=r"must lie between 0 and 1, not 1\.5"):
        open_data(str(root), task="segmentation", val_fraction=1.5)


def test_the_split_to_evaluate_is_val_or_the_chosen_one(tmp_path):
    root = str(make_scenes(tmp_path, parts=(("train", 3), ("val", 2), ("test", 1))))
    lengths = [len(open_validation_data(root, task="segmentation", split=split)) for split in (None, "test", "train")]
    assert lengths == [2, 1, 3]
    assert [len(images) for images in open_data(root, task="segmentation")] == [3, 2]
    with pytest.raises(ValueError, match="no split 'tast'; did you mean 'test'"):
        open_validation_data(root, task="segmentation", split="tast")


def test_camvid_as_segnets_authors_publish_it(tmp_path):
    for split in ("train", "val", "test"):
        put_values(tmp_path, [(f"{split}/1.png", f"{split}annot/1.png")], range(12))
    splits = opened(tmp_path)
    assert list(splits) == ["train", "val", "test"]
    assert len(splits["train"].class_names) == 11
    assert splits["train"].read_mask(0).reshape(-1).tolist() == [*range(11), IGNORE]


def test_camvid_as_its_own_authors_publish_it(tmp_path):
    images, masks = tmp_path / "701_StillsRaw_full", tmp_path / "LabeledApproved_full"
    put(images / "0001TP_006690.png", masks / "away.png", np.zeros((1, 3, 3), np.uint8), np.zeros((1, 3), np.uint8))
    (masks / "away.png").unlink()
    colors = [[(128, 0, 0), (192, 0, 128), (0, 0, 0)]]  # a building, an archway, void
    Image.fromarray(np.array(colors, np.uint8)).save(masks / "0001TP_006690_L.png")
    assert opened(tmp_path)["all"].read_mask(0).tolist() == [[1, 1, IGNORE]]


def test_ade20k(tmp_path):
    root = tmp_path / "ADEChallengeData2016"
    for split, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        put_values(root, [(f"images/{split}/{name}.jpg", f"annotations/{split}/{name}.png")], [0, 1, 150])
    splits = opened(root)
    assert list(splits) == ["train", "val"]
    assert splits["val"].class_names[:2] == ("wall", "building")
    assert splits["val"].read_mask(0).reshape(-1)[:3].tolist() == [IGNORE, 0, 149]


@pytest.mark.parametrize(("kind", "values"), [("labelIds", [7, 33, 4]), ("labelTrainIds", [0, 18, 255])])
def test_cityscapes(tmp_path, kind, values):
    for split in ("train", "val", "test"):
        name = "aachen_000000_000019"
        image, masks = f"leftImg8bit/{split}/aachen/{name}_leftImg8bit.png", f"gtFine/{split}/aachen/{name}_gtFine"
        put_values(tmp_path, [(image, f"{masks}_{kind}.png")], values)
        if kind == "labelTrainIds":  # created by users, beside the published masks
            put_values(tmp_path, [(image, f"{masks}_labelIds.png")], [7])
        put_values(tmp_path, [(image, f"{masks}_color.png"), (image, f"{masks}_instanceIds.png")], [1])
    splits = opened(tmp_path)
    assert list(splits) == ["train", "val"]  # the masks of the test split are not published
    assert len(splits["val"].class_names) == 19
    assert splits["val"].read_mask(0).reshape(-1)[:3].tolist() == [0, 18, IGNORE]


def test_a_classes_file_replaces_the_classes_of_a_public_data_set(tmp_path):
    root = Path(put_values(tmp_path, [("train/1.png", "trainannot/1.png")], [0, 1]))
    (root / "mine.txt").write_text("dull\nbright")
    assert opened(root, classes=str(root / "mine.txt"))["train"].class_names == ("dull", "bright")
    assert opened(root, classes="dim,clear")["train"].class_names == ("dim", "clear")
    (root / "mine.txt").rename(root / "classes.txt")
    assert opened(root)["train"].class_names == ("dull", "bright")


def test_images_have_the_requested_channels(tmp_path):
    images = with_channels(opened(make_scenes(tmp_path))["val"], 1)
    assert images.read(0).mode == "L"
    assert images.name(0).endswith("val/images/0.png")


# Errors


def test_other_folders_do_not_hold_masks(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "masks").mkdir()
    for path in (str(tmp_path), str(tmp_path / "nowhere"), ""):
        assert not holds_masks(path)
    with pytest.raises(
        ValueError, match=r"has no images with masks; expected .*/images and .*/masks with files of the"
    ):
        opened(tmp_path)
    with pytest.raises(ValueError, match="there is no folder 'nowhere'"):
        opened("nowhere")


def test_missing_classes_are_an_error(tmp_path):
    root = make_scenes(tmp_path)
    (root / "classes.txt").unlink()
    with pytest.raises(
        ValueError, match=r"the classes of .* are unknown: write .*classes\.txt.* hold 0, 1, 2, 3, 255$"
    ):
        opened(root)
    with pytest.raises(ValueError, match=r"there is no classes file none\.txt"):
        opened(root, classes="none.txt")
    (root / "classes.txt").write_text("\n".join(NAMES))
    with pytest.raises(ValueError, match="cannot be read by colors: no color is given for sky, ground, ball, box;"):
        opened(root, palette=True)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("masks/1.png", r"^1 image has no mask in .*train/masks; add it, or remove the image: .*images/1\.png$"),
        ("images/2.png", r"^1 mask has no image in .*train/images; add it, or remove the mask: .*masks/2\.png$"),
        ("masks/?.png", r"^there are no masks in .*train/masks$"),
        ("images/?.png", r"^there are no images in .*train/images$"),
    ],
)
def test_files_without_a_partner_are_reported(tmp_path, gone, message):
    root = make_scenes(tmp_path)
    for path in (root / "train").glob(gone):
        path.unlink()
    with pytest.raises(ValueError, match=message):
        opened(root)


def test_no_matching_names_are_reported_with_an_example_of_each(tmp_path):
    root = make_scenes(tmp_path)
    for path in (root / "train/masks").iterdir():
        path.rename(path.with_name(f"m{path.name}"))
    with pytest.raises(
        ValueError,
        match=r"^no image in .* and mask in .* have the same name, for instance .*images/0\.png and .*masks/m0\.png",
    ):
        opened(root)


def test_two_files_of_one_name_are_an_error(tmp_path):
    root = make_scenes(tmp_path)
    Image.new("RGB", (72, 48)).save(root / "train/images/0.jpg")
    with pytest.raises(ValueError, match=r"images/0\.jpg and .*images/0\.png have the same name; keep one of them"):
        opened(root)


def test_a_mask_of_another_size_is_found_by_its_header(tmp_path):
    root = make_scenes(tmp_path)
    for number in (1, 2):
        save_mask(np.zeros((24, 36), np.uint8), root / f"train/masks/{number}.png")
    with pytest.raises(
        ValueError, match=r"^mask .*masks/1\.png has 36×24 pixels, its image .*images/1\.png 72×48 \(and 1 more\); make"
    ):
        opened(root)


def test_the_mask_must_fit_the_upright_image(tmp_path):
    root = make_scenes(tmp_path, parts=(("train", 2),))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(root / "train/images/0.png").save(root / "train/images/0.png", exif=exif)
    with pytest.raises(ValueError, match=r"has 72×48 pixels, its image .* 48×72 after its EXIF orientation is applied"):
        opened(root)
    mask = np.rot90(np.asarray(Image.open(root / "train/masks/0.png")), -1)
    save_mask(np.ascontiguousarray(mask), root / "train/masks/0.png")
    image, indices = opened(root)["train"].read_pair(0)
    colors = np.asarray(COLORS)[np.minimum(indices, 3)]
    assert abs(np.asarray(image).astype(int) - colors)[indices != IGNORE].max() <= 12


def test_a_pair_that_changed_after_opening_is_reported_when_it_is_read(tmp_path):
    images = opened(make_scenes(tmp_path))["val"]
    save_mask(np.zeros((2, 2), np.uint8), images.mask_paths[0])
    with pytest.raises(MaskError, match=r"has 2×2 pixels, its image .* 72×48"):
        images.read_pair(0)


# Inspection of masks before training


def test_good_and_unreadable_masks_pass_the_inspection(tmp_path):
    root = make_scenes(tmp_path)
    (root / "train/masks/1.png").write_text("no picture")
    assert inspect_masks(opened(root)["train"], "scenes") == []
    for path in (root / "train/masks").iterdir():
        path.write_text("no picture")
    assert inspect_masks(opened(root)["train"], "scenes") == []  # the run itself reports that no mask can be read


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((48, 72), 9, np.uint8), r"it holds values of no class: 9 \(3,456 pixels\); .* 0–3, 255"),
        (np.zeros((48, 72, 3), np.uint8), r"it is a color picture \(RGB\), not a picture of class indices"),
    ],
)
def test_an_invalid_mask_is_reported(tmp_path, mask, message):
    root = make_scenes(tmp_path)
    Image.fromarray(mask).save(root / "train/masks/2.png")
    with pytest.raises(ValueError, match=rf"masks/2\.png: {message}"):
        inspect_masks(opened(root)["train"], "scenes")


def filled(root, *values):
    for number, value in enumerate(values):
        save_mask(np.full((48, 72), value, np.uint8), root / f"train/masks/{number}.png")
    return opened(root)["train"]


def test_void_masks_are_counted_and_only_void_masks_are_an_error(tmp_path):
    root = make_scenes(tmp_path)
    (line,) = inspect_masks(filled(root, 255, 255), "scenes")
    assert line.startswith("2 masks of scenes are void: ")
    with pytest.raises(ValueError, match=r"^scenes: every pixel is void; two classes are needed \(ignored, .*: 255\)$"):
        inspect_masks(filled(root, 255, 255, 255, 255), "scenes")


def test_one_class_only_is_an_error(tmp_path):
    images = filled(make_scenes(tmp_path), 2, 255, 2, 2)
    with pytest.raises(ValueError, match=r"^scenes: every pixel is of one class, 'ball'; two classes are needed"):
        inspect_masks(images, "scenes")
    with pytest.raises(ValueError, match=r"^scenes: every pixel is of one class"):
        inspect_masks(images, "scenes", most=2)


def test_a_rare_class_is_found_outside_of_the_first_sample(tmp_path):
    assert inspect_masks(filled(make_scenes(tmp_path), 2, 1, 2, 2), "scenes", most=2) == []


def test_one_pair_cannot_be_split(tmp_path):
    root = make_scenes(tmp_path, parts=(("", 1),))
    with pytest.raises(ValueError, match="one image with its mask is too few to split"):
        open_data(str(root), task="segmentation")
