import os

import numpy as np
import pytest
from PIL import Image

# Idle OpenMP threads sleep. By default they spin, and where several processes share the cores, as training with loading
# processes does, they take the time of the threads that compute. OpenMP reads this when PyTorch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

CLASSES = ("blue", "green", "red")


def make_images(folder, count, *, seed):
    """Noisy pictures of three colors, one folder a color: anything that learns at all tells them apart."""
    rng = np.random.default_rng(seed)
    for channel, name in zip((2, 1, 0), CLASSES, strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 100, (40, 36, 3), dtype=np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")
    return folder


def make_train_and_val(root):
    make_images(root / "train", 8, seed=0)
    make_images(root / "val", 4, seed=1)
    return root


@pytest.fixture
def image_folder(tmp_path):
    """A folder with train (3 × 8 images) and val (3 × 4 images)."""
    return make_train_and_val(tmp_path / "colors")


@pytest.fixture(scope="session")
def kept_image_folder(tmp_path_factory):
    """The same for tests that share it, and so change nothing in it."""
    return make_train_and_val(tmp_path_factory.mktemp("kept") / "colors")
