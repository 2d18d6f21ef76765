"""Token labels from the authors' layout to a store, and back."""

from pathlib import Path

import numpy as np

from volo.data.images import ImageError, ImageSet
from volo.data.token_labels.author_files import check_class_count, write_label_file
from volo.data.token_labels.listing import list_images
from volo.data.token_labels.match import FolderLabels, StoreLabels, label_files
from volo.data.token_labels.store import LABELED, StoreInfo, TokenLabelStore
from volo.data.token_labels.writer import TokenLabelWriter, create_store


def folder_to_store(folder: Path, images: ImageSet, out: Path, data: str) -> int:
    """Make a store of the authors' files. Returns the number of maps.

    Raises:
        ValueError: the store exists, the files do not fit the images, or their maps differ in shape.
    """
    if out.exists():
        raise ValueError(f"{out} exists; choose another --out")
    labels, listing = FolderLabels(folder, images, data), list_images(images, data)
    rows, columns, top_k = labels.read(0).scores.shape
    info = StoreInfo(
        teacher=f"files of {folder}",
        preprocessing={},
        class_names=images.class_names,
        count=len(listing.names),
        grid=(rows, columns),
        top_k=top_k,
        fingerprint=listing.fingerprint(),
    )
    create_store(out, info, listing)
    try:
        with TokenLabelWriter(out) as writer:
            for index in range(len(listing.names)):
                scores, classes, _ = labels.read(index)
                if scores.shape != (rows, columns, top_k):
                    shapes = f"{scores.shape}, the first {(rows, columns, top_k)}"
                    raise ImageError(f"{labels.root / labels.files[index]} has another shape: {shapes}")
                writer.write([index], scores[None], classes[None])
    except BaseException:
        out.unlink()  # half of it would be taken for a labeling to go on with
        raise
    return len(listing.names)


def store_to_folder(store: TokenLabelStore, images: ImageSet, out: Path, data: str) -> int:
    """Write the maps of a store as the authors' files. Returns the number of maps.

    Images that could not be read have none.

    Raises:
        ValueError: too many classes for that layout, or the store does not fit the images.
    """
    check_class_count(len(store.info.class_names))
    labels = StoreLabels(store, images, data)
    files = label_files(list_images(images, data).names)
    labeled = np.flatnonzero(store.states[labels.records] == LABELED).tolist()
    for index in labeled:
        write_label_file(out / files[index], labels.read(index))
    return len(labeled)
