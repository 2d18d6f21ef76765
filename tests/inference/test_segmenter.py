"""Segmentation with a trained model: images of all forms and sizes."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from scenes import COLORS, NAMES
from segments import save_untrained

import volo
from volo.data import ImageError
from volo.inference import Predictor, Segmenter
from volo.models import create_model, save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_untrained(tmp_path_factory.mktemp("runs") / "model")


@pytest.fixture(scope="module")
def segmenter(folder):
    return Segmenter(folder, device="cpu")


def pixels(seed=0, height=40, width=50):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)).copy()


def whole(segmenter, array):
    """Return the model's logits of the whole image, without windows."""
    batch = torch.from_numpy(array)[None].permute(0, 3, 1, 2)
    with torch.no_grad():
        return volo.optimize_for_inference(segmenter.model)(segmenter.preprocessing.normalize(batch))[0]


def test_every_form_of_an_image_gives_the_same_mask(segmenter, tmp_path):
    array = pixels()
    Image.fromarray(array).save(tmp_path / "image.png")
    expected = segmenter(tmp_path / "image.png")
    assert len(np.unique(expected.mask)) > 1
    for form in (str(tmp_path / "image.png"), Image.fromarray(array), array, torch.from_numpy(array).permute(2, 0, 1)):
        np.testing.assert_array_equal(segmenter(form).mask, expected.mask)


def test_one_window_of_the_image_size_gives_the_logits_of_the_whole_image(folder, segmenter):
    array = pixels(1, 75, 61)
    covering = Segmenter(folder, device="cpu", window=80)
    logits = whole(covering, array)
    np.testing.assert_array_equal(covering(array).mask, logits.argmax(0).numpy())
    assert torch.equal(covering.probabilities(array), logits.softmax(0))
    assert not torch.equal(segmenter.probabilities(array), logits.softmax(0))


def test_a_segmentation_has_mask_shares_and_colors_of_each_class(segmenter):
    result = segmenter(pixels(2, 90, 70))
    assert (result.mask.shape, result.mask.dtype) == ((90, 70), np.uint8)
    assert (result.class_names, result.class_colors) == (NAMES, COLORS)
    assert result.shares == pytest.approx([(result.mask == index).mean() for index in range(4)])
    picture = result.to_pil()
    assert (picture.mode, picture.size) == ("P", (70, 90))
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), np.array(COLORS, np.uint8)[result.mask])


def test_windows_have_the_size_of_the_training_crops_by_default(folder, segmenter):
    assert (segmenter.sliding.window, segmenter.sliding.stride) == ((32, 48), (21, 32))
    other = Segmenter(folder, device="cpu", window=(30, 60), stride=30, scales=[0.5, 1], flip=True).sliding
    assert (other.window, other.stride, other.scales, other.flip) == ((30, 60), (30, 30), (0.5, 1.0), True)
    with pytest.raises(ValueError, match=r"stride must be 1 to the window's sides, 16 down and 16 across"):
        Segmenter(folder, device="cpu", window=16, stride=20)


def test_images_are_resized_to_the_training_size_and_masks_back(tmp_path):
    small = Segmenter(save_untrained(tmp_path / "small", short_side=30), device="cpu", window=64)
    array = pixels(3, 60, 80)
    resized = np.asarray(Image.fromarray(array).resize((40, 30), Image.Resampling.BILINEAR)).copy()
    logits = F.interpolate(whole(small, resized)[None], size=(60, 80), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(small.probabilities(array), logits.softmax(0), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(small(array).mask, logits.argmax(0).numpy())


def test_views_are_averaged(folder):
    array = pixels(4, 40, 44)
    both = Segmenter(folder, device="cpu", window=64, flip=True)
    mirrored = whole(both, array[:, ::-1].copy()).flip(-1)
    expected = (whole(both, array).softmax(0) + mirrored.softmax(0)) / 2
    torch.testing.assert_close(both.probabilities(array), expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(both(array).mask, expected.argmax(0).numpy())


def test_images_are_taken_only_when_a_mask_is_requested(segmenter):
    taken = []

    def images():
        for seed in range(3):
            taken.append(seed)
            yield pixels(seed)

    masks = segmenter.predict(images())
    assert taken == []
    np.testing.assert_array_equal(next(masks).mask, segmenter(pixels(0)).mask)
    assert taken == [0]
    assert len(list(masks)) == 2


def test_a_model_of_five_channels_takes_arrays(tmp_path):
    five = Segmenter(save_untrained(tmp_path / "five", channels=5), device="cpu", window=64)
    planes = np.dstack([pixels(), pixels(1)[..., :2]])
    np.testing.assert_array_equal(five(planes).mask, whole(five, planes).argmax(0).numpy())
    with pytest.raises(ValueError, match=r"an array image must be \(H, W, 5\) uint8"):
        five(pixels())


def test_unreadable_files_and_tensors_of_another_dtype_are_errors(segmenter, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ImageError, match=r"cannot read image .*text\.jpg"):
        segmenter(tmp_path / "text.jpg")
    with pytest.raises(ValueError, match=r"a tensor image must be"):
        segmenter(torch.zeros(3, 8, 8))


def test_a_model_of_the_other_task_is_an_error_that_names_the_right_class(folder, tmp_path):
    with pytest.raises(ValueError, match=r"is a segmentation model, not a classifier; use volo\.Segmenter"):
        Predictor(folder)
    model = create_model("volo_micro_32", num_classes=2)
    save_model(tmp_path, model.config, model.state_dict(), class_names=("a", "b"), preprocessing={"size": [32, 32]})
    with pytest.raises(ValueError, match=r"is not a segmentation model; use volo\.Predictor"):
        Segmenter(tmp_path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.nan, r"the weights of .* have values that are not finite in head\.1\.weight \(1 of"),
        (3e38, r"the weights of .*broken cannot be used: the outputs are not finite"),
    ],
)
def test_weights_or_outputs_that_are_not_finite_are_an_error(tmp_path, value, message):
    broken = save_untrained(tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["head.1.weight"][0] = value
    save_file(weights, broken / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        Segmenter(broken, device="cpu")(pixels())


def test_preprocessing_of_another_number_of_channels_is_an_error(tmp_path):
    folder = save_untrained(tmp_path / "gray")
    config = json.loads((folder / "config.json").read_text())
    config["preprocessing"].update(mean=[0.5], std=[0.5])
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="takes 3 channels, but its preprocessing gives 1"):
        Segmenter(folder)


def test_an_overlay_with_an_image_of_another_size_is_an_error(segmenter):
    result = segmenter(pixels())
    overlay = result.overlay(Image.fromarray(pixels()))
    assert overlay.mode == "RGB"
    with pytest.raises(ValueError, match="must have the size of the mask, 50×40 pixels, not 40×50"):
        result.overlay(Image.fromarray(pixels(0, 50, 40)))
    with pytest.raises(ValueError, match="opacity must be 0 to 1, not 2"):
        result.overlay(Image.fromarray(pixels()), opacity=2)


def test_the_package_root_exports_segmenter():
    assert volo.Segmenter is Segmenter


def test_an_image_that_would_become_too_large_is_an_error(tmp_path):
    segmenter = Segmenter(save_untrained(tmp_path / "model", short_side=512), device="cpu")
    with pytest.raises(ImageError, match=r"an image of 60,000×1 pixels is too long: .* enlarged to 512 pixels"):
        segmenter(Image.new("RGB", (60_000, 1)))
