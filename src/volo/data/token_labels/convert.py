"""Conversion of token labels between the authors' layout and a store."""

from pathlib import Path

import numpy as np

from volo.data.images import ImageError, ImageSet
from volo.data.token_labels.author_files import check_class_count, write_label_file
from volo.data.token_labels.listing import list_images
from volo.data.token_labels.match import FolderLabels, StoreLabels, label_files
from volo.data.token_labels.store import LABELED, StoreInfo, TokenLabelStore
from volo.data.token_labels.writer import TokenLabelWriter, create_store


def folder_to_store(folder: Path, images: ImageSet, out: Path, data: str) -> int:
    """Convert the authors' files to a store.

    Args:
        folder: the folder of the label files.
        images: the images that were labeled.
        out: path of the store.
        data: path or name of the data as the user gave it, see :func:`list_images`.

    Returns:
        The number of label maps.

    Raises:
        ValueError: The store exists, the files do not fit the images, or their maps differ in shape.
    """
    if out.exists():
        raise ValueError(f"{out} exists; choose another --output")
    labels, manifest = FolderLabels(folder, images, data), list_images(images, data)
    rows, columns, top_k = labels.read(0).scores.shape
    info = StoreInfo(
        teacher=f"files of {folder}",
        preprocessing={},
        class_names=images.class_names,
        count=len(manifest.names),
        grid=(rows, columns),
        top_k=top_k,
        fingerprint=manifest.fingerprint(),
    )
    create_store(out, info, manifest)
    try:
        with TokenLabelWriter(out) as writer:
            for index in range(len(manifest.names)):
                scores, classes, _ = labels.read(index)
                if scores.shape != (rows, columns, top_k):
                    shapes = f"{scores.shape}, not {(rows, columns, top_k)}"
                    raise ImageError(f"{labels.root / labels.files[index]} differs from the first file: it is {shapes}")
                writer.write([index], scores[None], classes[None])
    except BaseException:
        out.unlink()  # else volo label would take it for a store to resume
        raise
    return len(manifest.names)


def store_to_folder(store: TokenLabelStore, images: ImageSet, out: Path, data: str) -> int:
    """Convert a store to the authors' files; images without labels get no file.

    Args:
        store: the store.
        images: the images that were labeled.
        out: the folder of the label files.
        data: path or name of the data as the user gave it, see :func:`list_images`.

    Returns:
        The number of label maps.

    Raises:
        ValueError: There are too many classes for the layout, or the store does not fit the images.
    """
    check_class_count(len(store.info.class_names))
    labels = StoreLabels(store, images, data)
    files = label_files(list_images(images, data).names)
    labeled = np.flatnonzero(store.states[labels.records] == LABELED).tolist()
    for index in labeled:
        write_label_file(out / files[index], labels.read(index))
    return len(labeled)
