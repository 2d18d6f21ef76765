"""Optional dependencies: what to install where one is missing."""

#: top-level module → the extra that brings it.
EXTRAS = {
    "pytorch_lightning": "train",
    "timm": "train",
    "torchmetrics": "train",
    "matplotlib": "train",
    "imagehash": "data",
    "scipy": "data",
}


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """One line that names the extra to install, or None where the missing module belongs to none."""
    module = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(module)
    return None if extra is None else f"this needs {module}; install it with: pip install 'volo[{extra}]'"
