"""The data set that the package carries."""

from importlib.resources import files

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


def fashion_mini(part: str) -> ArrayImages:
    """Ten kinds of clothes, 28×28 grey: 10,000 images for training and 2,000 for validation, all classes equal.

    The first 1,000 training and the first 200 test images of every class of Fashion-MNIST
    (https://github.com/zalandoresearch/fashion-mnist), MIT licence, Copyright 2017 Zalando SE.

    Args:
        part: train or val.
    """
    with (files(__package__) / "fashion_mini.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return ArrayImages(arrays[f"{part}_images"], arrays[f"{part}_labels"].tolist(), CLASS_NAMES)
