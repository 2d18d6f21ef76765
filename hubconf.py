"""Entry points of ``torch.hub``: every model by its name, from this repository's own sources.

torch.hub.load(path, "volo_d1_224", source="local", pretrained=False)
"""

import sys as _sys
from collections.abc import Callable as _Callable
from pathlib import Path as _Path
from typing import Any as _Any

_source = str(_Path(__file__).parent / "src")
if _source not in _sys.path:
    _sys.path.insert(0, _source)

import volo as _volo  # noqa: E402  # found by the line above

dependencies = ["torch", "torchvision", "numpy", "PIL", "safetensors", "huggingface_hub"]


def _entrypoint(name: str) -> _Callable[..., _volo.VOLO]:
    def create(pretrained: _Any = False, **options: _Any) -> _volo.VOLO:
        return _volo.create_model(name, pretrained=pretrained, **options)

    create.__name__ = name
    create.__doc__ = f"""The {name}.

    Args:
        pretrained: True for its published weights, or a file of weights; False starts anew.
        **options: what volo.create_model takes, ``num_classes`` and ``img_size`` among it.
    """
    return create


globals().update({_name: _entrypoint(_name) for _name in _volo.list_models()})
