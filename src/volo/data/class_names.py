"""Class names as people give them: a file of them, or the names themselves."""

from pathlib import Path


def file_or_names(classes: str | tuple[str, ...]) -> Path | tuple[str, ...]:
    """Return the file that ``classes`` names, or the class names in it, as in ``cat,dog`` or ``[cat, dog]``.

    Raises:
        ValueError: There is no such file, and not two names or more.
    """
    if not isinstance(classes, str):
        return tuple(classes)
    if Path(classes).is_file():
        return Path(classes)
    names = tuple(name.strip() for name in classes.strip("[]").split(",") if name.strip())
    if len(names) < 2:
        raise ValueError(
            f"there is no classes file {classes}; give a text file with a class in every line, or the names "
            "themselves: cat,dog"
        )
    return names
