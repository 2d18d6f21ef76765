"""The real images that an export is checked and calibrated on."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from volo.data import MODES, ImageError, Preprocessing, find_images, open_validation_data, read_image, upright
from volo.names import few

#: As many are read for a check.
CHECKED = 32


def real_images(paths: Sequence[str] | None, preprocessing: Preprocessing, *, most: int = CHECKED) -> Tensor:
    """Images as the model takes them, (N, channels, H, W) uint8, at most so many, spread over all there are.

    Args:
        paths: files, folders and patterns; None takes pictures that come with the package.
        preprocessing: of the model.
        most: so many.

    Raises:
        ValueError: a path stands for nothing, or not one image can be read.
    """
    pictures = _embedded(preprocessing) if paths is None else _read(find_images(paths), preprocessing, most)
    pixels = list(islice(pictures, most))
    if not pixels:
        raise ValueError(f"not one of the images can be read: {few(paths or ())}")
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


def _read(paths: Sequence[Path], preprocessing: Preprocessing, most: int) -> Iterator[np.ndarray]:
    for path in _spread(paths, most):
        try:
            image = read_image(path, preprocessing.channels, background=preprocessing.background)
        except ImageError:
            continue
        yield preprocessing.pixels(image)


def _spread(paths: Sequence[Path], most: int) -> Iterable[Path]:
    """Those in even distances first, since folders often hold a class each, and then the others."""
    first = [paths[index * len(paths) // most] for index in range(min(most, len(paths)))] if most else []
    chosen = set(first)
    return [*first, *(path for path in paths if path not in chosen)]


def _embedded(preprocessing: Preprocessing) -> Iterator[np.ndarray]:
    images, channels = open_validation_data("fashion-mini"), preprocessing.channels
    for index in range(0, len(images.labels), max(1, len(images.labels) // CHECKED)):
        picture = images.read(index)
        if channels in MODES:
            yield preprocessing.pixels(upright(picture, channels, preprocessing.background))
        else:
            yield preprocessing.pixels(np.repeat(np.asarray(picture)[:, :, None], channels, axis=2))
