"""Classification with a trained model: images of all forms, in batches of all sizes."""

import os
import pickle
import subprocess
import sys
import warnings
import weakref
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from volo.data import ImageError, Preprocessing
from volo.inference import Prediction, Predictor
from volo.inference.image_inputs import to_model_image
from volo.models import create_model, save_model

NAMES = ("ant", "bee", "cat")


def trained(folder, channels: int):
    """Save a small model with random weights whose predictions differ clearly from image to image."""
    folder.mkdir()
    torch.manual_seed(0)
    model = create_model("volo_micro_32", num_classes=3, in_chans=channels)
    for head in (model.head, model.aux_head):
        torch.nn.init.normal_(head.weight, std=0.3)
    mean = (0.4,) * channels
    preprocessing = Preprocessing(size=(32, 32), crop_pct=0.9, mean=mean, std=mean)
    save_model(folder, model.config, model.state_dict(), class_names=NAMES, preprocessing=asdict(preprocessing))
    return folder


@pytest.fixture(scope="module")
def color(tmp_path_factory):
    return Predictor(trained(tmp_path_factory.mktemp("runs") / "color", 3), device="cpu")


@pytest.fixture(scope="module")
def gray(tmp_path_factory):
    return Predictor(trained(tmp_path_factory.mktemp("runs") / "gray", 1), device="cpu")


def pixels(seed: int = 0, height: int = 40, width: int = 50) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)).copy()


def close(first: Prediction, second: Prediction) -> bool:
    return first.indices == second.indices and first.probabilities == pytest.approx(second.probabilities, abs=1e-5)


# Forms of an image


@pytest.mark.parametrize("which", ["color", "gray"])
@pytest.mark.parametrize("picture", [pixels(), pixels()[..., 0]], ids=["of a color image", "of a gray image"])
def test_every_form_of_an_image_gives_the_same_prediction(which, picture, request, tmp_path):
    predictor, path = request.getfixturevalue(which), tmp_path / "image.png"
    Image.fromarray(picture).save(path)
    tensor = torch.from_numpy(np.atleast_3d(picture)).permute(2, 0, 1)
    forms = [str(path), Image.fromarray(picture), picture, np.atleast_3d(picture), picture[::-1][::-1], tensor]
    expected = predictor(path)
    for form in forms:
        assert predictor(form) == expected


def test_different_images_give_different_predictions(color, gray):
    for predictor in (color, gray):
        assert not close(predictor(pixels(0)), predictor(pixels(1)))


def test_transparency_and_palettes_are_turned_into_colors(color):
    picture = Image.fromarray(pixels())
    assert color(picture.convert("RGBA")) == color(picture)
    palette = picture.quantize(16)
    assert color(palette) == color(palette.convert("RGB"))


def test_an_image_of_another_size_is_cropped_as_the_model_was_trained(color):
    picture = Image.fromarray(pixels(3, 97, 61))
    cropped = color.preprocessing.crop(picture)
    assert cropped.size == (32, 32)
    batch = torch.tensor(np.asarray(cropped)).permute(2, 0, 1)[None]
    expected = color.model(color.preprocessing.normalize(batch)).softmax(-1)[0]
    got = color(picture)
    assert got.probabilities == pytest.approx(expected[list(got.indices)].tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8, 3)), r"must be \(H, W\) or \(H, W, 1, 3 or 4\) uint8, 0–255, not \(8, 8, 3\) float64"),
        (np.zeros((3, 8, 8), np.uint8), r"an array image must be .* not \(3, 8, 8\) uint8"),
        (np.zeros((8, 8, 5), np.uint8), r"an array image must be .* not \(8, 8, 5\) uint8"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"an array image must be .* not \(1, 8, 8, 3\) uint8"),
        (np.zeros(8, np.uint8), r"an array image must be .* not \(8,\) uint8"),
        (torch.zeros(3, 8, 8), r"must be \(1, 3 or 4, H, W\) uint8, 0–255, not \(3, 8, 8\) torch.float32"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), r"a tensor image must be .* not \(8, 8, 3\) torch.uint8"),
        (torch.zeros(8, 8, dtype=torch.uint8), r"a tensor image must be .* not \(8, 8\) torch.uint8"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), r"a tensor image must be .* not \(1, 3, 8, 8\) torch.uint8"),
    ],
)
def test_arrays_and_tensors_of_another_form_are_errors(color, image, message):
    with pytest.raises(ValueError, match=message):
        color(image)


def test_a_model_of_four_channels_sees_transparency_and_one_of_three_a_background(color, tmp_path):
    four = Predictor(trained(tmp_path / "four", 4), device="cpu")
    clear, half = (np.dstack([pixels(), np.full((40, 50), alpha, np.uint8)]) for alpha in (0, 128))
    Image.fromarray(half).save(tmp_path / "half.png")
    assert close(four(half), four(tmp_path / "half.png"))
    assert not close(four(half), four(clear))
    assert close(four(pixels()), four(np.dstack([pixels(), np.full((40, 50), 255, np.uint8)])))
    assert close(color(clear), color(np.full((40, 50, 3), 255, np.uint8)))


def test_a_model_of_five_channels_accepts_only_arrays_and_tensors(tmp_path):
    five = Predictor(trained(tmp_path / "five", 5), device="cpu")
    planes = np.dstack([pixels(), pixels(1)[..., :2]])
    batch = torch.from_numpy(five.preprocessing.pixels(planes)).permute(2, 0, 1)[None]
    # Every channel is prepared as a picture by itself would be.
    for channel in range(5):
        alone = five.preprocessing.pixels(Image.fromarray(planes[..., channel]))
        np.testing.assert_array_equal(batch[0, channel].numpy(), alone[..., 0])
    expected = five.probabilities(batch)[0]
    for image in (planes, torch.from_numpy(planes).permute(2, 0, 1)):
        got = five(image)
        assert got.probabilities == pytest.approx(expected[list(got.indices)].tolist(), abs=1e-6)
    with pytest.raises(ValueError, match=r"an array image must be \(H, W, 5\) uint8, 0–255, not \(40, 50, 3\) uint8"):
        five(pixels())
    with pytest.raises(ValueError, match=r"read with 1 channel \(gray\), 3 .* not 5; give other inputs as arrays"):
        five(Image.fromarray(pixels()))


@pytest.mark.parametrize("image", [np.zeros((0, 5), np.uint8), torch.zeros(3, 5, 0, dtype=torch.uint8)])
def test_an_image_without_pixels_is_an_error(color, image):
    with pytest.raises(ValueError, match="0"):
        color(image)


def test_exif_orientation_is_applied_to_opened_photos_as_to_files(color, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels()).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as picture:
        assert color(picture) == color(tmp_path / "turned.png")


def test_files_that_cannot_be_read_are_named(color, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ImageError, match=r"cannot read image .*gone\.jpg"):
        color(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match=r"cannot read image .*text\.jpg"):
        color(str(tmp_path / "text.jpg"))


# Predictions


def test_the_most_likely_class_comes_first(color):
    prediction = color(pixels())
    assert prediction.names == tuple(NAMES[index] for index in prediction.indices)
    assert list(prediction.probabilities) == sorted(prediction.probabilities, reverse=True)
    assert (prediction.name, prediction.probability) == (prediction.names[0], prediction.probabilities[0])


@pytest.mark.parametrize("top_k", [3, 5, 1000])
def test_top_k_above_the_number_of_classes_gives_all_classes(color, top_k):
    prediction = color(pixels(), top_k=top_k)
    assert sorted(prediction.names) == sorted(NAMES)
    assert sum(prediction.probabilities) == pytest.approx(1.0, abs=1e-6)


def test_top_k_gives_the_first_classes(color):
    everything, one = color(pixels()), color(pixels(), top_k=1)
    assert (one.names, one.indices, one.probabilities) == (
        everything.names[:1],
        everything.indices[:1],
        everything.probabilities[:1],
    )


@pytest.mark.parametrize("arguments", [{"top_k": 0}, {"top_k": -1}, {"batch_size": 0}, {"batch_size": -1}])
def test_a_top_k_or_batch_size_below_one_is_an_error_that_names_it(color, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        list(color.predict([pixels()], **arguments))


@pytest.mark.parametrize("count", [0, 1, 6, 7])
def test_predictions_do_not_depend_on_the_batch_size(color, count):
    images = [pixels(seed, 30 + seed, 45) for seed in range(count)]
    alone = [color(image) for image in images]
    for batch_size in (1, 3, 32):
        together = list(color.predict(images, batch_size=batch_size))
        assert len(together) == count
        assert all(close(first, second) for first, second in zip(together, alone, strict=True))


def test_images_are_taken_only_when_predictions_are_requested(color):
    taken = []

    def images():
        for seed in range(9):
            taken.append(seed)
            yield pixels(seed)

    predictions = color.predict(images(), batch_size=2)
    assert taken == []
    next(predictions)
    assert taken == [0, 1]
    assert len(list(predictions)) == 8


def test_predictions_do_not_change_the_model(color):
    before = {name: tensor.clone() for name, tensor in color.model.state_dict().items()}
    list(color.predict([pixels(0), pixels(1)]))
    assert not color.model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in color.model.state_dict().items())


def test_loading_processes_get_preprocess_without_the_model(color):
    stored = pickle.dumps(color.preprocess)
    assert len(stored) < 2000
    np.testing.assert_array_equal(pickle.loads(stored)(pixels()), color.preprocess(pixels()))


def test_without_a_device_one_is_chosen(tmp_path, color):
    predictor = Predictor(trained(tmp_path / "run", 3))
    assert predictor.device == next(predictor.model.parameters()).device
    assert close(predictor(pixels()), color(pixels()))


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="is not a trained model"):
        Predictor(tmp_path)


def test_a_model_without_heads_is_an_error(tmp_path):
    torch.save(create_model("volo_micro_32", num_classes=0).state_dict(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth has no heads, and so no classes"):
        Predictor(tmp_path / "a.pth")


# The process around it


def test_reading_in_threads_leaves_the_filters_of_warnings_alone(color, tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(pixels()).save(path)
    before = list(warnings.filters)
    for _ in range(3):
        assert len(list(color.predict([path] * 64))) == 64
        assert warnings.filters == before


def test_what_is_wrong_with_an_image_that_was_read_is_warned_of(color, tmp_path):
    Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40)).save(tmp_path / "deep.png")
    with pytest.warns(UserWarning, match="an image was read nearly black: values of 16 bits"):
        color(tmp_path / "deep.png")


def test_preprocessed_images_are_classified_as_the_images_are(color):
    images = [pixels(seed) for seed in range(5)]
    crops = [color.preprocess(Image.fromarray(image)) for image in images]
    assert list(color.predict_pixels(crops, batch_size=2)) == list(color.predict(images, batch_size=2))


def test_whole_images_are_not_kept_for_the_batch(color, tmp_path, monkeypatch):
    path, freed, most = tmp_path / "image.png", [], []
    Image.fromarray(pixels()).save(path)

    def counted(image, *rest, **options):
        decoded = to_model_image(image, *rest, **options)
        weakref.finalize(decoded, freed.append, None)
        most.append(len(most) + 1 - len(freed))
        return decoded

    monkeypatch.setattr("volo.inference.predictor.to_model_image", counted)
    assert len(list(color.predict([path] * 40, batch_size=40))) == 40
    assert max(most) <= 2 * (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
@pytest.mark.parametrize(("used", "threads"), [(False, None), (True, 2)])
def test_a_process_forked_after_loading_predicts(color, tmp_path, used, threads):
    """OpenMP's threads do not survive the fork: without care, the process would wait for them forever."""
    script = f"""
import os, sys, warnings
import numpy as np
import torch
import volo
torch.set_num_threads(2)
predictor = volo.Predictor({str(color._source)!r}, device="cpu", threads={threads})
image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
torch.zeros(1000, 1000).exp_()  # PyTorch's threads have started
expected = predictor(image).indices if {used} else None
child = os.fork()
if not child:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        answers = [predictor(image).indices for _ in range(2)]
    lines = [str(warning.message) for warning in caught]
    assert len(lines) == 1 and "forked after a model was loaded" in lines[0], lines
    assert torch.get_num_threads() == 1 and len(set(answers)) == 1 and expected in (None, answers[0])
    print("answered", flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert torch.get_num_threads() == 2
predictor(image)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "answered\n"), done.stderr


def test_a_compiled_model_in_a_forked_process_is_an_error(color, monkeypatch):
    monkeypatch.setattr("volo.runtime.forks._forked", True)
    monkeypatch.setattr(color, "_compiled", True)
    with pytest.raises(RuntimeError, match="compiled model cannot run in a process that was forked"):
        color(pixels())
