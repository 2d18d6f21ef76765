"""Rules for outputs: existing files are not replaced unless asked, and folders of our own are marked."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from volo.files import atomic_write, check_writable_file, check_writable_folder, created_folder
from volo.messages import printable

#: Marks a folder that volo wrote.
MARK_FILE = ".volo-folder"

#: Files of a folder that hold a model and its description, as volo, timm and transformers name them.
_MODEL_FILES = ("config.json", "model.safetensors", "pytorch_model.bin", "README.md")

#: Files by whose names a folder is known to hold a training run, and those that ``volo train`` writes directly into it.
_RUN_FILE = "train.json"
_RUN_FILES = (
    *(_RUN_FILE, "images.safetensors", "metrics.csv", "curves.png", "summary.png", "profile.txt", "trace.json"),
    *("results.json", "per_class.csv", "predictions.csv", "confusion.png", "reliability.png", "mistakes.png"),
    *("per_image.csv", "worst.png", *_MODEL_FILES),
)
_CHECKPOINTS = "checkpoints"

#: The mark of a folder into which a trained model was saved.
SAVED_MODEL = "save_pretrained"

#: Endings of photos, in lower case: a folder with such a file directly in it is taken for someone's images.
_PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".heic", ".avif")


def check_outputs(files: Iterable[Path], *, overwrite: bool, inputs: Iterable[str | Path] = ()) -> None:
    """Check that files can be written and that none of them destroys another one, before the work starts.

    Args:
        files: all files to write, also those beside the one that the user named.
        overwrite: allow to replace files that exist. A file that is read, a model, and a file that ``volo train`` wrote
            are never replaced.
        inputs: files and folders that are read; names that are no paths are ignored.

    Raises:
        ValueError: A file exists, cannot be written, or must not be replaced.
    """
    read = [Path(name).resolve() for name in inputs if str(name) and _exists(Path(name))]
    present = []
    for file in files:
        check_writable_file(file)
        if _exists(file):
            _check_replaceable(file, read)
            present.append(file)
    if present and not overwrite:
        more = f", and {len(present) - 1:,} more of the files to write" if len(present) > 1 else ""
        raise ValueError(f"{printable(present[0])} exists already{more}; name another --output, or add --overwrite")


def check_output_folder(
    folder: Path, names: Iterable[str], *, overwrite: bool, inputs: Iterable[str | Path] = ()
) -> None:
    """Check that files can be written into a folder, as :func:`check_outputs` does.

    A folder that holds images must be one that volo wrote, or ``overwrite`` must be set: pictures that are written into
    it would join the images.

    Args:
        folder: the folder; it need not exist.
        names: of the files, relative to the folder.
        overwrite: see :func:`check_outputs`.
        inputs: see :func:`check_outputs`.

    Raises:
        ValueError: See :func:`check_outputs`; or the folder holds someone's images.
    """
    check_writable_folder(folder)
    check_outputs([folder / name for name in names], overwrite=overwrite, inputs=inputs)
    if not overwrite and not is_own_folder(folder) and not _is_run(folder) and _holds_photos(folder):
        raise ValueError(
            f"{printable(folder)} holds images, which the written pictures would join; name a new folder for --output, "
            "or add --overwrite"
        )


@contextmanager
def own_folder(folder: Path, verb: str) -> Iterator[None]:
    """Create a folder for the files of the block, and mark it when they are written.

    A folder that holds someone's images, which only ``overwrite`` allows, is not marked, since it would not be read as
    images any more. After an error, created folders that are empty are removed.

    Args:
        folder: the folder; it may exist.
        verb: such as "eval".

    Raises:
        OSError: The folder or the mark cannot be written.
    """
    foreign = _holds_photos(folder)
    with created_folder(folder):
        yield
        if not foreign:
            mark_folder(folder, verb)


def mark_folder(folder: Path, verb: str) -> None:
    """Mark an existing folder as written by a verb such as "train", unless it is marked already.

    Raises:
        OSError: The mark cannot be written.
    """
    if not is_own_folder(folder):
        with atomic_write(folder / MARK_FILE) as temporary:
            temporary.write_text(
                f"volo {verb} wrote this folder. It is not read as images unless it is named itself.\n",
                encoding="utf-8",
            )


def is_own_folder(folder: Path, verb: str = "") -> bool:
    """Return whether the folder carries the mark of :func:`mark_folder`, of this verb if one is given."""
    mark = folder / MARK_FILE
    try:
        return mark.is_file() and (not verb or mark.read_bytes().startswith(f"volo {verb} ".encode()))
    except PermissionError:  # of the folder; whoever reads it next says so
        return False


def check_model_folder(folder: Path, names: Iterable[str]) -> None:
    """Check that a model can be saved into a folder: it is replaced only where ``save_pretrained`` saved it before.

    Args:
        folder: the folder; it need not exist.
        names: of the files to write.

    Raises:
        ValueError: A file exists that ``save_pretrained`` did not write, or the folder cannot be written.
    """
    check_writable_folder(folder)
    if not is_own_folder(folder, SAVED_MODEL):
        present = [folder / name for name in names if _exists(folder / name)]
        if present:
            raise ValueError(f"{printable(present[0])} exists already; save the model into another folder")


def _check_replaceable(file: Path, read: Iterable[Path]) -> None:
    """Check that a file that exists is not an input, part of a model, or of a training run.

    Raises:
        ValueError: It is; the message says which.
    """
    place, shown = file.resolve(), printable(file)
    for source in read:
        if _same(place, source):
            raise ValueError(f"{shown} is an input of this command and is not overwritten; name another --output")
        if place.suffix.lower() in _PHOTOS and place.is_relative_to(source) and not is_own_folder(place.parent):
            raise ValueError(f"{shown} is among the images and is not overwritten; name another --output")
    folder = place.parent
    if (place.name in _RUN_FILES and _is_run(folder)) or (folder.name == _CHECKPOINTS and _is_run(folder.parent)):
        raise ValueError(f"{shown} belongs to a training run and is not overwritten; name another --output")
    if place.name in _MODEL_FILES and (folder / "config.json").is_file():
        raise ValueError(f"{shown} belongs to a model and is not overwritten; name another --output")


def _is_run(folder: Path) -> bool:
    return (folder / _RUN_FILE).is_file()


def _holds_photos(folder: Path) -> bool:
    return folder.is_dir() and any(item.suffix.lower() in _PHOTOS for item in folder.iterdir())


def _exists(path: Path) -> bool:
    """Return whether there is something at the path, also a link to nothing."""
    try:
        return path.exists() or path.is_symlink()
    except (OSError, ValueError):  # a name that no file can have, such as the address of a model
        return False


def _same(first: Path, second: Path) -> bool:
    try:
        return first == second or first.samefile(second)
    except OSError:
        return False
