"""Facts about ImageNet: names and synsets of its classes, mean and standard deviation of its images."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

#: Mean and standard deviation of ImageNet's images for red, green and blue, with values of 0–1.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Mean and standard deviation of the same images in grayscale.
GRAY_MEAN, GRAY_STD = (0.449,), (0.226,)


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return class names without duplicates: equal names get their index in parentheses."""
    counts = Counter(names)
    return tuple(f"{name} ({index})" if counts[name] > 1 else name for index, name in enumerate(names))


def imagenet_names() -> tuple[str, ...]:
    """Return the names of ImageNet-1k's classes in order, as in torchvision; all of them differ."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


@cache
def synsets() -> tuple[str, ...]:
    """Return the WordNet synsets (such as ``n01440764``) of the 1000 classes in order."""
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo("imagenet-1k").label_names())


@cache
def _descriptions() -> tuple[str, ...]:
    """Return the WordNet descriptions of the classes, which are the class names in checkpoints of transformers."""
    from timm.data import ImageNetInfo

    return distinct(list(ImageNetInfo("imagenet-1k").label_descriptions()))


def in_words(class_names: Sequence[str]) -> tuple[str, ...]:
    """Return class names for people: synsets of ImageNet are replaced by words, other names are kept."""
    if not any(re.fullmatch(r"n\d{8}", name) for name in class_names):
        return tuple(class_names)
    known = dict(zip(synsets(), imagenet_names(), strict=True))
    return tuple(known.get(name, name) for name in class_names)


def knows_imagenet(class_names: Sequence[str]) -> bool:
    """Return True if the classes are ImageNet's 1000 in order, as words (torchvision's or WordNet's) or as synsets."""
    return len(class_names) == 1000 and tuple(class_names) in (imagenet_names(), synsets(), _descriptions())
