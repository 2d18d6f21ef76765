"""Notes about images that were read although something is wrong with them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from PIL import Image

from volo.messages import join_few

#: Key of the notes in ``info`` of an image.
_KEY = "volo_notes"


class ReadNote(NamedTuple):
    """A remark about one image that was read.

    Attributes:
        kind: what follows "3 images were read", the same words for all images of the kind.
        largest: the largest of its 16-bit values at most, 0–65,535; None for other kinds.
    """

    kind: str
    largest: int | None = None


#: Name of an image, and a remark about it.
NamedNote = tuple[str, ReadNote]


def attach_notes(image: Image.Image, notes: Sequence[ReadNote]) -> Image.Image:
    """Attach notes to an image, in place of those that it has. Returns the image."""
    if notes:
        image.info[_KEY] = tuple(notes)
    return image


def notes_of(image: Image.Image) -> tuple[ReadNote, ...]:
    """Return the notes that :func:`volo.data.read_image` attached to an image."""
    return image.info.get(_KEY, ())


def named_notes(name: str, image: Image.Image) -> tuple[NamedNote, ...]:
    """Return the notes of an image with its name."""
    return tuple((name, note) for note in notes_of(image))


def summarize_notes(notes: Iterable[NamedNote]) -> list[str]:
    """Return one line for each kind of note, with the number of images and some of their names."""
    kinds: dict[str, dict[str, ReadNote]] = {}
    for name, note in notes:
        kinds.setdefault(note.kind, {})[name] = note
    lines = []
    for kind, images in kinds.items():
        largest = max((note.largest for note in images.values() if note.largest is not None), default=None)
        detail = "" if largest is None else f" (largest value {largest:,} of 65,535)"
        lines.append(f"{len(images):,} image{'s' * (len(images) > 1)} read {kind}{detail}: {join_few(sorted(images))}")
    return lines
