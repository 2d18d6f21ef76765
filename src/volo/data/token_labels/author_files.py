"""Token labels in the authors' layout: ``<class>/<stem>.pt``, (2, k, h, w) float16, scores and class indices.

Float16 holds integers exactly only up to 2048, so this layout is limited to that many classes. It records neither the
teacher, nor the order of the classes, nor the images.

Source: All Tokens Matter (token labeling), arXiv:2104.10858, and the label files published with it.
"""

from pathlib import Path

import numpy as np
import torch

from volo.data.classification.label_map import LabelMap
from volo.data.images import ImageError
from volo.files import atomic_write
from volo.models.weights.read import check_plain
from volo.models.weights.readers.torch_pickle import read_tensors

#: Most classes of this layout: integers up to this one are exact in float16.
MOST_CLASSES = 2048


def label_file(name: str) -> str:
    """Return the path of an image's label file from the path of the image; only the last extension is removed."""
    path = Path(name)
    return f"{path.parent.name}/{path.stem}.pt"


def read_label_file(path: Path, num_classes: int) -> LabelMap:
    """Read one label map.

    Raises:
        ImageError: The file is missing, or is not a label map of at most ``num_classes`` classes.
    """
    try:
        values = read_tensors(path)
        if isinstance(values, torch.Tensor):
            check_plain(str(path), "its tensor", values)
    except OSError as error:
        raise ImageError(f"cannot read the token labels: {path}: {error.strerror}") from error
    except ValueError as error:
        raise ImageError(f"cannot read the token labels: {error}") from error
    if not isinstance(values, torch.Tensor) or values.ndim != 4 or len(values) != 2 or not values.is_floating_point():
        shape = f"{tuple(values.shape)} {values.dtype}" if isinstance(values, torch.Tensor) else type(values).__name__
        raise ImageError(f"{path} is not a token label map: it must be (2, k, h, w) float16, not {shape}")
    scores, classes = values.permute(0, 2, 3, 1).float().numpy()
    if not (np.isfinite(scores).all() and (classes >= 0).all() and (classes < num_classes).all()):
        raise ImageError(f"{path} is not valid: its classes must be in 0–{num_classes - 1}, its scores must be finite")
    return LabelMap(scores.astype(np.float16), classes.astype(np.uint16))


def write_label_file(path: Path, labels: LabelMap) -> None:
    """Write one label map; create its folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    both = np.stack([labels.scores.astype(np.float16), labels.classes.astype(np.float16)])
    with atomic_write(path) as temporary, temporary.open("wb") as file:  # PyTorch keeps the error of a file object
        torch.save(torch.from_numpy(both).permute(0, 3, 1, 2).contiguous(), file)


def check_class_count(num_classes: int) -> None:
    """Check that the layout can hold the class indices.

    Raises:
        ValueError: There are too many classes.
    """
    if num_classes > MOST_CLASSES:
        raise ValueError(
            f"the authors' label files hold class indices as float16, exact for at most {MOST_CLASSES} classes, "
            f"not for {num_classes}; use a store (volo label --output)"
        )
