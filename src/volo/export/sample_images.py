"""The real images that an export is checked and calibrated on."""

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

#: As many are read for a check.
CHECKED = 32


def real_images(paths: Sequence[str] | None, preprocessing: Preprocessing, *, most: int = CHECKED) -> Tensor:
    """Images as the model takes them, (N, channels, H, W) uint8, at most so many, spread over all there are.

    Args:
        paths: files, folders and patterns; None takes the photos that come with the package.
        preprocessing: of the model.
        most: so many.

    Raises:
        ValueError: a path stands for nothing, or not one image can be read.
    """
    pixels = [preprocessing.pixels(photo) for photo in real_photos(paths, preprocessing, most=most)]
    if not pixels:
        raise ValueError(f"not one of the images can be read: {join_few(paths or ())}")
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


def real_photos(
    paths: Sequence[str] | None, preprocessing: Preprocessing, *, most: int = CHECKED
) -> Iterator[Image.Image | np.ndarray]:
    """The same, decoded and not resized yet, one after the other."""
    found = find_images([str(photo_folder())] if paths is None else paths)
    return islice(_read(found, preprocessing, most), most)


def _read(paths: Sequence[Path], preprocessing: Preprocessing, most: int) -> Iterator[Image.Image | np.ndarray]:
    channels = preprocessing.channels
    for path in _spread(paths, most):
        try:
            image = read_image(path, channels if channels in MODES else 1, background=preprocessing.background)
        except ImageError:
            continue
        # No picture has as many channels as some models: the gray one stands in each of them.
        many = channels not in MODES
        yield np.repeat(np.asarray(image)[:, :, None], channels, axis=2) if many else image


def _spread(paths: Sequence[Path], most: int) -> Iterable[Path]:
    """Those in even distances first, since folders often hold a class each, and then the others."""
    count = min(most, len(paths))
    first = [paths[index * len(paths) // count] for index in range(count)]
    chosen = set(first)
    return [*first, *(path for path in paths if path not in chosen)]
