"""Entry points of ``torch.hub``: one for each model name, run from the sources in this repository.

torch.hub.load(path, "volo_d1_224", source="local", pretrained=False)
"""

import sys as _sys
from collections.abc import Callable as _Callable
from pathlib import Path as _Path
from typing import Any as _Any

_source = str(_Path(__file__).parent / "src")
if _source not in _sys.path:
    _sys.path.insert(0, _source)

import volo as _volo  # noqa: E402  # found through the path inserted above

dependencies = ["torch", "torchvision", "numpy", "PIL", "safetensors", "huggingface_hub"]


def _entrypoint(name: str) -> _Callable[..., _volo.VOLO]:
    def create(pretrained: _Any = False, **options: _Any) -> _volo.VOLO:
        return _volo.create_model(name, pretrained=pretrained, **options)

    create.__name__ = name
    create.__doc__ = f"""Create a {name}.

    Args:
        pretrained: True for the published weights, a file of weights, or False for random weights.
        **options: options of volo.create_model, for example ``num_classes`` and ``img_size``.
    """
    return create


globals().update({_name: _entrypoint(_name) for _name in _volo.list_models()})
