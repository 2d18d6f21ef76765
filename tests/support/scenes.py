"""Small scenes of balls and boxes on the ground below the sky, with masks of their pixels' classes."""

import numpy as np
from PIL import Image

NAMES = ("sky", "ground", "ball", "box")
COLORS = ((120, 170, 230), (90, 140, 60), (220, 60, 50), (140, 90, 200))
CLASSES = "".join(f"{name} #{bytes(color).hex()}\n" for name, color in zip(NAMES, COLORS, strict=True))


def scene(rng, size=(72, 48), noise=12):
    """An image (H, W, 3) uint8 in the colors of its classes but for noise, and its mask (H, W) uint8.

    The lowest rows are ignored (255), as the bonnet of a car would be.
    """
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    mask = (y >= rng.integers(height // 3, 2 * height // 3)).astype(np.uint8)
    for label in (2, 3, 2):
        radius = rng.integers(height // 8, height // 4)
        across, down = abs(x - rng.integers(0, width)), abs(y - rng.integers(height // 3, height))
        mask[across**2 + down**2 < radius**2 if label == 2 else np.maximum(across, down) < radius] = label
    pixels = np.asarray(COLORS)[mask] + rng.integers(-noise, noise + 1, (height, width, 3))
    mask[-2:] = 255
    return pixels.clip(0, 255).astype(np.uint8), mask


def save_mask(mask, path, kind="palette"):
    """Write a mask (H, W) uint8 as ``gray``, as a ``palette`` PNG, or in ``colors``, the ignored pixels black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(COLORS)] = COLORS
    picture = Image.fromarray(table[mask] if kind == "colors" else mask)
    if kind == "palette":
        picture = Image.frombytes("P", picture.size, mask.tobytes())
        picture.putpalette(table.tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def make_scenes(root, parts=(("train", 4), ("val", 3)), *, kind="palette", size=(72, 48)):
    """``root/<part>/images`` and ``root/<part>/masks``, and ``root/classes.txt``."""
    rng = np.random.default_rng(0)
    for part, count in parts:
        for number in range(count):
            pixels, mask = scene(rng, size)
            image = root / part / "images" / f"{number}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(image)
            save_mask(mask, root / part / "masks" / f"{number}.png", kind)
    (root / "classes.txt").write_text(CLASSES)
    return root
