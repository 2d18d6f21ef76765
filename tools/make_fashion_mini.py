"""Write the embedded data set from the files of Fashion-MNIST (for example Debian's dataset-fashion-mnist).

    python tools/make_fashion_mini.py FOLDER_WITH_THE_FOUR_GZ_FILES

It holds the first 1,000 training images and the first 200 test images of every class.
"""

import gzip
import sys
from pathlib import Path

import numpy as np

TARGET = Path(__file__).parents[1] / "src/volo/data/embedded/fashion_mini.npz"


def read_idx(path: Path, header: int) -> np.ndarray:
    """Return the bytes of an IDX file after its header of ``header`` bytes."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def read_split(folder: Path, name: str, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first ``per_class`` images (N, 28, 28) uint8 of every class, and their labels (N,) uint8."""
    images = read_idx(folder / f"{name}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = read_idx(folder / f"{name}-labels-idx1-ubyte.gz", 8)
    chosen = np.sort(np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in range(10)]))
    return images[chosen], labels[chosen]


def main() -> None:
    """Write the data set as one compressed file of NumPy arrays."""
    folder = Path(sys.argv[1])
    train_images, train_labels = read_split(folder, "train", 1000)
    val_images, val_labels = read_split(folder, "t10k", 200)
    np.savez_compressed(
        TARGET, train_images=train_images, train_labels=train_labels, val_images=val_images, val_labels=val_labels
    )


if __name__ == "__main__":
    main()
