"""Pictures of three colors."""

import numpy as np
from PIL import Image

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
