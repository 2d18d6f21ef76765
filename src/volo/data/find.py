"""Image files by what a person writes."""

from collections.abc import Sequence
from glob import glob
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS


def find_images(paths: Sequence[str]) -> list[Path]:
    """Files for what a person names: files themselves, folders (all images below them), and glob patterns.

    Raises:
        ValueError: a name that stands for nothing.
    """
    found: list[Path] = []
    for name in paths:
        path = Path(name)
        if path.is_dir():
            images = sorted(file for file in path.rglob("*") if _is_image(file))
        elif path.exists():
            images = [path]
        else:
            images = sorted(path for path in map(Path, glob(name, recursive=True)) if _is_image(path))  # noqa: PTH207  # absolute too
        if not images:
            what = "has no images in it" if path.is_dir() else "is neither a file, a folder nor a pattern that matches"
            raise ValueError(f"{name} {what}")
        found += images
    return found


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in IMG_EXTENSIONS
