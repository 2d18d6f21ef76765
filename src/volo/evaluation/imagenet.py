"""ImageNet as published scores are measured on it. Needs the extra ``volo[train]``: timm has the list of synsets.

Folders name its classes by WordNet synset (``n01440764``) in ImageNet itself, -A, -R and -Sketch, and by number (0 to
999) in ImageNet-V2; models know them by words, in the order of the synsets.
"""

import json
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

_VALIDATION_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.\w+")


def as_imagenet(images: ImageSet, class_names: Sequence[str]) -> ImageSet:
    """Images of a folder of ImageNet's classes, named as a model names them and read as they are stored.

    Published scores are measured on pictures that are neither turned by their EXIF orientation nor brought into
    sRGB: so are these.

    Args:
        images: of any folder.
        class_names: the model's.

    Returns:
        The images; the same object where the model's classes or the folder's are not ImageNet's.
    """
    if not isinstance(images, FileImages) or not knows_imagenet(class_names):
        return images
    places = _places(images.class_names)
    if places is None:
        return images
    same = {field.name: getattr(images, field.name) for field in fields(images)}
    return StoredImages(**{**same, "class_names": tuple(class_names[place] for place in places)})


def _places(folders: Sequence[str]) -> list[int] | None:
    """Which of the 1000 classes folders mean by their names; None where one of them means no class."""
    order = {synset: place for place, synset in enumerate(synsets())}
    if all(name in order for name in folders):
        return [order[name] for name in folders]
    numbers = {str(place): place for place in range(len(order))}
    return [numbers[name] for name in folders] if all(name in numbers for name in folders) else None


@dataclass(frozen=True)
class StoredImages(FileImages):
    """Images as they are stored: not turned, not brought into sRGB, transparency dropped."""

    def read(self, index: int, shrink: Shrink | None = None) -> Image.Image:
        return read_image(self.paths[index], self.channels, max_pixels=self.max_pixels, stored=True)


class RealLabels:
    """Reassessed labels of ImageNet's validation images: for each all classes that are right, or none.

    Args:
        path: ``real.json``: for every validation image in order, a list of class indices.
        images: files called ``ILSVRC2012_val_00000001.JPEG`` and so on, in any folders.

    Raises:
        ValueError: the file is no such list, an image has another name, or none has a label. OSError: the file
            cannot be read.

    Source: Are we done with ImageNet?, arXiv:2006.07159; https://github.com/google-research/reassessed-imagenet
    """

    def __init__(self, path: str | Path, images: ImageSet) -> None:
        try:
            labels = json.loads(Path(path).read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no JSON file: {error}") from error
        if not isinstance(labels, list) or not all(_is_labels(entry) for entry in labels):
            raise ValueError(f"{path} holds no ReaL labels: a list of one list of class indices (0–999) for each image")
        self.labels = [_labels_of(images.name(index), labels, path) for index in range(len(images.labels))]
        if not any(self.labels):
            raise ValueError(f"{path} has no label for any of the {len(self.labels)} images")

    def scores(self, evaluation: Evaluation) -> dict[str, Any]:
        """How often one of the right classes is among the likeliest; images without a label do not count.

        Args:
            evaluation: of these images, among all 1000 classes.

        Returns:
            ``real_images``, how many count, and the shares ``real_top1`` and ``real_top5``; without images, None.
        """
        answers = zip(evaluation.indices, evaluation.ranked, strict=True)
        hits = np.array([np.isin(ranked, right) for index, ranked in answers if (right := self.labels[index])])
        return {
            "real_images": len(hits),
            "real_top1": float(hits[:, 0].mean()) if len(hits) else None,
            "real_top5": float(hits.any(axis=1).mean()) if len(hits) else None,
        }


def _labels_of(name: str, labels: list[list[int]], path: str | Path) -> list[int]:
    found = _VALIDATION_IMAGE.fullmatch(Path(name).name)
    if not found or not 1 <= int(found[1]) <= len(labels):
        raise ValueError(
            f"{name} is none of the {len(labels)} images that {path} labels, ILSVRC2012_val_00000001.JPEG and so on"
        )
    return labels[int(found[1]) - 1]


def _is_labels(entry: object) -> bool:
    return isinstance(entry, list) and all(type(label) is int and 0 <= label < 1000 for label in entry)
