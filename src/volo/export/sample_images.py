"""Real images for the comparison with PyTorch and for the calibration of int8."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from volo.data import MODES, ImageError, Preprocessing, find_images, read_image
from volo.data.embedded import photo_folder
from volo.messages import join_few

#: Most images that are read for the comparison.
CHECKED = 32


def real_images(paths: Sequence[str] | None, preprocessing: Preprocessing, *, most: int = CHECKED) -> Tensor:
    """Read images, resize and crop them, and return them as (N, channels, H, W) uint8.

    If there are more than ``most``, the images are chosen evenly from all of them.

    Args:
        paths: files, folders and patterns; None takes the photos in the package.
        preprocessing: the model's preprocessing.
        most: the most images to return.

    Raises:
        ValueError: A path matches no image, or none of the images can be read.
    """
    pixels = [preprocessing.pixels(photo) for photo in real_photos(paths, preprocessing, most=most)]
    if not pixels:
        raise ValueError(f"none of the images can be read: {join_few(paths or ())}")
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


def real_photos(
    paths: Sequence[str] | None, preprocessing: Preprocessing, *, most: int = CHECKED
) -> Iterator[Image.Image | np.ndarray]:
    """Yield the images of :func:`real_images` one by one, decoded but not resized."""
    images = find_images([str(photo_folder())] if paths is None else paths)
    return islice(_read(images, preprocessing, most), most)


def _read(paths: Sequence[Path], preprocessing: Preprocessing, most: int) -> Iterator[Image.Image | np.ndarray]:
    channels = preprocessing.channels
    for path in _spread(paths, most):
        try:
            image = read_image(path, channels if channels in MODES else 1, background=preprocessing.background)
        except ImageError:
            continue
        # Image files have 1, 3 or 4 channels. For models with another number, the gray image is repeated.
        yield image if channels in MODES else np.repeat(np.asarray(image)[:, :, None], channels, axis=2)


def _spread(paths: Sequence[Path], most: int) -> Iterable[Path]:
    """Return all paths, first ``most`` of them at even distances, then the others.

    Paths are sorted by folder, and a folder often holds one class, so the first ones alone would show few classes.
    """
    count = min(most, len(paths))
    first = [paths[index * len(paths) // count] for index in range(count)]
    chosen = set(first)
    return [*first, *(path for path in paths if path not in chosen)]
