"""The data set and the photos that the package carries."""

from importlib.resources import files
from pathlib import Path

import numpy as np

from volo.data.images import ArrayImages

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

#: A photo of the package → its class among CIFAR-10's; None where it has none. ``CREDITS.txt`` beside them says whose
#: they are; all are CC0 or in the public domain.
PHOTOS: dict[str, str | None] = {
    "cat.jpg": "cat",
    "coffee.jpg": None,
    "dog.jpg": "dog",
    "duck.jpg": "bird",
    "horses.jpg": "horse",
    "kingfisher.jpg": "bird",
    "moose.jpg": "deer",
}


def photo_folder() -> Path:
    """Where the files of ``PHOTOS`` are."""
    return Path(__file__).with_name("photos")


def fashion_mini(part: str) -> ArrayImages:
    """Ten kinds of clothes, 28×28 gray: 10,000 images for training and 2,000 for validation, all classes equal.

    The first 1,000 training and the first 200 test images of every class of Fashion-MNIST
    (https://github.com/zalandoresearch/fashion-mnist), MIT license, Copyright 2017 Zalando SE.

    Args:
        part: train or val.
    """
    with (files(__package__) / "fashion_mini.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return ArrayImages(arrays[f"{part}_images"], arrays[f"{part}_labels"].tolist(), CLASS_NAMES)
