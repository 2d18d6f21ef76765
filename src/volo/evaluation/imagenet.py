"""ImageNet's classes and images, handled as for published scores. Needs the extra ``volo[train]`` (timm's synsets).

Folders are named by WordNet synset (``n01440764``) in ImageNet itself, -A, -R and -Sketch, and by class index (0 to
999) in ImageNet-V2. Models name the classes in words, in the order of the synsets.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from volo.data import FileImages, ImageSet, read_image
from volo.data.images import Shrink
from volo.evaluation.classification import Evaluation
from volo.imagenet import knows_imagenet, synsets
from volo.limits import parse_json

_VALIDATION_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.\w+")


def as_imagenet(images: ImageSet, class_names: Sequence[str]) -> ImageSet:
    """Return a folder of ImageNet's classes with the model's class names and with images read as stored.

    Published scores are measured without EXIF orientation and without conversion to sRGB, so neither is applied.

    Args:
        images: image set of any folder.
        class_names: names of the model's classes.

    Returns:
        The changed image set, or ``images`` itself if the classes of the model or of the folder are not ImageNet's.
    """
    if not isinstance(images, FileImages) or not knows_imagenet(class_names):
        return images
    places = _places(images.class_names)
    if places is None:
        return images
    same = {field.name: getattr(images, field.name) for field in fields(images)}
    return StoredImages(**{**same, "class_names": tuple(class_names[place] for place in places)})


def _places(folders: Sequence[str]) -> list[int] | None:
    """Return the index (0–999) of the class that each folder names, or None if a folder names no class."""
    order = {synset: place for place, synset in enumerate(synsets())}
    if all(name in order for name in folders):
        return [order[name] for name in folders]
    numbers = {str(place): place for place in range(len(order))}
    return [numbers[name] for name in folders] if all(name in numbers for name in folders) else None


@dataclass(frozen=True)
class StoredImages(FileImages):
    """Images read as stored: without EXIF orientation and conversion to sRGB, and with transparency dropped."""

    def read(self, index: int, shrink: Shrink | None = None) -> Image.Image:
        return read_image(self.paths[index], self.channels, max_pixels=self.max_pixels, stored=True)


class RealLabels:
    """Reassessed labels of ImageNet's validation images: all correct classes of each image, possibly none.

    Args:
        path: ``real.json``: a list of class indices (0–999) for each validation image, in order.
        images: files named ``ILSVRC2012_val_00000001.JPEG`` and so on, in any folders.

    Raises:
        ValueError: The file is not such a list, an image has another name, or no image has a label.
        OSError: The file cannot be read.

    Source: Are we done with ImageNet?, arXiv:2006.07159; https://github.com/google-research/reassessed-imagenet
    """

    def __init__(self, path: str | Path, images: ImageSet) -> None:
        try:
            labels = parse_json(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not a JSON file: {error}") from error
        if not isinstance(labels, list) or not all(_is_labels(entry) for entry in labels):
            raise ValueError(
                f"{path} does not hold ReaL labels: a list with one list of class indices (0–999) for each image"
            )
        self.labels = [_labels_of(images.name(index), labels, path) for index in range(len(images.labels))]
        if not any(self.labels):
            raise ValueError(f"{path} has no label for any of the {len(self.labels)} images")

    def scores(self, evaluation: Evaluation) -> dict[str, Any]:
        """Return the scores on these labels; images without a label are left out.

        Args:
            evaluation: evaluation of these images among all 1000 classes.

        Returns:
            ``real_images``: number of images with a label. ``real_top1`` and ``real_top5``: share of them with a
            correct class as the most likely class, or among the five most likely, 0–1; None without such images.
        """
        predictions = zip(evaluation.indices, evaluation.ranked, strict=True)
        hits = np.array([np.isin(ranked, right) for index, ranked in predictions if (right := self.labels[index])])
        return {
            "real_images": len(hits),
            "real_top1": float(hits[:, 0].mean()) if len(hits) else None,
            "real_top5": float(hits.any(axis=1).mean()) if len(hits) else None,
        }


def _labels_of(name: str, labels: list[list[int]], path: str | Path) -> list[int]:
    found = _VALIDATION_IMAGE.fullmatch(Path(name).name)
    if not found or not 1 <= int(found[1]) <= len(labels):
        raise ValueError(
            f"{name} is not one of the {len(labels)} images that {path} labels (ILSVRC2012_val_00000001.JPEG and so on)"
        )
    return labels[int(found[1]) - 1]


def _is_labels(entry: object) -> bool:
    return isinstance(entry, list) and all(type(label) is int and 0 <= label < 1000 for label in entry)
