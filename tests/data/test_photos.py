from PIL import Image

from volo.data import Preprocessing, read_image
from volo.data.embedded import PHOTOS, photo_folder

CIFAR = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}


def test_every_photo_is_listed_credited_and_small():
    files = sorted(photo_folder().glob("*.jpg"))
    assert [path.name for path in files] == sorted(PHOTOS)
    assert {name for name in PHOTOS.values() if name} < CIFAR
    assert sum(path.stat().st_size for path in files) < 200_000
    credits = (photo_folder() / "CREDITS.txt").read_text().splitlines()
    for path in files:
        (line,) = (number for number, text in enumerate(credits) if text.startswith(f"{path.name} "))
        assert "CC0" in credits[line] or "public domain" in credits[line]


def test_a_small_input_is_the_mean_of_the_center_of_a_large_photo():
    """No pixel of the center square goes unseen, and none beside it is seen."""
    photo = Image.new("RGB", (1200, 640), "red")
    checks = Image.effect_noise((640, 640), 100).point(lambda value: 255 * (value > 127)).convert("RGB")
    photo.paste(checks, (280, 0))
    pixels = Preprocessing(size=(32, 32)).pixels(photo)[2:-2, 2:-2]
    assert abs(pixels.astype(float) - 127).max() < 40
    assert pixels.astype(float).std() < 12


def test_the_photos_fill_the_input():
    preprocessing = Preprocessing(size=(32, 32))
    for name in PHOTOS:
        assert preprocessing.pixels(read_image(photo_folder() / name, 3)).shape == (32, 32, 3)
