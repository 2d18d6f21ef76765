"""The data set and the photos that are part of the package."""

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

#: Photo → its class in CIFAR-10, or None if it has none. ``CREDITS.txt`` in the folder of the photos names the authors;
#: all photos are CC0 or in the public domain.
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
    """Return the folder of ``PHOTOS``."""
    return Path(__file__).with_name("photos")


def fashion_mini(split: str) -> ArrayImages:
    """Load the embedded data set: 10 classes of clothes, 28×28 gray, 10,000 images for training, 2,000 for validation.

    They are the first 1,000 training images and the first 200 test images of every class of Fashion-MNIST
    (https://github.com/zalandoresearch/fashion-mnist), MIT license, Copyright 2017 Zalando SE.

    Args:
        split: train or val.
    """
    with (files(__package__) / "fashion_mini.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return ArrayImages(arrays[f"{split}_images"], arrays[f"{split}_labels"].tolist(), CLASS_NAMES)
